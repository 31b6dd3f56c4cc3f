"""What OpenCV decodes correctly stays so; animations, transparency, truncated files, the same result each time."""

import hashlib
import io
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import cv2, picture
from tests.data.readers.files import COLOURS, animated, apng, bmp, gif, read, saved
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers import opencv_reader

SMOOTH = cv2.GaussianBlur(picture(40, 60), (0, 0), 3)
RED, GREEN, BLUE = (np.full((4, 6, 3), colour, np.uint8) for colour in np.diag([255] * 3))


def written(extension, image=SMOOTH, *options):
    """A file as OpenCV writes it."""
    ordered = np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
    done, content = cv2.imencode(extension, ordered, options)
    assert done
    return content.tobytes()


def by_pillow(content, frame=0):
    image = Image.open(io.BytesIO(content))
    image.seek(frame)
    return np.asarray(image.convert("RGB"))


FILES = {
    "JPEG": written(".jpg"),
    "JPEG, progressive": saved(SMOOTH, "JPEG", progressive=True),
    "PNG": written(".png"),
    "GIF": written(".gif"),
    "GIF, animated": animated([RED, GREEN, BLUE], "GIF"),
    "WebP": written(".webp"),
    "WebP, lossless": saved(SMOOTH, "WEBP", lossless=True),
    "WebP, animated": animated([RED, GREEN, BLUE], "WEBP", lossless=True),
    "BMP": written(".bmp"),
    "AVIF": written(".avif"),
    "JPEG 2000": written(".jp2"),
    "PPM": written(".ppm"),
    "PFM": written(".pfm", SMOOTH.astype(np.float32)),
    "Radiance HDR": written(".hdr", SMOOTH.astype(np.float32)),
    "Sun raster": written(".ras"),
    "APNG": apng([RED, GREEN, BLUE]),
    "BMP, 16 bits": bmp(4, 2, 16, bytes(range(16))),
}


class TestColours:
    @pytest.mark.parametrize("kind", ["PNG", "WebP, lossless", "BMP", "PPM", "Sun raster", "PFM"])
    def test_they_are_red_green_and_blue(self, kind):
        pixels = read(FILES[kind])
        assert (pixels.kind, pixels.alpha, pixels.pages) == ("rgb", False, 1)
        np.testing.assert_array_equal(pixels.values, SMOOTH)

    @pytest.mark.parametrize("kind", ["JPEG", "JPEG, progressive", "WebP", "AVIF", "GIF", "JPEG 2000"])
    def test_of_a_lossy_file_they_are_those_of_pillow(self, kind):
        np.testing.assert_allclose(read(FILES[kind]).values.astype(float), by_pillow(FILES[kind]), atol=4)

    @pytest.mark.parametrize("space", ["CMYK", "YCCK"])
    @pytest.mark.parametrize("is_adobe", [True, False])
    def test_inks_become_those_of_pillow(self, space, is_adobe):
        inks = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8), (0, 0), 4)
        options = {"colorspace": "CMYK", "outcolorspace": space, "subsampling": "444"}
        content = imagecodecs.jpeg8_encode(inks, level=98, **options)
        if not is_adobe and space == "CMYK":
            content = content.replace(b"Adobe", b"other")
        np.testing.assert_allclose(read(content).values.astype(float), by_pillow(content), atol=3)

    def test_a_grey_jpeg_is_one_sample_as_it_is_and_three_that_are_equal_else(self):
        content = written(".jpg", SMOOTH[:, :, 0])
        assert read(content, channels_as_they_are=True).values.shape == (40, 60, 1)
        values = read(content).values
        np.testing.assert_array_equal(values, values[:, :, :1].repeat(3, axis=2))

    @pytest.mark.parametrize("extension", [".png", ".bmp", ".jp2", ".pgm", ".pfm"])
    def test_grey_is_one_sample(self, extension):
        grey = SMOOTH[:, :, 0]
        pixels = read(written(extension, grey if extension != ".pfm" else grey.astype(np.float32)))
        assert (pixels.kind, pixels.values.shape) == ("grey", (40, 60, 1))
        np.testing.assert_allclose(pixels.values[:, :, 0].astype(float), grey, atol=4)

    @pytest.mark.parametrize("length", [4, 5])
    def test_a_grey_sun_raster_comes_in_three_samples(self, length):
        content = bytes.fromhex("59a66a95") + np.array([length, 1, 8, length, 1, 0, 0], ">u4").tobytes()
        values = read(content + bytes(range(7, 7 + length + length % 2))).values
        assert values[0].tolist() == [[value] * 3 for value in range(7, 7 + length)]

    def test_radiance_is_as_it_is(self):
        head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 2\n"
        pixels = read(head + bytes([128, 64, 32, 129, 10, 20, 30, 128]))
        assert pixels.values.dtype == np.float32
        assert pixels.values.ravel().tolist() == [1.0, 0.5, 0.25, 0.0390625, 0.078125, 0.1171875]


class TestDepthAndTransparency:
    @pytest.mark.parametrize("bits", [8, 10, 12])
    @pytest.mark.parametrize("samples", [1, 3, 4])
    def test_an_avif_is_as_it_was_written(self, bits, samples):
        value = 2 ** (bits - 1) + 3
        image = np.full((8, 8, samples), value, np.uint8 if bits == 8 else np.uint16)
        content = imagecodecs.avif_encode(image.squeeze(), level=100, bitspersample=bits)
        pixels = read(content, channels_as_they_are=True)
        assert pixels.kind == ("grey" if samples == 1 else "rgb")
        assert pixels.alpha == (samples == 4)
        assert (pixels.values.dtype, set(pixels.values.ravel())) == (image.dtype, {value})
        assert read(content).values.shape == (8, 8, min(samples, 3))

    def test_a_webp_keeps_or_drops_it(self):
        four = np.dstack([COLOURS, np.full((1, 4), 128, np.uint8)])
        content = saved(four, "WEBP", lossless=True, exact=True)
        np.testing.assert_array_equal(read(content).values, COLOURS)
        kept = read(content, channels_as_they_are=True)
        assert kept.alpha
        np.testing.assert_array_equal(kept.values, four)


class TestAnimation:
    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF"])
    def test_a_page_is_the_frame_that_is_shown(self, kind):
        frames = [SMOOTH.copy() for _ in range(3)]
        frames[1][8:20, 8:30] = 255
        frames[2][10:20, 20:40] = 0
        content = animated(frames, kind, **{"WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(kind, {}))
        for page in range(3):
            pixels = read(content, page)
            assert pixels.pages == 3
            np.testing.assert_allclose(pixels.values.astype(float), by_pillow(content, page), atol=4)

    @pytest.mark.parametrize("kind", ["GIF, animated", "WebP, animated", "APNG"])
    def test_the_maximum_and_the_mean_of_all(self, kind):
        assert read(FILES[kind], "max").values[0, 0].tolist() == [255] * 3
        assert read(FILES[kind], "mean").values[0, 0].tolist() == [85] * 3

    @pytest.mark.parametrize("kind", FILES)
    def test_a_page_that_is_not_there_is_refused(self, kind):
        held = read(FILES[kind]).pages
        for page in (-1, held):
            with pytest.raises(Refusal, match=f"it holds {held} page"):
                read(FILES[kind], page)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "PPM"])
    def test_of_one_page_the_maximum_is_that_page(self, kind):
        np.testing.assert_array_equal(read(FILES[kind], "max").values, read(FILES[kind]).values)

    def test_frames_of_a_gif_are_put_together(self):
        content = gif(4, 3, [(0, 0, 4, 3, 0, 0), (1, 1, 2, 2, 1, 2), (0, 0, 2, 2, 2, 0)])
        for page in range(3):
            np.testing.assert_array_equal(read(content, page).values, by_pillow(content, page))

    def test_frames_that_bring_back_what_was_before_are_refused_but_for_the_first(self):
        content = gif(4, 3, [(0, 0, 4, 3, 0, 0), (1, 1, 2, 2, 1, 3), (0, 0, 2, 2, 2, 0)])
        assert read(content).values[1, 1].tolist() == [255, 0, 0]
        with pytest.raises(Refusal, match="only page 0"):
            read(content, 2)

    @pytest.mark.parametrize("kind", ["GIF, animated", "WebP, animated"])
    def test_more_pixels_than_are_decoded_at_once_are_refused(self, kind, monkeypatch):
        monkeypatch.setattr("xpcnn.data.readers.opencv_decoding.MAX_PIXELS", 3 * 24 - 1)
        assert read(FILES[kind]).pages == 3
        with pytest.raises(Refusal, match="3 frames have more than"):
            read(FILES[kind], "max")


class TestDamage:
    @pytest.mark.parametrize("kind", FILES)
    def test_one_that_is_cut_off_anywhere_is_refused(self, kind):
        content = FILES[kind]
        whole = read(content).values
        length = len(content)
        for kept in sorted({*range(4, 64, 3), *range(64, length, length // 24 + 1), length - 2, length - 1}):
            if kept < length:
                with pytest.raises(Refusal):
                    read(content[:kept])
        assert whole.size

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WebP", "AVIF", "JPEG 2000", "BMP", "Sun raster"])
    def test_the_reason_names_the_format(self, kind):
        with pytest.raises(Refusal, match=f"it is an? {kind} that is truncated"):
            read(FILES[kind][: len(FILES[kind]) // 2])

    def test_what_opencv_raises_is_the_reason(self):
        huge = FILES["JPEG"]
        at = huge.index(b"\xff\xc0") + 5
        with pytest.raises(Refusal, match=r"^OpenCV refuses it \(.*PIXELS.*\)$"):
            read(huge[:at] + b"\xff\x00\xff\x00" + huge[at + 4 :])

    def test_a_build_that_lacks_a_format_is_the_reason(self, monkeypatch):
        monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
        monkeypatch.setattr(cv2, "haveImageWriter", lambda _: False)
        with pytest.raises(Refusal, match="an AVIF, which this build of OpenCV does not decode"):
            read(FILES["AVIF"])

    @pytest.mark.parametrize("kind", ["tiff", "heif", "a PDF document"])
    def test_kinds_of_other_readers_are_refused(self, kind):
        with pytest.raises(Refusal, match="which xpcnn does not read"):
            opencv_reader.read_with_opencv(np.zeros(9, np.uint8), kind)


PROGRAM = """
import sys
import numpy as np
from tests.data.readers.test_opencv_reader import answer
junk = [np.full(size, int(sys.argv[1]), np.uint8) for size in (100, 2400, 7200, 9600, 28800) * 20]
del junk
print(answer())
"""


def answer():
    """A digest of what becomes of every file, whole and with bytes changed."""
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    for content in FILES.values():
        for damages in (0, 1, 1, 1, 3, 3, 3, 9, 9, 9):
            changed = np.frombuffer(content, np.uint8).copy()
            changed[rng.integers(12, changed.size, damages)] = rng.integers(0, 256, damages)
            try:
                digest.update(read(changed.tobytes()).values.tobytes())
            except Refusal as refusal:
                digest.update(str(refusal).encode())
    return digest.hexdigest()


def test_the_same_bytes_give_the_same_pixels_in_every_process():
    answers = {
        subprocess.run([sys.executable, "-c", PROGRAM, fill], capture_output=True, text=True, check=True).stdout
        for fill in ("0", "255")
    }
    assert len(answers) == 1
