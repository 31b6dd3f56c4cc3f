"""The meaning of a TIFF page's samples: grey, a palette, colours, channels, transparency; and its orientation."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Kind, Pixels, Refusal
from xpcnn.data.readers.tiff_codecs import JPEG
from xpcnn.data.readers.tiff_directory import Directory
from xpcnn.data.readers.tiff_form import Form

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS: Final = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_UNREAD: Final = {
    4: "a transparency mask",
    8: "CIELab colours",
    9: "ICCLab colours",
    10: "ITULab colours",
    32803: "the raw mosaic of a camera's sensor (CFA)",
    32844: "logarithms of luminance (LogL)",
    32845: "logarithms of luminance (LogLuv)",
    34892: "the raw values of a camera's sensor (LinearRaw)",
    51177: "a depth map",
}
_SPREAD: Final = {1: 255, 2: 85, 4: 17}


def kind_of(directory: Directory, form: Form) -> tuple[Kind, bool]:
    """Return the kind of a page's samples, and whether the last is transparency; raise Refusal for unsupported ones."""
    meaning = form.photometric
    if meaning not in _COLOURS or (meaning == _YCBCR and (form.compression != JPEG or form.planar)):
        name = "YCbCr colours other than in JPEG" if meaning == _YCBCR else _UNREAD.get(meaning, "of an unknown kind")
        raise Refusal(f"its samples are {name} (PhotometricInterpretation {meaning}), which xpcnn does not read")
    extra = form.samples - _COLOURS[meaning]
    extras = directory.numbers(338)
    if extra < 0 or len(extras) > max(extra, 0):
        raise Refusal(f"it is damaged: it declares {form.samples} samples, {len(extras)} of them extra")
    alpha = len(extras) == extra > 0 and extras[-1] in (1, 2)
    further = extra - alpha
    if (further and meaning not in (_BLACK_IS_ZERO, _RGB)) or (extra and meaning == _PALETTE):
        raise Refusal(f"it has {further} more samples than its PhotometricInterpretation {meaning} explains")
    if (form.bits < 8 and form.samples > 1) or (
        meaning in (_WHITE_IS_ZERO, _PALETTE, _CMYK) and (form.dtype.kind != "u" or (form.bits > 16 and meaning))
    ):
        raise Refusal(
            f"its {form.samples} samples of {form.bits} bits ({form.dtype}) do not match its "
            f"PhotometricInterpretation {meaning}"
        )
    grey = meaning in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return "channels" if further else "grey" if grey else "rgb", alpha


def to_pixels(directory: Directory, form: Form, samples: NDArray[Any]) -> Pixels:
    """Return a page's samples as the values that they stand for, upright."""
    kind, alpha = kind_of(directory, form)
    if form.photometric == _PALETTE:
        samples = _looked_up(directory, form, samples)
    elif form.photometric == _WHITE_IS_ZERO:
        samples[:, :, 0] = 2**form.bits - 1 - samples[:, :, 0]
    elif form.photometric == _CMYK:
        samples = _from_cmyk(samples, 2**form.bits - 1, directory.number(332, 1))
    if form.bits in _SPREAD and kind == "grey":
        samples *= np.uint8(_SPREAD[form.bits])
    return Pixels(np.ascontiguousarray(_upright(_widened(samples), directory.number(274, 1))), kind, alpha)


def _looked_up(directory: Directory, form: Form, samples: NDArray[Any]) -> NDArray[np.uint8]:
    table = np.array(directory.numbers(320))
    if table.size != 3 * 2**form.bits:
        raise Refusal(f"it is damaged: its palette has {table.size} entries where {3 * 2**form.bits} belong")
    if table.max() > 255:  # some programs write 8 bits instead of 16
        table >>= 8
    colours: NDArray[np.uint8] = np.ascontiguousarray(table.astype(np.uint8).reshape(3, -1).T)[samples[:, :, 0]]
    return colours


def _from_cmyk(samples: NDArray[Any], most: int, inks: int) -> NDArray[Any]:
    if inks != 1:
        raise Refusal(f"its inks are not cyan, magenta, yellow and black (InkSet {inks})")
    light = np.uint32(most) - samples[:, :, 3].astype(np.uint32)
    values = np.empty((*samples.shape[:2], samples.shape[2] - 1), samples.dtype)
    for colour in range(3):
        # 65535 times 65535 plus half of it is just below 2**32.
        values[:, :, colour] = ((most - samples[:, :, colour].astype(np.uint32)) * light + most // 2) // most
    values[:, :, 3:] = samples[:, :, 4:]
    return values


def _widened(samples: NDArray[Any]) -> NDArray[Any]:
    """Return values of a dtype that Pixels supports; raise Refusal for NaN or infinite values."""
    if samples.dtype == np.int8:
        return samples.astype(np.int16)
    if samples.dtype.kind != "f":
        return samples
    if not np.isfinite(samples).all():
        raise Refusal("some of its values are NaN or infinite; replace them first")
    with np.errstate(over="ignore"):
        values = samples.astype(np.float32)
    if not np.isfinite(values).all():
        raise Refusal("some of its 64-bit values do not fit into 32 bits")
    return values


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror by the tag Orientation; undefined numbers are ignored."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
