"""JPEG 2000 of the depths that OpenCV reads; others are refused, naming their depth."""

import imagecodecs
import numpy as np
import pytest

from tests.data.readers.files import COLOURS, read
from xpcnn.data.pixels import Refusal


def encoded(values, container="jp2", **options):
    return imagecodecs.jpeg2k_encode(values, level=0, reversible=True, codecformat=container, **options)


@pytest.mark.parametrize("container", ["jp2", "j2k"])
class TestValues:
    @pytest.mark.parametrize("bits", [8, 10, 12, 16])
    @pytest.mark.parametrize("samples", [1, 3, 4])
    def test_of_8_to_16_bits_they_are_as_they_were_written(self, container, bits, samples):
        dtype = np.uint8 if bits == 8 else np.uint16
        written = np.random.default_rng(0).integers(0, 2**bits, (5, 7, samples), dtype=dtype)
        pixels = read(encoded(written.squeeze(), container, bitspersample=bits), channels_as_they_are=True)
        assert pixels.kind == ("grey" if samples == 1 else "rgb")
        assert pixels.alpha == (samples == 4)
        assert pixels.values.dtype == dtype
        np.testing.assert_array_equal(pixels.values, written)

    @pytest.mark.parametrize("bits", [1, 4, 7])
    def test_fewer_bits_are_refused(self, container, bits):
        with pytest.raises(Refusal, match=f"JPEG 2000 of depth {bits}, unsigned"):
            read(encoded(np.zeros((4, 4), np.uint8), container, bitspersample=bits))

    def test_signed_values_are_refused(self, container):
        with pytest.raises(Refusal, match="JPEG 2000 of depth 16, signed"):
            read(encoded(np.full((4, 4), -5, np.int16), container))

    @pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
    def test_a_truncated_one_is_refused(self, container, kept):
        content = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8), container)
        with pytest.raises(Refusal, match="JPEG 2000 that is truncated"):
            read(content[: int(len(content) * kept)])


def test_transparency_of_grey_is_dropped():
    pixels = read(encoded(np.full((4, 4, 2), [7, 200], np.uint8)))
    assert (pixels.kind, pixels.values.shape, pixels.values.max()) == ("grey", (4, 4, 1), 7)


def test_colours_that_opencv_would_convert_wrongly_are_refused():
    content = bytearray(encoded(np.repeat(COLOURS, 4, axis=0), mct=False))
    content[content.index(b"colr") + 10] = 18  # sYCC in place of sRGB
    with pytest.raises(Refusal, match="sYCC"):
        read(bytes(content))


def test_components_of_several_depths_are_refused():
    content = bytearray(encoded(np.repeat(COLOURS, 4, axis=0), "j2k"))
    content[42 + 3] = 9  # of the second
    with pytest.raises(Refusal, match="differ in size or depth"):
        read(bytes(content))
