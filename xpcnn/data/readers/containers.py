"""Identifying a file by its first bytes, whatever its name."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Refusal

Content: TypeAlias = NDArray[np.uint8]

#: The formats that some reader takes, as messages name them.
NAMES = {
    "avif": "an AVIF",
    "bmp": "a BMP",
    "gif": "a GIF",
    "hdr": "a Radiance HDR",
    "heif": "a HEIC",
    "jp2": "a JPEG 2000",
    "jpeg": "a JPEG",
    "pfm": "a PFM",
    "png": "a PNG",
    "pnm": "a PNM",
    "ras": "a Sun raster",
    "tiff": "a TIFF",
    "webp": "a WebP",
}

# The most common first. A kind that is not in NAMES is what messages call the format.
_FIRST_BYTES = (
    ("jpeg", rb"\xff\xd8\xff"),
    ("png", rb"\x89PNG\r\n\x1a\n"),
    ("tiff", rb"II[*+]\0|MM\0[*+]"),
    ("bmp", rb"BM.{4}\0{4}|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}"),
    ("gif", rb"GIF8[79]a"),
    ("webp", rb"RIFF.{4}WEBP"),
    ("jp2", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("pnm", rb"P[1-7][\s#]"),
    ("pfm", rb"P[Ff]\s"),
    ("hdr", rb"#\?R(ADIANC|GB)E"),
    ("ras", rb"\x59\xa6\x6a\x95"),
    ("a JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("an OpenEXR", rb"v/1\x01"),
    ("a Photoshop document", rb"8BPS"),
    ("an icon (ICO)", rb"\0\0\x01\0.{3}\0"),
    ("a PDF document", rb"%PDF-"),
    ("a PostScript document", rb"%!PS"),
    ("a DICOM", rb".{128}DICM"),
    ("a Zeiss CZI", rb"ZISRAWFILE"),
    ("a Nikon ND2", rb"\xda\xce\xbe\x0a"),
    ("an HDF5", rb"\x89HDF\r\n\x1a\n"),
    ("a NumPy array", rb"\x93NUMPY"),
    ("a gzip archive", rb"\x1f\x8b"),
    ("a ZIP archive", rb"PK\x03\x04"),
    ("a video", rb".{4}ftyp(isom|mp4|qt  |M4V|avc1)"),
    ("a Git LFS pointer instead of the file itself", rb"version https://git-lfs"),
    ("a web page", rb"(?i)\s*(<!doctype html|<html)"),
    ("an SVG drawing", rb"(?i)\s*(<\?xml.*)?<svg"),
)
_PATTERNS = tuple((kind, re.compile(pattern, re.DOTALL)) for kind, pattern in _FIRST_BYTES)
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


def kind_of(content: Content) -> str:
    """Return the kind of a file: one of :data:`NAMES`, the name of an unsupported format, or "unknown"."""
    head = content[:512].tobytes()
    for kind, pattern in _PATTERNS:
        if pattern.match(head):
            return kind
    return _kind_by_brand(head) if head[4:8] == b"ftyp" else "unknown"


def _kind_by_brand(head: bytes) -> str:
    """Identify an ISO file by its brands: the major one, a version, and the compatible ones."""
    brands = [head[at : at + 4] for at in range(8, min(int.from_bytes(head[:4], "big"), len(head)), 4) if at != 12]
    if brands[:1] and brands[0] in _HEIC:
        return "heif"
    if {b"avif", b"avis"} & set(brands):
        return "avif"
    return "heif" if (_HEIC | {b"mif1", b"msf1"}) & set(brands) else "unknown"


def damaged(kind: str) -> Refusal:
    """Return the refusal of a file whose content does not match its first bytes."""
    return Refusal(f"it is {NAMES[kind]} that is truncated or damaged")


def not_read(kind: str, content: Any) -> Refusal:
    """Return the refusal of a file that no reader supports."""
    if kind != "unknown":
        return Refusal(f"it is {kind}, which xpcnn does not read")
    return Refusal(f"its format is not one that xpcnn reads (its first bytes: {bytes(content[:8]).hex(' ')})")
