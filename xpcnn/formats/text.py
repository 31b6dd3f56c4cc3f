"""Eight text files of numbers, one for each array of a network with two convolutions and two dense layers.

``filter1.txt`` (filters, 1, rows, columns), ``filter2.txt``, ``weight3.txt`` (units, features), ``weight4.txt`` and
``bias1.txt`` to ``bias4.txt``, each in row-major order, as written by NumPy's ``savetxt``. The network takes raw grey
pixels from 0 to 255.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import files, presets
from xpcnn.backend import ArrayModule
from xpcnn.data import Decoding, Preprocessing
from xpcnn.layers import Conv2D, Dense, Layer
from xpcnn.model import Sequential
from xpcnn.parameters import Declaration, Shape

HostArray = np.ndarray[Any, Any]

WEIGHTS = ("filter1.txt", "filter2.txt", "weight3.txt", "weight4.txt")
BIASES = ("bias1.txt", "bias2.txt", "bias3.txt", "bias4.txt")
#: Larger files are refused: a network of this kind has at most a few million weights.
MOST_BYTES = 2**28
#: How many characters are read at once.
_CHARACTERS = 2**20


def load(folder: files.PathLike, input_shape: Shape = (1, 50, 50), xp: ArrayModule | str | None = None) -> Sequential:
    """Load a model from eight text files, with as many classes as ``bias4.txt`` has values.

    The number of features in ``weight3.txt`` determines whether the first convolution is pooled (``blood``) or not
    (``blood-unpooled``). The model takes pixels from 0 to 255. Raises FileNotFoundError if a file is missing, and
    ValueError if one contains anything but numbers, or not as many as its layer takes.
    """
    place = Path(folder)
    values = {name: _read(place / name) for name in (*WEIGHTS, *BIASES)}
    units, classes = len(values["bias3.txt"]), len(values["bias4.txt"])
    tried = []
    for preset in (presets.blood, presets.blood_unpooled):
        layers = _sized(preset(input_shape, classes), len(values["bias1.txt"]), len(values["bias2.txt"]), units)
        size = _declared(layers, input_shape)[2].size
        if size == len(values["weight3.txt"]):
            break
        tried.append(f"{size:,}")
    else:
        raise ValueError(
            f"{str(place / 'weight3.txt')!r} contains {len(values['weight3.txt']):,} numbers, but a network of these "
            f"sizes takes {' or, if the first convolution is not pooled, '.join(tried)}."
        )
    for file, declaration in zip(WEIGHTS, _declared(layers, input_shape), strict=True):
        if values[file].size != declaration.size:
            raise ValueError(
                f"{str(place / file)!r} contains {values[file].size:,} numbers, but the network takes "
                f"{declaration.size:,}: {' x '.join(map(str, declaration.shape))}."
            )
    # The network's memory is allocated only after the files are known to contain as many numbers.
    model = Sequential(layers, input_shape, xp)
    model.set_weights({name: values[_file_of(name)].reshape(array.shape) for name, array in model.parameters.items()})
    channels, height, width = input_shape
    model.preprocessing = Preprocessing(Decoding(height, width, channels), (0.0,) * channels, (1.0,) * channels)
    return model


def save(model: Sequential, folder: files.PathLike) -> None:
    """Write a model of two convolutions and two dense layers to eight text files in a folder, created if missing.

    The normalisation of the model's images is folded into the first convolution, so that the saved network takes pixels
    from 0 to 255. Values are written without loss of precision. Raises ValueError for a model with other layers or for
    images that are not grey, and if the normalisation cannot be folded into the first convolution because it is done
    per image or before padding.
    """
    layers = [layer for layer in model.layers if isinstance(layer, Conv2D | Dense)]
    if [type(layer) for layer in layers] != [Conv2D, Conv2D, Dense, Dense] or not all(x.use_bias for x in layers):
        raise ValueError(
            "The text format requires two convolutions and two dense layers, each with a bias. "
            f"Received: {', '.join(type(layer).__name__ for layer in model.layers)}."
        )
    if model.network.input_shape[0] != 1:
        raise ValueError(f"The text format requires grey images. Received: {model.network.input_shape[0]} channels.")
    weights = {name: np.asarray(value, np.float64) for name, value in model.get_weights().items()}
    arrays = [weights[f"{layer.name}.{kind}"] for kind in ("weight", "bias") for layer in layers]
    if model.preprocessing is not None:
        arrays[0], arrays[4] = _of_pixels(arrays[0], arrays[4], layers[0], model.preprocessing)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, array in zip((*WEIGHTS, *BIASES), arrays, strict=True):
        lines = (" ".join(repr(float(value)) for value in row) for row in array.reshape(len(array), -1))
        files.write_text(place / name, "".join(f"{line}\n" for line in lines))


def _of_pixels(
    weight: HostArray, bias: HostArray, layer: Layer, preprocessing: Preprocessing
) -> tuple[HostArray, HostArray]:
    """Return the first filters and biases for raw pixels: w (x - mean) / std = (w / std) x - …"""
    (mean,), (std,) = preprocessing.mean, preprocessing.std
    if preprocessing.per_image or (mean != 0 and getattr(layer, "window").is_padded):  # noqa: B009
        raise ValueError(
            "The normalisation of this model's images cannot be folded into its first convolution: "
            f"{'each image has its own' if preprocessing.per_image else 'zero padding follows it'}."
        )
    scaled = weight / std
    return scaled, bias - scaled.sum(axis=(1, 2, 3)) * mean


def _sized(layers: list[Layer], filters1: int, filters2: int, units: int) -> list[Layer]:
    """Return a preset's layers, with as many filters and units as the files have biases."""
    first, second = (layer for layer in layers if isinstance(layer, Conv2D))
    first.filters, second.filters = filters1, filters2
    next(layer for layer in layers if isinstance(layer, Dense)).units = units
    return layers


def _declared(layers: list[Layer], input_shape: Shape) -> list[Declaration]:
    """Return the weights that layers declare for an input shape, without biases."""
    shape, weights = input_shape, list[Declaration]()
    for layer in layers:
        shape = layer.connect(shape)
        weights += layer.declarations[:1]
    return weights


def _file_of(name: str) -> str:
    """Return the file of a parameter, such as filter1.txt for conv2d_1.weight and bias4.txt for dense_2.bias."""
    kind, number, part = re.split(r"[_.]", name)[-3:]
    place = int(number) + (2 if kind == "dense" else 0)
    return (WEIGHTS if part == "weight" else BIASES)[place - 1]


def _read(path: Path) -> HostArray:
    """Return the numbers in a text file, separated by spaces, commas or newlines, as float64 (count,)."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{str(path)!r} is larger than {MOST_BYTES:,} bytes, so it is not a file of this format.")
    parts, count = [], 0
    with path.open(encoding="utf-8", errors="replace") as file:
        begun = ""
        while text := file.read(_CHARACTERS):  # in parts: the words take seven times the memory of their numbers
            words = (begun + text).replace(",", " ").split()
            begun = words.pop() if words and not text[-1].isspace() and text[-1] != "," else ""
            parts.append(np.array([_finite(word, path, place) for place, word in enumerate(words, count + 1)]))
            count += len(words)
        parts.append(np.array([_finite(word, path, count + 1) for word in begun.split()]))
    numbers = np.concatenate(parts)
    if len(numbers) == 0:
        raise ValueError(f"{str(path)!r} contains no numbers.")
    return numbers


def _finite(word: str, path: Path, place: int) -> float:
    """Return a word as a number; raise ValueError if it is not one that is finite in float32."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{str(path)!r} contains {word[:20]!r} as number {place:,}, which must be finite in float32.")
    return number
