"""PNG: every bit depth and colour type, chunks that must change nothing, and animation."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import cv2, picture, png
from tests.data.readers.files import animated, apng, chunk, exif, inserted, read, saved
from xpcnn.data.pixels import Refusal

RED, GREEN, BLUE = (np.full((4, 6, 3), colour, np.uint8) for colour in np.diag([255] * 3))


def grey(depth, row):
    return png(1, 8 * len(row) // depth, 0, depth, b"\0" + row)


class TestValues:
    @pytest.mark.parametrize(
        ("depth", "row", "expected"),
        [
            (1, b"\xa0", [255, 0, 255, 0, 0, 0, 0, 0]),
            (2, b"\x1b", [0, 85, 170, 255]),
            (4, b"\x1f", [17, 255]),
            (8, b"\x07", [7]),
        ],
    )
    def test_fewer_than_eight_bits_of_grey_are_spread(self, depth, row, expected):
        pixels = read(grey(depth, row))
        assert pixels.kind == "grey"
        assert pixels.values.dtype == np.uint8
        assert pixels.values[0, :, 0].tolist() == expected

    @pytest.mark.parametrize(
        "chunks",
        [
            [(b"sRGB", b"\0")],
            [(b"gAMA", struct.pack(">I", 45455))],
            [(b"gAMA", struct.pack(">I", 100000))],
            [(b"sBIT", b"\5\5\5")],
            [(b"cICP", bytes([9, 16, 0, 1]))],
        ],
    )
    def test_colours_are_as_they_were_written_whatever_is_said_of_gamma(self, chunks):
        content = png(1, 2, 2, 8, bytes([0, 255, 0, 0, 10, 200, 30]), *chunks)
        assert read(content).values.tolist() == [[[255, 0, 0], [10, 200, 30]]]

    @pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
    def test_sixteen_bits_stay(self, colour_type):
        samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
        written = [1000, 65535, 1, 40000][:samples]
        values = read(png(1, 1, colour_type, 16, b"\0" + struct.pack(f">{samples}H", *written))).values
        assert values.dtype == np.uint16
        assert values.ravel().tolist() == written[: samples - (samples % 2 == 0)]


class TestTransparency:
    @pytest.mark.parametrize(
        ("content", "kind", "opaque", "alpha"),
        [
            (png(1, 1, 4, 8, b"\0\x32\x80"), "grey", [50], 128),
            (png(1, 1, 6, 8, b"\0\1\2\3\4"), "rgb", [1, 2, 3], 4),
            (png(1, 1, 4, 16, b"\0" + struct.pack(">2H", 1000, 300)), "grey", [1000], 300),
            (png(1, 1, 6, 16, b"\0" + struct.pack(">4H", 1000, 2, 3, 4)), "rgb", [1000, 2, 3], 4),
            (png(1, 1, 2, 8, b"\0\1\2\3", (b"tRNS", struct.pack(">3H", 1, 2, 3))), "rgb", [1, 2, 3], 0),
            (png(1, 1, 3, 8, b"\0\0", (b"PLTE", b"\1\2\3"), (b"tRNS", b"\x80")), "rgb", [1, 2, 3], 128),
        ],
    )
    def test_it_is_dropped_or_kept_as_the_last_sample(self, content, kind, opaque, alpha):
        dropped, kept = read(content), read(content, channels_as_they_are=True)
        assert (dropped.kind, dropped.alpha, dropped.values.ravel().tolist()) == (kind, False, opaque)
        assert (kept.kind, kept.alpha, kept.values.ravel().tolist()) == (kind, True, [*opaque, alpha])

    def test_an_opaque_one_has_none(self):
        assert not read(saved(RED, "PNG"), channels_as_they_are=True).alpha


class TestAnimation:
    def test_page_0_is_the_default_image_that_is_no_frame(self):
        content = apng([GREEN, BLUE], default=RED)
        pages = [read(content, page) for page in range(3)]
        assert [pixels.pages for pixels in pages] == [3] * 3
        for pixels, frame in zip(pages, (RED, GREEN, BLUE), strict=True):
            np.testing.assert_array_equal(pixels.values, frame)

    def test_page_0_is_the_default_image_that_is_a_frame(self):
        content = apng([RED, GREEN, BLUE])
        assert read(content).pages == 3
        for page, frame in enumerate((RED, GREEN, BLUE)):
            np.testing.assert_array_equal(read(content, page).values, frame)
        assert read(content, "max").values[0, 0].tolist() == [255] * 3
        assert read(content, "mean").values[0, 0].tolist() == [85] * 3

    def test_a_projection_over_a_default_image_that_is_no_frame_is_refused(self):
        with pytest.raises(Refusal, match="default image is not a frame"):
            read(apng([GREEN, BLUE], default=RED), "max")

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    @pytest.mark.parametrize("disposal", [0, 1, 2])
    @pytest.mark.parametrize("blend", [0, 1])
    def test_frames_are_put_together_as_by_pillow(self, mode, disposal, blend):
        rng = np.random.default_rng(0)
        frames = [np.full((12, 16, len(mode)), 200, np.uint8) for _ in range(4)]
        for frame in frames:
            y, x = rng.integers(0, 8, 2)
            frame[y : y + 4, x : x + 5] = rng.integers(0, 256, len(mode))
            frame[..., 3:] = np.where(frame[..., 3:] < 128, 0, 255)
        content = animated(frames, "PNG", disposal=disposal, blend=blend)
        for page in range(4):
            image = Image.open(io.BytesIO(content))
            image.seek(page)
            kept = read(content, page, channels_as_they_are=True)
            expected = np.asarray(image.convert("RGBA"))
            opaque = expected[:, :, 3] > 0
            np.testing.assert_array_equal(kept.values[opaque], expected[opaque][:, : len(mode)])
            np.testing.assert_array_equal(read(content, page).values, kept.values[:, :, :3])

    def test_a_frame_half_transparent_lets_the_one_below_through(self):
        below, above = (np.full((1, 1, 4), colour, np.uint8) for colour in ([255, 0, 0, 255], [0, 255, 0, 128]))
        content = animated([below, above], "PNG", blend=1)
        assert read(content, 1, channels_as_they_are=True).values[0, 0].tolist() == [127, 128, 0, 255]

    def test_more_pixels_than_are_decoded_at_once_are_refused(self, monkeypatch):
        monkeypatch.setattr("xpcnn.data.readers.apng.MAX_PIXELS", 3 * 24 - 1)
        with pytest.raises(Refusal, match="3 frames have more than"):
            read(apng([RED, GREEN, BLUE]), 1)

    @pytest.mark.parametrize(
        ("disposal", "left_behind"),
        [(0, [0, 255, 0]), (1, [0, 0, 0]), (2, [255, 0, 0])],
        ids=["stays", "black", "before"],
    )
    def test_a_frame_makes_room_as_it_says(self, disposal, left_behind):
        places = [(0, 0, 0, 0), (1, 1, disposal, 0), (0, 3, 0, 0)]
        content = apng([RED, GREEN[:2, :3], BLUE[:1, :1]], places=places)
        shown = read(content, 2).values
        assert [shown[y, x].tolist() for y, x in ((0, 0), (1, 1), (2, 3), (3, 0))] == [
            [255, 0, 0], left_behind, left_behind, [0, 0, 255],
        ]  # fmt: skip

    def test_a_frame_beyond_the_canvas_is_refused(self):
        with pytest.raises(Refusal, match="truncated or damaged"):
            read(apng([RED, GREEN], places=[(0, 0, 0, 0), (1, 0, 0, 0)]), 1)

    def test_a_frame_of_a_wrong_checksum_is_refused(self):
        content = bytearray(apng([RED, GREEN]))
        content[content.index(b"IEND") - 5] ^= 1
        with pytest.raises(Refusal, match="truncated or damaged"):
            read(bytes(content), 1)

    def test_a_number_of_frames_that_is_a_lie_is_refused(self):
        content = apng([RED, GREEN])
        lie = chunk(b"fcTL", struct.pack(">5I2H2B", 9, 6, 4, 0, 0, 1, 10, 0, 0))
        with pytest.raises(Refusal, match="truncated or damaged"):
            read(inserted(content, b"IEND", lie), 2)

    def test_a_damaged_frame_spoils_its_page_alone(self):
        content = bytearray(apng([RED, GREEN]))
        content[content.index(b"fdAT") + 12] ^= 1
        np.testing.assert_array_equal(read(bytes(content)).values, RED)
        with pytest.raises(Refusal, match="PNG that is truncated or damaged"):
            read(bytes(content), 1)

    def test_an_animated_one_is_turned(self):
        assert read(inserted(apng([RED, GREEN]), b"acTL", chunk(b"eXIf", exif(6))), 1).values.shape == (6, 4, 3)


class TestDamage:
    CONTENT = cv2.imencode(".png", picture(20, 30))[1].tobytes()

    @pytest.mark.parametrize("name", [b"IHDR", b"IDAT"])
    def test_a_wrong_checksum_is_refused(self, name):
        content = bytearray(self.CONTENT)
        content[content.index(name) + 8] ^= 1
        with pytest.raises(Refusal, match="PNG that is truncated or damaged"):
            read(bytes(content))

    @pytest.mark.parametrize("size", [0, 1, 2**31, 2**32 - 1])
    def test_a_chunk_that_lies_about_its_size_is_refused(self, size):
        at = self.CONTENT.index(b"IDAT") - 4
        with pytest.raises(Refusal, match="PNG that is truncated or damaged"):
            read(self.CONTENT[:at] + struct.pack(">I", size) + self.CONTENT[at + 4 :])

    def test_what_follows_the_end_does_not_matter(self):
        np.testing.assert_array_equal(read(self.CONTENT + b"more").values, read(self.CONTENT).values)

    @pytest.mark.parametrize("missing", [b"IDAT", b"IEND"])
    def test_one_without_a_necessary_chunk_is_refused(self, missing):
        with pytest.raises(Refusal, match="PNG that is truncated or damaged"):
            read(apng([RED]).replace(missing, b"teSt"))
