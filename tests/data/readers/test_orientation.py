"""Images are seen upright: by EXIF, or by the container's rotation and flip."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.conftest import cv2, picture
from tests.data.readers.files import chunk, exif, inserted, read, saved, webp_with_exif
from tests.data.test_decode import with_orientation
from xpcnn.data.readers.orientation import orientation_of, upright

PREFIXES = (b"", b"Exif\0\0")
SMOOTH = cv2.GaussianBlur(picture(16, 24), (0, 0), 3)


def transposed(content):
    """What Pillow makes of a file."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@pytest.mark.parametrize("orientation", range(10))
class TestAsPillow:
    @pytest.mark.parametrize("prefix", PREFIXES)
    @pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
    def test_a_png_is_turned(self, orientation, prefix, before):
        content = inserted(saved(picture(3, 5), "PNG"), before, chunk(b"eXIf", prefix + exif(orientation)))
        np.testing.assert_array_equal(read(content).values, transposed(content))

    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_a_webp_is_turned(self, orientation, prefix):
        content = webp_with_exif(picture(3, 5), prefix + exif(orientation))
        np.testing.assert_array_equal(read(content).values, transposed(content))

    def test_a_jpeg_is_turned(self, orientation):
        content = with_orientation(saved(SMOOTH, "JPEG", quality=95), orientation)
        np.testing.assert_allclose(read(content).values.astype(float), transposed(content), atol=3)


def avif(turn=None, flip=None):
    """An AVIF with a quarter turn, a flip, or both. Pillow writes them from EXIF; here they are given other values."""
    orientation = {(False, False): 1, (True, False): 6, (False, True): 2, (True, True): 5}
    written = orientation[turn is not None, flip is not None]
    content = bytearray(saved(SMOOTH, "AVIF", quality=95, exif=b"Exif\0\0" + exif(written)))
    for name, value in ((b"irot", turn), (b"imir", flip)):
        if value is not None:
            content[content.index(name) + 4] = value
    return bytes(content)


@pytest.mark.parametrize("turn", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("flip", [None, 0, 1])
def test_an_avif_goes_by_its_turn_and_flip_whatever_exif_says(turn, flip):
    content = avif(turn, flip)
    np.testing.assert_allclose(read(content).values.astype(float), transposed(content), atol=12)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("form", "HI")
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_block_of_either_byte_order_is_read(order, form, prefix):
    assert orientation_of(prefix + exif(6, order, form)) == 6


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", exif(6)[:9], exif(6)[:15], b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"JUNK"],
)
def test_a_damaged_block_notes_nothing(block):
    assert orientation_of(block) == 1


def test_a_picture_of_any_number_of_samples_is_turned():
    values = np.arange(2 * 3 * 7).reshape(2, 3, 7)
    assert upright(values, 6).shape == (3, 2, 7)
    assert upright(values, 6)[0, 1, 0] == values[0, 0, 0]
