"""Models as web pages: one HTML file that classifies pictures in a browser, offline and without a server."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from string import Template

from xpcnn import files
from xpcnn.data.decoding import LATEST, Decoding
from xpcnn.formats.html.program import Arrays, Fields, describe
from xpcnn.model import Sequential
from xpcnn.model.state import check_finite, check_names
from xpcnn.report.page import counted, name, text

_SCRIPTS = ("network", "layers", "images", "png", "decode", "worker", "page", "main")
#: More classes are not listed in the page's first lines.
_MOST_NAMES = 12


def export(model: Sequential, path: files.PathLike) -> None:
    """Write a model as a self-contained web page, atomically, replacing an existing file.

    The page takes pictures in a browser, also from a phone's camera, and shows for each the label, the calibrated
    probability that :meth:`~xpcnn.Sequential.predict_images` gives, within rounding, and where the network looked. It
    holds the weights, in 16 bits, and sends no request.

    Raises ValueError for a model without preprocessing, one that takes other pictures than 8-bit grey or colour, a
    custom layer, and weights that are NaN, infinite or too large, and OSError if the path cannot be written.
    """
    content = _page(model, Path(path).stem)
    with files.atomic_write(path) as file:
        file.write(content.encode())


def _page(model: Sequential, title: str) -> str:
    described = _model(model)
    source = "\n".join(["", '"use strict";', *(_file(f"{name}.js") for name in _SCRIPTS)])
    style = _file("style.css")
    return Template(_file("page.html")).substitute(
        policy=(
            f"default-src 'none'; script-src {_digest(source)}; style-src {_digest(style)}; img-src blob: data:; "
            "worker-src blob:; base-uri 'none'; form-action 'none'"
        ),
        title=text(title),
        about=_about(described["names"]),
        style=style,
        # so that no name ends the element
        model=json.dumps(described, separators=(",", ":")).replace("<", "\\u003c"),
        script=source,
    )


def _file(name: str) -> str:
    return resources.files("xpcnn.formats.html").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _about(names: list[str]) -> str:
    listed = ", ".join(map(name, names[:_MOST_NAMES]))
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"Sorts pictures into {counted(len(names), 'class', 'classes')}: {listed}{more}."


def _model(model: Sequential) -> Fields:
    """Return what the page's script reads."""
    network, preprocessing = model.network, model.preprocessing
    check_finite(network.host_values())
    check_names(model.class_names, network.output_shape)
    if preprocessing is None or len(network.output_shape) != 1:
        raise ValueError(
            "A page needs a model that classifies pictures. Received one with "
            f"{'no preprocessing' if preprocessing is None else f'outputs {network.output_shape}'}. Use a model that "
            "`xpcnn train` wrote, or set model.preprocessing."
        )
    if model.thresholds is not None:
        raise ValueError(
            "A page names one class of a picture, and this model gives several labels. Use `xpcnn predict`."
        )
    decoding = preprocessing.decoding
    _check_decoding(decoding, network.input_shape)
    arrays = Arrays()
    program = describe(model, arrays)
    weights, numbers = (base64.b64encode(content).decode() for content in arrays.content())
    count = max(2, network.output_shape[0])
    return {
        "names": list(model.class_names or map(str, range(count))),
        "spec": {
            **program,
            "decoding": {field: getattr(decoding, field) for field in ("height", "width", "channels", "resizing")},
            "normalization": {
                "mean": preprocessing.mean,
                "std": preprocessing.std,
                "perImage": preprocessing.per_image,
            },
        },
        "weights": weights,
        "numbers": numbers,
    }


def _check_decoding(decoding: Decoding, taken: tuple[int, ...]) -> None:
    """Raise ValueError unless the page can make the model's images."""
    if decoding.shape != taken:
        raise ValueError(
            f"The model's layers take images of shape {taken}, but its preprocessing produces {decoding.shape}. "
            "Set a preprocessing that fits."
        )
    others = {
        "channels as they are in the files": decoding.as_channels,
        "a range of values of more than 8 bits": decoding.ranges is not None,
        f"page {decoding.page} of a stack": decoding.page != 0,
        "the decoding of version 0.1.0": decoding.generation != LATEST,
    }
    for what, there in others.items():
        if there:
            raise ValueError(
                f"A page reads 8-bit pictures, grey or in colour, and this model takes {what}. Use `xpcnn predict`, or "
                "train one on such pictures."
            )
