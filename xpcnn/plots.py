"""Plots of data, training and what a network has learned, as matplotlib figures: ``figure.savefig(path)``.

They need no display. matplotlib comes with ``pip install ".[plot]"``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn.extras import install_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

#: The default number of images to draw: more can't be distinguished on a page.
MOST_PICTURES = 64
#: With more classes than this, a confusion matrix has only some tick labels and no counts.
MOST_CLASSES_WRITTEN = 20
_TRAINING, _VALIDATION, _MEASURED, _WRONG = "#1f77b4", "#d95f02", "#1b9e77", "#c1121f"


def curves(
    history: Mapping[str, Sequence[float]], steps: Sequence[float] = (), measured: Sequence[Mapping[str, float]] = ()
) -> Figure:
    """Plot loss and accuracy by epoch, in front of the loss of every step if given.

    history: {"loss": […], "val_loss": […], …}, as returned by ``fit``; missing quantities are omitted. steps: the loss
    of each step. measured: the results of :class:`~xpcnn.training.callbacks.EvaluateEvery` on other images. Raises
    ValueError for a history without epochs.

    >>> figure = curves({"loss": [1.2, 0.8], "val_loss": [1.1, 0.9], "accuracy": [0.5, 0.7]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy']
    """
    names = [name for name in ("loss", "accuracy") if len(history.get(name, ()))]
    if not names:
        raise ValueError(f"There are no epochs to draw. Received: {sorted(history)}.")
    figure = _figure(5.2 * len(names), 3.6)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        epochs = np.arange(1, len(history[name]) + 1)
        if name == "loss" and len(steps):
            places = np.arange(1, len(steps) + 1) * (len(epochs) / len(steps))
            axes.plot(places, steps, color=_TRAINING, alpha=0.25, linewidth=0.8, label="each step")
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, history[name], color=_TRAINING, marker=marker, markersize=4, label="training")
        if len(history.get(f"val_{name}", ())):
            axes.plot(
                epochs, history[f"val_{name}"], color=_VALIDATION, marker=marker, markersize=4, label="validation"
            )
        if len(measured) and len(steps):
            places = np.array([result["step"] for result in measured]) * (len(epochs) / len(steps))
            axes.plot(places, [result[name] for result in measured], color=_MEASURED, linewidth=1.2, label="measured")
        axes.set(xlabel="epoch", ylabel=name)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    return figure


def samples(images: Any, titles: Sequence[str] = (), colors: Sequence[str] = ()) -> Figure:
    """Draw the first :data:`MOST_PICTURES` images in a grid.

    images: (n, channels, height, width) with 1 or 3 channels, bytes or floats of any range. titles, colors: one per
    image. Raises ValueError if there are no images, or for another number of channels.

    >>> len(samples(np.zeros((5, 1, 8, 8)), titles=list("abcde")).axes)
    5
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"Images to draw must have the shape (n, 1 or 3, height, width). Received: {images.shape}.")
    images = images[:MOST_PICTURES]
    columns = min(len(images), 8 if len(images) > 20 else 5)
    figure, grid = _grid(len(images), columns, 1.35, 1.35 + (0.25 if len(titles) else 0.0))
    for index, axes in enumerate(grid):
        _show(axes, images[index])
        if len(titles):
            axes.set_title(titles[index], fontsize=8, color=colors[index] if len(colors) else "black")
    return figure


def filters(weight: Any) -> Figure:
    """Draw a convolution's filters, blue below zero and red above, with a row per filter and a column per channel.

    weight: (filters, channels, rows, columns), such as ``model.parameters["conv2d_1.weight"]``. At most the first 32
    filters and the first 16 channels are drawn; filters of one channel are arranged in a grid. Raises ValueError for
    another shape.

    >>> len(filters(np.zeros((4, 1, 3, 3))).axes)
    4
    """
    weight = _on_host(weight)
    if weight.ndim != 4:
        raise ValueError(
            f"A convolution's weight must have the shape (filters, channels, rows, columns). Received: {weight.shape}."
        )
    weight = weight[:32, :16]
    count, channels = weight.shape[:2]
    most = float(np.abs(weight).max()) or 1.0
    columns = channels if channels > 1 else min(count, 8)
    figure, grid = _grid(count * channels, columns, 0.9, 0.9)
    for index, axes in enumerate(grid):
        filter_, channel = divmod(index, channels)
        axes.imshow(weight[filter_, channel], cmap="RdBu_r", vmin=-most, vmax=most)
        if channels == 1:
            axes.set_title(str(filter_ + 1), fontsize=8)
        elif channel == 0:
            axes.set_ylabel(str(filter_ + 1), fontsize=8, rotation=0, ha="right", va="center")
        if channels > 1 and filter_ == 0:
            axes.set_title(str(channel + 1), fontsize=8)
    if channels > 1:
        figure.supxlabel("input channel", fontsize=9)
        figure.supylabel("filter", fontsize=9)
    return figure


def weights(weight: Any) -> Figure:
    """Draw the weight of a dense layer as an image, blue below zero and red above.

    weight: (units, features). Raises ValueError for another shape.

    >>> weights(np.eye(3)).axes[0].get_ylabel()
    'unit'
    """
    weight = _on_host(weight)
    if weight.ndim != 2:
        raise ValueError(f"A dense layer's weight must have the shape (units, features). Received: {weight.shape}.")
    most = float(np.abs(weight).max()) or 1.0
    figure = _figure(7.0, min(6.0, 1.8 + 0.12 * len(weight)))
    axes = figure.subplots()
    image = axes.imshow(weight, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axes.set(xlabel="feature", ylabel="unit")
    axes.locator_params(axis="y", integer=True)
    figure.colorbar(image, ax=axes, label="weight")
    return figure


def feature_maps(activations: Mapping[str, Any], image: int = 0) -> Figure:
    """Draw every layer's output for one image: a row per layer, a map per channel, flat outputs as a strip.

    activations: as returned by ``model.activations(x)``, {"conv2d_1": (n, channels, rows, columns), …}. image: the
    index of the image. At most the first 10 channels are drawn. Raises ValueError if there are no activations.

    >>> len(feature_maps({"conv2d_1": np.zeros((1, 3, 4, 4)), "dense_1": np.zeros((1, 5))}).axes) >= 4
    True
    """
    outputs = {name: _on_host(output)[image] for name, output in activations.items()}
    if not outputs:
        raise ValueError("There are no activations to draw. Use model.activations(x).")
    columns = 10
    heights = [1.0 if output.ndim == 3 else 0.45 for output in outputs.values()]
    figure = _figure(9.0, 0.85 * sum(heights) + 0.3)
    cells = figure.add_gridspec(len(outputs), columns + 1, width_ratios=[1.4] + [1.0] * columns, height_ratios=heights)
    for row, (name, output) in enumerate(outputs.items()):
        label = figure.add_subplot(cells[row, 0])
        label.text(1.0, 0.5, name, ha="right", va="center", fontsize=9)
        images = list(output[:columns]) if output.ndim == 3 else [output.reshape(1, -1)]
        places = [cells[row, 1 + k] for k in range(len(images))] if output.ndim == 3 else [cells[row, 1:]]
        drawn = [figure.add_subplot(place) for place in places]
        for axes, picture in zip(drawn, images, strict=True):
            axes.imshow(picture, cmap="magma", interpolation="nearest", aspect="auto" if output.ndim == 1 else "equal")
        for axes in (label, *drawn):
            axes.set_axis_off()
    return figure


def confusion(matrix: Any, classes: Sequence[str] = ()) -> Figure:
    """Plot a confusion matrix: the fraction of each true class (row) that was predicted as each class (column).

    matrix: (classes, classes) counts, rows are true classes. classes: their names, by default their indices. Counts are
    shown for up to :data:`MOST_CLASSES_WRITTEN` classes. Raises ValueError for another shape or number of names.

    >>> confusion([[5, 1], [0, 4]], ["cat", "dog"]).axes[0].get_xlabel()
    'predicted'
    """
    matrix = np.asarray(matrix)
    count = len(matrix)
    if matrix.shape != (count, count) or count == 0 or (len(classes) and len(classes) != count):
        raise ValueError(
            "A confusion matrix must be square, with one name per class. "
            f"Received: a matrix of shape {matrix.shape} and {len(classes)} names."
        )
    names = list(classes) or [str(number) for number in range(count)]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(9.0, 2.6 + 0.42 * count)
    figure = _figure(side + 1.0, side)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    every = math.ceil(count / 25)
    ticks = np.arange(0, count, every)
    axes.set_xticks(ticks, [names[tick] for tick in ticks], rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(ticks, [names[tick] for tick in ticks], fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    if count <= MOST_CLASSES_WRITTEN:
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                color = "white" if share[row, column] > 0.55 else "black"
                size = 9 if count <= 12 else 7
                axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=color, fontsize=size)
    figure.colorbar(image, ax=axes, label="fraction of the true class", fraction=0.046)
    return figure


def mistakes(
    images: Any, labels: Any, probabilities: Any, classes: Sequence[str] = (), most: int = 20
) -> Figure | None:
    """Draw the worst mistakes, the most confident first, with their true and predicted classes.

    images: (n, channels, height, width); labels: (n,); probabilities: (n, classes). Returns None if all predictions are
    right. Raises ValueError if their lengths differ.

    >>> mistakes(np.zeros((2, 1, 4, 4)), [0, 1], [[0.9, 0.1], [0.2, 0.8]]) is None
    True
    """
    images, labels, probabilities = np.asarray(images), np.asarray(labels), np.asarray(probabilities)
    if not len(images) == len(labels) == len(probabilities):
        raise ValueError(
            "Each image needs one label and one row of probabilities. "
            f"Received: {len(images)} images, {len(labels)} labels, {len(probabilities)} rows."
        )
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    if len(wrong) == 0:
        return None
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:most]
    names = list(classes) or [str(number) for number in range(probabilities.shape[1])]
    titles = [
        f"{names[labels[row]]}\nas {names[predicted[row]]} {probabilities[row, predicted[row]]:.0%}" for row in worst
    ]
    return samples(images[worst], titles, [_WRONG] * len(worst))


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure without a window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError(f"Plots need matplotlib ({error}). Run `{install_line('plot')}`.") from error
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08), dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _grid(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure and ``count`` axes without ticks, in rows of ``columns``, each of the given size in inches."""
    rows = math.ceil(count / columns)
    figure = _figure(max(2.5, columns * width + 0.4), rows * height + 0.4)
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in all_axes:
        axes.set_xticks([])
        axes.set_yticks([])
    for axes in all_axes[count:]:
        axes.remove()
    return figure, all_axes[:count]


def _show(axes: Axes, image: Array) -> None:
    """Draw an image (channels, height, width) of any range."""
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = (image - low) / ((high - low) or 1.0)
    axes.imshow(image[0] if len(image) == 1 else image.transpose(1, 2, 0), cmap="gray", interpolation="nearest")


def _on_host(array: Any) -> Array:
    from xpcnn.backend import to_host

    return to_host(array) if hasattr(array, "get") else np.asarray(array)
