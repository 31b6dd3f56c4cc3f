"""HEIC as written by phones, and the message if it cannot be read."""

import io
import re
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.data.conftest import cv2, picture
from tests.data.readers.files import exif
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.containers import kind_of
from xpcnn.data.readers.heif import read_heif
from xpcnn.data.readers.orientation import upright
from xpcnn.extras import install_line

SMOOTH = cv2.GaussianBlur(picture(64, 96), (0, 0), 5)


def heic(*images, primary=0, **options):
    file, written = io.BytesIO(), pillow_heif.HeifFile()
    for image in images:
        written.add_from_pillow(Image.fromarray(image))
    written.save(file, quality=95, primary_index=primary, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def deep(bits, value):
    """A HEIC of one value of 10 or 12 bits."""
    file = io.BytesIO()
    spread = np.full((64, 64, 3), value << (16 - bits), np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
        pillow_heif.encode("RGB;16", (64, 64), spread.tobytes(), file, quality=-1)
    return np.frombuffer(file.getvalue(), np.uint8)


def test_it_is_told_by_its_content():
    assert kind_of(heic(SMOOTH)) == "heif"


def test_colours_and_grey():
    colour, grey = read_heif(heic(SMOOTH)), read_heif(heic(SMOOTH[:, :, 0]))
    assert (colour.kind, grey.kind) == ("rgb", "grey")
    assert colour.values.dtype == np.uint8
    np.testing.assert_allclose(colour.values.astype(float), SMOOTH, atol=12)
    np.testing.assert_allclose(grey.values[:, :, 0].astype(float), SMOOTH[:, :, 0], atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(orientation):
    content = heic(SMOOTH, exif=b"Exif\0\0" + exif(orientation))
    np.testing.assert_allclose(read_heif(content).values.astype(float), upright(SMOOTH, orientation), atol=12)


@pytest.mark.parametrize(("bits", "value"), [(10, 1023), (10, 500), (12, 4095), (12, 2000)])
def test_deep_values_are_as_they_were_written(bits, value):
    values = read_heif(deep(bits, value)).values
    assert values.dtype == np.uint16
    np.testing.assert_allclose(values.astype(float), value, atol=2)


def test_transparency_is_dropped_or_kept():
    content = heic(np.dstack([SMOOTH, np.full((64, 96), 200, np.uint8)]))
    assert read_heif(content).values.shape == (64, 96, 3)
    kept = read_heif(content, channels_as_they_are=True)
    assert kept.alpha
    assert np.abs(kept.values[:, :, 3].astype(int) - 200).max() < 12


def test_page_0_is_the_primary_picture_and_the_others_follow():
    content = heic(*(np.full((64, 64, 3), value, np.uint8) for value in (10, 120, 240)), primary=1)
    pages = [read_heif(content, page) for page in range(3)]
    assert [pixels.pages for pixels in pages] == [3] * 3
    np.testing.assert_allclose([pixels.values.mean() for pixels in pages], [120, 10, 240], atol=3)
    for page, reason in ((3, "3 pages"), (-1, "3 pages"), ("max", "no max"), ("mean", "no mean")):
        with pytest.raises(Refusal, match=reason):
            read_heif(content, page)
    assert read_heif(heic(SMOOTH), "max").values.shape == SMOOTH.shape


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.5, 0.9, 0.99])
def test_a_truncated_one_is_refused_in_one_line(kept):
    content = heic(SMOOTH)
    with pytest.raises(Refusal, match=r"^it is a HEIC that is truncated or damaged .+$"):
        read_heif(content[: int(len(content) * kept)])


def test_without_the_package_the_reason_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Refusal, match=re.escape(f"a HEIC, which needs pillow-heif: `{install_line('microscopy')}`")):
        read_heif(np.frombuffer(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", np.uint8))
