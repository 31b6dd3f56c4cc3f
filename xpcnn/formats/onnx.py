"""Models as ONNX files, which onnxruntime and other runtimes run without xpcnn.

An exported model takes raw pixels: the normalisation of images is part of the graph, as is the temperature of
calibrated probabilities. Install onnx with ``pip install ".[onnx]"``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn import calibration, files
from xpcnn.data import Decoding, Preprocessing
from xpcnn.extras import install_line
from xpcnn.formats.onnx_graph import Graph
from xpcnn.formats.onnx_layers import add_layer
from xpcnn.layers import Layer
from xpcnn.layers.activation import applies
from xpcnn.model import Sequential
from xpcnn.model.state import check_finite, check_names
from xpcnn.program.program import INPUT
from xpcnn.version import __version__

HostArray = np.ndarray[Any, Any]

#: Names of the input and the output.
IMAGES, PROBABILITIES = "images", "probabilities"
#: The version of the operators, and of the file format released with it; every later runtime reads both.
OPSET, IR_VERSION = 17, 8
#: The most bytes of weights: like every protobuf message, an ONNX file is limited to 2 GiB.
MOST_BYTES = 2**31 - 2**24
#: The axes of one image's values.
_SAMPLE = (1, 2, 3)
_FLOAT32 = np.finfo(np.float32)


def export(model: Sequential, path: files.PathLike) -> None:
    """Write a model to an ONNX file (opset 17), atomically, replacing an existing file.

    The input ``images`` is float32 (n, channels, height, width) with any n. If the model has a preprocessing, it takes
    raw pixels, from 0 to 255 or, with more than 8 bits, as stored in the files. The output ``probabilities``, float32
    (n, classes), is what :meth:`~xpcnn.Sequential.predict` returns. The metadata contain ``class_names``,
    ``thresholds``, if an image may have several labels, and ``images``, which describes how to turn files into such
    arrays, all as JSON.

    Raises ImportError if onnx is not installed, ValueError for a custom layer, for weights that are NaN, infinite or
    too large for an ONNX file, and for a preprocessing or class names that do not fit the network, and OSError if the
    path cannot be written.
    """
    try:
        content = _model(model).SerializeToString()
    except ImportError as error:
        raise ImportError(f"ONNX files need onnx ({error}). Run `{install_line('onnx')}`.") from error
    with files.atomic_write(path) as file:
        file.write(content)


def _model(model: Sequential) -> Any:
    """Return a model as an ONNX message."""
    from onnx import TensorProto, helper

    network, values = model.network, model.network.host_values()
    _check(model, values)
    graph = Graph()
    _add_nodes(graph, model, values)

    def described(name: str, shape: tuple[int, ...], text: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", *shape), text)

    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "xpcnn",
            [described(IMAGES, network.input_shape, _about_images(model.preprocessing))],
            [described(PROBABILITIES, network.output_shape, _about_outputs(model))],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpcnn",
        producer_version=__version__,
    )
    helper.set_model_props(made, _metadata(model))
    return made


def _check(model: Sequential, values: Mapping[str, HostArray]) -> None:
    """Raise ValueError for a model whose file would be wrong or could not be written."""
    check_finite(values)
    check_names(model.class_names, model.network.output_shape)
    size = sum(value.nbytes for value in values.values())
    if size > MOST_BYTES:
        raise ValueError(f"An ONNX file can hold at most {MOST_BYTES:,} bytes of weights. Received: {size:,}.")
    if model.preprocessing is not None:
        decoding = model.preprocessing.decoding
        made, taken = (decoding.channels, decoding.height, decoding.width), model.network.input_shape
        if made != taken:
            raise ValueError(
                f"The model's layers take images of shape {taken}, but its preprocessing produces {made}. "
                "Set a preprocessing that fits."
            )


def _add_nodes(graph: Graph, model: Sequential, values: Mapping[str, HostArray]) -> None:
    """Add the nodes from the images to the probabilities."""
    x = IMAGES if model.preprocessing is None else _normalized(graph, IMAGES, model.preprocessing)
    *others, last = model.network.nodes
    names = {INPUT: x}
    for node in others:
        names[node.output] = add_layer(graph, node.layer, [names[slot] for slot in node.inputs], values)
    if model.temperature == 1:
        add_layer(graph, last.layer, [names[slot] for slot in last.inputs], values)
    else:
        _calibrated(graph, last.layer, [names[slot] for slot in last.inputs], values, model.temperature)
    if not graph.nodes:
        graph.add("Identity", x)
    graph.nodes[-1].output[0] = PROBABILITIES


def _normalized(graph: Graph, x: str, preprocessing: Preprocessing) -> str:
    """Add the nodes for :meth:`xpcnn.data.Preprocessing.normalize`."""
    graph.layer = "preprocessing"
    if preprocessing.decoding.ranges is not None:
        x = _mapped_to_bytes(graph, x, preprocessing.decoding.ranges)
    if preprocessing.per_image:
        return _standardized_each(graph, x)
    mean, std = (
        graph.constant(f"preprocessing/{name}", np.reshape(numbers, (-1, 1, 1)))
        for name, numbers in (("mean", preprocessing.mean), ("std", preprocessing.std))
    )
    return graph.add("Div", graph.add("Sub", x, mean), std)


def _mapped_to_bytes(graph: Graph, x: str, ranges: Sequence[tuple[float, float]]) -> str:
    """Add the nodes for :func:`xpcnn.data.picture.map_to_bytes`, for values of more than 8 bits."""
    low, high = np.array(ranges, dtype=np.float64).T
    names = ("low", "levels", "black", "white")
    numbers = (np.reshape(low, (-1, 1, 1)), np.reshape(255 / (high - low), (-1, 1, 1)), 0, 255)
    least, levels, black, white = (
        graph.constant(f"preprocessing/{name}", value) for name, value in zip(names, numbers, strict=True)
    )
    scaled = graph.add("Round", graph.add("Mul", graph.add("Sub", x, least), levels))
    return graph.add("Clip", scaled, black, white)


def _standardized_each(graph: Graph, x: str) -> str:
    """Add the standardisation of each image over all its values; a constant image becomes zeros.

    The mean is computed from the differences to the minimum, which are exact for pixels and 0 in a constant image.
    """

    def average(values: str) -> str:
        return graph.add("ReduceMean", values, axes=_SAMPLE, keepdims=1)

    least = graph.add("ReduceMin", x, axes=_SAMPLE, keepdims=1)
    mean = graph.add("Add", least, average(graph.add("Sub", x, least)))
    centred = graph.add("Sub", x, mean)
    deviation = graph.add("Sqrt", average(graph.add("Mul", centred, centred)))
    epsilon, tiny, one = (
        graph.constant(f"preprocessing/{name}", value)
        for name, value in (("epsilon", _FLOAT32.eps), ("tiny", _FLOAT32.tiny), ("one", 1))
    )
    rounding = graph.add("Add", graph.add("Mul", graph.add("Abs", mean), epsilon), tiny)
    return graph.add("Div", centred, graph.add("Where", graph.add("Greater", deviation, rounding), deviation, one))


def _calibrated(
    graph: Graph, last: Layer, inputs: Sequence[str], values: Mapping[str, HostArray], temperature: float
) -> str:
    """Add the last layer, dividing its logits by the temperature (:mod:`xpcnn.calibration`)."""
    one_column = last.output_shape[0] == 1
    independent = applies(last, "sigmoid") and not one_column
    if not independent and not applies(last, "sigmoid" if one_column else "softmax"):
        return _softened(graph, add_layer(graph, last, inputs, values), temperature, one_column)
    (x,) = inputs
    graph.layer = "calibration"
    if independent:  # log p directly, since the Sigmoid of runtimes loses all precision near 0
        log_p = graph.add("Neg", graph.add("Softplus", graph.add("Neg", x)))
        x = graph.add("Max", log_p, graph.constant("calibration/least", np.log(calibration.ALMOST_ZERO)))
    x = graph.add("Div", x, graph.constant("calibration/temperature", temperature))
    return graph.add("Softmax", x, axis=1) if independent else add_layer(graph, last, [x], values)


def _softened(graph: Graph, x: str, temperature: float, one_column: bool) -> str:
    """Add the nodes for :func:`xpcnn.calibration.soften`, also in float64, if the logits are not available."""
    graph.layer = "calibration"

    def number(name: str, value: float) -> str:
        return graph.constant(f"calibration/{name}", value, np.float64)

    p = graph.cast(x, np.float64)
    if one_column:
        p = graph.add("Concat", graph.add("Sub", number("one", 1), p), p, axis=1)
    logits = graph.add("Log", graph.add("Max", p, number("least", calibration.ALMOST_ZERO)))
    p = graph.add("Softmax", graph.add("Div", logits, number("temperature", temperature)), axis=1)
    if one_column:
        p = graph.add("Gather", p, graph.constant("calibration/second", [1], np.int64), axis=1)
    return graph.cast(p, np.float32)


def _metadata(model: Sequential) -> dict[str, str]:
    """Return the metadata that a user of the file needs to prepare images and interpret outputs."""
    metadata = {}
    if model.class_names is not None:
        metadata["class_names"] = json.dumps(model.class_names)
    if model.thresholds is not None:
        metadata["thresholds"] = json.dumps(model.thresholds)
    if model.preprocessing is not None:
        decoding = model.preprocessing.decoding
        about = {
            **decoding.to_json(),
            "shrinking": "area",
            "enlarging": "linear",
            "colours": _colours(decoding),
            "values": [0, 255] if decoding.ranges is None else [list(pair) for pair in decoding.ranges],
            "normalization": "in the graph",
        }
        metadata["images"] = json.dumps(about)
    return metadata


def _about_images(preprocessing: Preprocessing | None) -> str:
    """Return the description of the input, apart from its shape."""
    if preprocessing is None:
        return "Images (n, channels, height, width), normalised as in training."
    decoding = preprocessing.decoding
    colours = {"RGB": "red, green, blue"}.get(_colours(decoding), _colours(decoding))
    values = "from 0 to 255" if decoding.ranges is None else "as stored in the files"
    shaped = {"stretch": "stretched", "crop": "cropped and resized", "pad": "padded and resized"}[decoding.resizing]
    return f"Images (n, channels, height, width), {colours}, values {values}, {shaped} to this size."


def _colours(decoding: Decoding) -> str:
    if decoding.as_channels:
        return "channels as they are"
    return "RGB" if decoding.channels == 3 else "grey"


def _about_outputs(model: Sequential) -> str:
    """Return the description of the output, apart from its shape."""
    if model.network.output_shape == (1,):
        return "One column: the probability of the second of two classes."
    if model.thresholds is not None:
        return "One column per label, which an image has above the threshold that the metadata give."
    return "One column per class."
