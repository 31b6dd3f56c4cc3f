"""What an image file is decoded to: its size, its channels, its bytes, or a reason why not."""

import json
import os
import struct

import numpy as np
import pytest

from tests.data.conftest import cv2, picture, png, save
from xpcnn.data import Decoding, UndecodableImage, decode, read_image, resize

COLOUR = Decoding(height=12, width=16, channels=3)
GREY = Decoding(height=12, width=16, channels=1)


def with_orientation(jpeg, orientation):
    """Put an EXIF block with one entry, the orientation, behind the first marker of a JPEG."""
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


class TestReading:
    @pytest.mark.parametrize("extension", [".png", ".bmp", ".tiff", ".ppm"])
    def test_a_colour_image_comes_as_red_green_blue_with_channels_first(self, tmp_path, extension):
        image = picture()
        read = read_image(save(tmp_path / f"a{extension}", image), COLOUR)
        assert read.dtype == np.uint8
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, image.transpose(2, 0, 1))

    @pytest.mark.parametrize("extension", [".jpg", ".JPEG", ".webp"])
    def test_a_lossy_image_comes_close(self, tmp_path, extension):
        image = cv2.GaussianBlur(picture(), (0, 0), 3)
        read = read_image(save(tmp_path / f"a{extension}", image), COLOUR)
        assert np.abs(read.astype(int) - image.transpose(2, 0, 1)).max() < 12

    def test_a_grey_image_fills_three_channels_alike(self, tmp_path):
        image = picture(channels=1)
        read = read_image(save(tmp_path / "a.png", image), COLOUR)
        np.testing.assert_array_equal(read, np.stack([image] * 3))

    def test_a_colour_image_becomes_grey_by_its_luminance(self, tmp_path):
        image = picture()
        read = read_image(save(tmp_path / "a.png", image), GREY)
        assert read.shape == (1, 12, 16)
        assert np.abs(read[0] - image @ [0.299, 0.587, 0.114]).max() < 2

    @pytest.mark.parametrize("channels", [1, 3])
    def test_sixteen_bits_are_scaled_to_eight(self, tmp_path, channels):
        image = picture(channels=channels, dtype=np.uint16)
        image[:2] = 65535
        read = read_image(save(tmp_path / "a.png", image), Decoding(12, 16, channels))
        expected = np.round(image / 257).reshape(12, 16, channels).transpose(2, 0, 1)
        np.testing.assert_array_equal(read, expected)
        assert read.max() == 255

    def test_each_of_65536_values_is_scaled_to_the_nearest_byte(self, tmp_path):
        image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        read = read_image(save(tmp_path / "a.png", image), Decoding(256, 256, 1))
        np.testing.assert_array_equal(read[0], np.round(image / 257))

    def test_transparency_is_dropped(self, tmp_path):
        image = np.dstack([picture(), picture(channels=1, seed=1)])
        read = read_image(save(tmp_path / "a.png", image), COLOUR)
        np.testing.assert_array_equal(read, image[:, :, :3].transpose(2, 0, 1))

    def test_a_palette_is_looked_up(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(png(1, 2, 3, 8, b"\0\0\1", (b"PLTE", bytes([10, 20, 30, 200, 100, 0]))))
        assert read_image(path, Decoding(1, 2, 3))[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 0]]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_rotation_that_a_camera_notes_is_applied(self, tmp_path, channels):
        upright = np.zeros((16, 32, 3), dtype=np.uint8)
        upright[:, :16] = 255  # white on the left
        path = save(tmp_path / "a.jpg", upright)
        path.write_bytes(with_orientation(path.read_bytes(), 6))  # to be shown turned clockwise: white above
        read = read_image(path, Decoding(32, 16, channels))
        assert read[:, :14].min() > 240
        assert read[:, 18:].max() < 15

    @pytest.mark.parametrize("name", ["été.png", "细胞 1.png", "a\nb.png"])
    def test_a_path_may_hold_any_characters(self, tmp_path, name):
        image = picture()
        path = save(tmp_path / name, image)
        np.testing.assert_array_equal(read_image(str(path), COLOUR), image.transpose(2, 0, 1))


class TestSize:
    def test_a_large_image_shrinks_by_the_mean_of_its_areas(self, tmp_path):
        image = picture(24, 32)
        read = read_image(save(tmp_path / "a.png", image), COLOUR)
        means = image.reshape(12, 2, 16, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
        assert np.abs(read - means).max() <= 0.5

    def test_a_small_image_grows_linearly(self):
        ramp = np.array([0, 200], dtype=np.uint8).reshape(1, 1, 1, 2)
        assert resize(ramp, 1, 4).ravel().tolist() == [0, 50, 150, 200]

    def test_an_image_that_is_too_high_and_too_narrow_is_stretched_to_the_size(self):
        image = np.zeros((1, 1, 4, 2), dtype=np.uint8)
        image[..., 1] = 200
        image[:, :, 1::2] += 40
        assert resize(image, 2, 4)[0, 0].tolist() == [[20, 70, 170, 220]] * 2

    @pytest.mark.parametrize("channels", [1, 3])
    def test_resizing_arrays_is_what_reading_does(self, tmp_path, channels):
        image = picture(20, 20, channels)
        path = save(tmp_path / "a.png", image)
        whole = read_image(path, Decoding(20, 20, channels))
        resized = resize(np.stack([whole, whole]), 9, 30)
        assert resized.dtype == np.uint8
        for each in resized:
            np.testing.assert_array_equal(each, read_image(path, Decoding(9, 30, channels)))

    def test_resizing_to_the_same_size_changes_nothing(self):
        images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
        np.testing.assert_array_equal(resize(images, 2, 2), images)


class TestUndecodable:
    def refuse(self, path, reason):
        with pytest.raises(UndecodableImage, match=reason) as caught:
            read_image(path, COLOUR)
        assert caught.value.path == path
        assert caught.value.reason in str(caught.value)
        assert "\n" not in caught.value.reason

    @pytest.mark.parametrize("extension", [".jpg", ".png", ".tiff", ".webp", ".bmp"])
    @pytest.mark.parametrize("kept", [0.5, 0.95])
    def test_a_truncated_image_is_refused(self, tmp_path, extension, kept):
        path = save(tmp_path / f"a{extension}", picture(60, 80))
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
        self.refuse(path, "truncated")

    def test_what_is_no_image_is_refused(self, tmp_path):
        path = tmp_path / "a.jpg"
        path.write_text("once upon a time")
        self.refuse(path, "its format is not one that xpcnn reads")

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "a.jpg").touch()
        self.refuse(tmp_path / "a.jpg", "empty")

    def test_a_missing_file_is_refused(self, tmp_path):
        self.refuse(tmp_path / "a.jpg", "No such file")

    def test_a_path_below_a_file_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        self.refuse(tmp_path / "file" / "a.jpg", "Not a directory")

    def test_a_directory_is_refused(self, tmp_path):
        (tmp_path / "a.jpg").mkdir()
        self.refuse(tmp_path / "a.jpg", "a folder")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
    def test_a_pipe_is_refused_without_waiting_for_it(self, tmp_path):
        os.mkfifo(tmp_path / "a.jpg")
        self.refuse(tmp_path / "a.jpg", "not a regular file")

    def test_a_huge_file_is_refused_unread(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.png", picture())
        monkeypatch.setattr(decode, "MAX_FILE_BYTES", 10)
        self.refuse(path, "larger than 1 GiB")

    def test_a_small_file_that_claims_too_many_pixels_is_refused(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(png(2**17, 2**17, 0, 8, b""))
        self.refuse(path, "OpenCV refuses it .*PIXELS")

    def test_pixels_of_floating_point_are_refused(self, tmp_path):
        path = save(tmp_path / "a.tiff", picture().astype(np.float32))
        self.refuse(path, "float32")


class TestDecoding:
    def test_it_survives_json(self):
        assert Decoding.from_json(json.loads(json.dumps(COLOUR.to_json()))) == COLOUR

    @pytest.mark.parametrize(
        ("height", "width", "channels"),
        [(0, 8, 1), (8, -1, 1), (8.0, 8, 1), ("8", 8, 1), (True, 8, 1), (8, 8, 1.0), (2**15, 2**15, 1)],
    )
    def test_an_impossible_size_is_refused(self, height, width, channels):
        with pytest.raises(ValueError, match="Received"):
            Decoding(height, width, channels)

    @pytest.mark.parametrize("channels", [0, 2, 4])
    def test_another_number_of_colours_is_refused(self, channels):
        with pytest.raises(ValueError, match=rf"1 \(grey\) or 3 \(colour\).* Received: {channels}"):
            Decoding(8, 8, channels)

    @pytest.mark.parametrize(
        "fields",
        [
            None,
            [],
            {},
            {"height": 8, "width": 8, "channels": 1},
            {
                "height": 8,
                "width": 8,
                "channels": 1,
                "resizing": "crop",
            },  # version 0.1.0 knew no other way than to stretch
            {"height": 8, "width": 8, "channels": 1, "resizing": "stretch", "more": 1},
            {"height": None, "width": 8, "channels": 1, "resizing": "stretch"},
            {"height": [8], "width": 8, "channels": 1, "resizing": "stretch"},
        ],
    )
    def test_foreign_json_is_refused(self, fields):
        with pytest.raises(ValueError, match="Received"):
            Decoding.from_json(fields)
