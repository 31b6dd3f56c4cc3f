"""Portable maps, whose maximum OpenCV ignores: integer PNM and PAM, and floating-point PFM."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.opencv import MAX_PIXELS
from xpcnn.data.pixels import Pixels, Refusal
from xpcnn.data.readers.containers import Content, damaged

_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P([1-6])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})" + rb"(?:" + _SPACE + rb"(\d{1,9}))?")
_PFM = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]{1,32})\s")
_PAM = re.compile(rb"P7\n((?:[^\n]*\n){1,32}?)ENDHDR\n")
_HEAD = 4096


def read_pfm(content: Content) -> Pixels:
    """Read a map of floats unscaled, whatever its scale factor."""
    header = _PFM.match(content[:_HEAD].tobytes())
    if header is None:
        raise damaged("pfm")
    letter, width, height, scale = header.groups()
    samples = 3 if letter == b"F" else 1
    order = "<" if scale.startswith(b"-") else ">"
    values = _samples(content, header.end(), (int(height), int(width), samples), f"{order}f4", "pfm")
    return Pixels(values[::-1].astype(np.float32), "rgb" if samples == 3 else "grey")


def read_binary_pnm(content: Content, *, channels_as_they_are: bool = False) -> Pixels:
    """Read a binary PGM, PPM or PAM."""
    head = content[:_HEAD].tobytes()
    if head.startswith(b"P7"):
        start, height, width, samples, maximum = _pam(head)
    else:
        header = _PNM.match(head)
        if header is None or header[4] is None:
            raise damaged("pnm")
        start, height, width, maximum = header.end() + 1, int(header[3]), int(header[2]), int(header[4])
        samples = 3 if header[1] == b"6" else 1
    if not 0 < maximum < 2**16:
        raise damaged("pnm")
    form = "u1" if maximum < 256 else ">u2"
    values = scaled_to_maximum(_samples(content, start, (height, width, samples), form, "pnm"), maximum)
    alpha = samples in (2, 4)
    if alpha and not channels_as_they_are:
        values, alpha = values[:, :, :-1], False
    return Pixels(values, "rgb" if samples > 2 else "grey", alpha)


def with_the_largest_maximum(content: Content) -> tuple[Content, int]:
    """Return a text map with its maximum set to 65535, so that OpenCV does not scale it, and the original maximum."""
    header = _PNM.match(content[:_HEAD].tobytes())
    if header is None or header[4] is None or not 0 < int(header[4]) < 2**16:
        raise damaged("pnm")
    start, end = header.span(4)
    return np.concatenate([content[:start], np.frombuffer(b"65535", np.uint8), content[end:]]), int(header[4])


def scaled_to_maximum(values: NDArray[Any], maximum: int) -> NDArray[Any]:
    """Return values up to a maximum: below 256 scaled to 0..255 as uint8, else unscaled as uint16."""
    if values.size and values.max() > maximum:
        raise Refusal(f"it is a PNM with values above its maximum of {maximum}")
    if maximum > 255:
        return values.astype(np.uint16)
    table = np.rint(np.arange(maximum + 1) * (255 / maximum)).astype(np.uint8)
    return table[values] if maximum < 255 else values.astype(np.uint8)


def _pam(head: bytes) -> tuple[int, int, int, int, int]:
    """Return the offset of the samples, the height, the width, the samples per pixel, and the maximum."""
    header = _PAM.match(head)
    if header is None:
        raise damaged("pnm")
    fields = dict(re.findall(rb"(?m)^(HEIGHT|WIDTH|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", header[1]))
    try:
        height, width, samples, maximum = (int(fields[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH", b"MAXVAL"))
    except KeyError:
        raise damaged("pnm") from None
    if not 1 <= samples <= 4:
        raise Refusal(f"it is a PAM of {samples} samples per pixel, and xpcnn reads 1 to 4")
    return header.end(), height, width, samples, maximum


def _samples(content: Content, start: int, shape: tuple[int, int, int], form: str, kind: str) -> NDArray[Any]:
    height, width, samples = shape
    if height * width > MAX_PIXELS:
        raise Refusal(f"it claims {width} x {height} pixels, more than {MAX_PIXELS}")
    size = height * width * samples * np.dtype(form).itemsize
    if size == 0 or start + size > content.size:
        raise damaged(kind)
    return np.frombuffer(content[start : start + size].tobytes(), form).reshape(shape)
