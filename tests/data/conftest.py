"""Image files made on the spot, and the folders of real data if XPCNN_DATA names them."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from xpcnn.data.opencv import load_opencv

cv2 = load_opencv()  # and not `import cv2`, so that the cap on pixels holds here too


def picture(height=12, width=16, channels=3, seed=0, dtype=np.uint8):
    """A smooth random picture, (height, width, 3) in red, green, blue, or (height, width) in grey."""
    limit = np.iinfo(dtype).max
    shape = (height, width, 3) if channels == 3 else (height, width)
    noise = np.random.default_rng(seed).integers(0, limit, shape, dtype=dtype, endpoint=True)
    return cv2.GaussianBlur(noise, (3, 3), 0)


def save(path, image, *options):
    """Write a picture in the format of the path's extension; red, green, blue become OpenCV's order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        order = [2, 1, 0, 3][: image.shape[2]]
        image = image[:, :, order]
    done, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image), list(options))
    assert done
    path.write_bytes(encoded.tobytes())
    return path


def png(height, width, colour_type, depth, rows, *chunks):
    """A PNG made of its parts, for the kinds that OpenCV does not write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.fixture
def class_folders(tmp_path):
    """A function that makes a folder of {"cat/1.png": 0, …}, each file a grey picture of that value."""

    def make(files, name="set"):
        for file, value in files.items():
            save(tmp_path / name / file, np.full((6, 6), value, dtype=np.uint8))
        return tmp_path / name

    return make


@pytest.fixture
def real_data():
    """A function from a name under XPCNN_DATA to its folder; skips where there is none."""

    def find(name):
        root = os.environ.get("XPCNN_DATA")
        if not root:
            pytest.skip("XPCNN_DATA is not set")
        folder = Path(root, name)
        if not folder.is_dir():
            pytest.skip(f"there is no {name} in XPCNN_DATA")
        return folder

    return find
