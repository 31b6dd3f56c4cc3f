"""The type of a file, by its first bytes."""

import struct

import numpy as np
import pytest

from tests.data.readers.files import read
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.containers import NAMES, kind_of


def kind(content):
    return kind_of(np.frombuffer(content, np.uint8))


def ftyp(*brands):
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 4 + len(box)) + box + b"meta"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"II*\0\x08\0\0\0", "tiff"),
        (b"MM\0*\0\0\0\x08", "tiff"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"MM\0+\0\x08\0\0", "tiff"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"RIFF\x08\0\0\0WEBPVP8 ", "webp"),
        (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "bmp"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
        (b"\xff\x4f\xff\x51\0\x2f", "jp2"),
        (b"P1\n1 1\n0", "pnm"),
        (b"P6 1 1 255\n...", "pnm"),
        (b"P7\nWIDTH 1", "pnm"),
        (b"Pf\n1 1\n-1\n", "pfm"),
        (b"PF\n1 1\n-1\n", "pfm"),
        (b"#?RADIANCE\n", "hdr"),
        (b"#?RGBE\n", "hdr"),
        (b"\x59\xa6\x6a\x95\0\0\0\1", "ras"),
        (b"RIFF\x08\0\0\0WAVE", "unknown"),
        (b"P8\n1 1", "unknown"),
        (b"once upon a time", "unknown"),
        (b"I", "unknown"),
        (b"", "unknown"),
    ],
)
def test_the_first_bytes_tell(content, expected):
    assert kind(content) == expected


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        ([b"avif", b"avif", b"mif1"], "avif"),
        ([b"avis", b"msf1"], "avif"),
        ([b"mif1", b"mif1", b"avif", b"miaf"], "avif"),
        ([b"heic", b"mif1", b"heic"], "heif"),
        ([b"heix", b"mif1"], "heif"),
        ([b"hevc", b"msf1"], "heif"),
        ([b"mif1", b"mif1", b"heic"], "heif"),
        ([b"msf1", b"msf1"], "heif"),
        ([b"3gp4", b"3gp4"], "unknown"),
    ],
)
def test_an_iso_file_is_told_by_its_brands(brands, expected):
    assert kind(ftyp(*brands)) == expected


@pytest.mark.parametrize("size", [0, 1, 8, 9, 2**32 - 1])
def test_brands_that_lie_about_their_number_are_no_error(size):
    assert kind(struct.pack(">I", size) + b"ftypxxxx") == "unknown"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"ZISRAWFILE", "CZI"),
        (b"\xda\xce\xbe\x0a", "ND2"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\1\0", "NumPy"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\3\4\x14\0", "ZIP"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\xff\x0a\x00", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"v/1\1\2\0\0\0", "OpenEXR"),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', "SVG"),
        (b"<svg>", "SVG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (ftyp(b"isom", b"mp41"), "video"),
        (b"once upon a time", "not one that xpcnn reads .*6f 6e 63 65"),
    ],
)
def test_what_is_not_read_is_named(content, named):
    assert kind(content) not in NAMES
    with pytest.raises(Refusal, match=named):
        read(content)
