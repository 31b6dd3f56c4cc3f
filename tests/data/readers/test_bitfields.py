"""BMP with every header and depth, and masks in any order."""

import struct

import numpy as np
import pytest

from tests.data.readers.files import COLOURS, bmp, read
from xpcnn.data.pixels import Refusal

RGB = COLOURS.tobytes()
BGR = COLOURS[:, :, ::-1].tobytes()
PALETTE = b"".join(bytes([b, g, r, 0]) for r, g, b in COLOURS[0].tolist())
SHORT_PALETTE = BGR.ljust(768, b"\0")


def with_fourth(order, value=128):
    """Four bytes a pixel: the samples in an order ("rgba", "bgra", "abgr", …)."""
    four = np.dstack([COLOURS, np.full((1, 4), value, np.uint8)])
    return four[:, :, ["rgba".index(sample) for sample in order]].tobytes()


def masks(order):
    return [0xFF << 8 * order.index(sample) for sample in "rgba"]


@pytest.mark.parametrize(
    "content",
    [
        bmp(4, 1, 4, b"\x01\x23\0\0", palette=PALETTE, used=4),
        bmp(4, 1, 8, b"\0\1\2\3", palette=PALETTE, used=4),
        bmp(4, 1, 8, b"\0\1\2\3", palette=PALETTE, used=4, header=124),
        bmp(4, 1, 8, b"\1\0\1\1\1\2\1\3\0\0\0\1", compression=1, palette=PALETTE, used=4),
        bmp(4, 1, 8, b"\0\4\0\1\2\3\0\1", compression=1, palette=PALETTE, used=4),
        bmp(4, 1, 4, b"\4\x01\0\0\0\1".replace(b"\4\x01", b"\2\x01\2\x23"), compression=2, palette=PALETTE, used=4),
        bmp(4, 1, 8, b"\0\1\2\3", header=12, palette=SHORT_PALETTE),
        bmp(4, 1, 24, BGR, header=12),
        bmp(4, 1, 24, BGR, header=64),
        bmp(4, 1, 24, BGR),
        bmp(4, -1, 24, BGR),
        bmp(4, 1, 24, BGR, header=124),
        bmp(4, 1, 32, with_fourth("bgra")),
        bmp(4, 1, 32, with_fourth("bgra"), header=108),
        *(
            bmp(
                4,
                1,
                32,
                with_fourth(order),
                compression=3,
                header=header,
                masks=masks(order)[: 4 if header > 52 else 3],
            )
            for order in ("rgba", "bgra", "abgr", "argb", "grab")
            for header in (40, 52, 56, 108, 124)
        ),
    ],
)
def test_the_colours_come_out(content):
    pixels = read(content)
    assert (pixels.kind, pixels.alpha) == ("rgb", False)
    np.testing.assert_array_equal(pixels.values, COLOURS)


@pytest.mark.parametrize("order", ["rgba", "bgra", "abgr"])
def test_transparency_is_kept_where_a_mask_says_that_there_is_some(order):
    rows = with_fourth(order)
    with_alpha = bmp(4, 1, 32, rows, compression=3, header=124, masks=masks(order))
    without = bmp(4, 1, 32, rows, compression=3, masks=masks(order)[:3])
    pixels = read(with_alpha, channels_as_they_are=True)
    assert pixels.alpha
    np.testing.assert_array_equal(pixels.values[:, :, :3], COLOURS)
    assert (pixels.values[:, :, 3] == 128).all()
    assert not read(without, channels_as_they_are=True).alpha
    assert not read(bmp(4, 1, 32, with_fourth("bgra")), channels_as_they_are=True).alpha


@pytest.mark.parametrize(
    ("given", "width"),
    [
        (None, (5, 5, 5)),
        ((0x7C00, 0x3E0, 0x1F), (5, 5, 5)),
        ((0xF800, 0x7E0, 0x1F), (5, 6, 5)),
        ((0xF, 0xF0, 0xF00), 444),
    ],
)
def test_sixteen_bits_are_spread_over_all_bytes(given, width):
    red, green, blue = given or (0x7C00, 0x3E0, 0x1F)
    low = [mask & -mask for mask in (red, green, blue)]
    rows = struct.pack("<6H", red, green, blue, red | green | blue, 0, sum(low))
    content = bmp(6, 1, 16, rows, compression=3 if given else 0, masks=given or ())
    values = read(content).values[0].tolist()
    assert values[:5] == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]
    steps = [mask // one for mask, one in zip((red, green, blue), low, strict=True)]
    assert values[5] == [round(255 / step) for step in steps]


def test_ten_bits_give_their_highest_eight():
    rows = struct.pack("<2I", 1023 << 20 | 512 << 10, 4 | 256 << 10)
    content = bmp(2, 1, 32, rows, compression=3, masks=[1023 << 20, 1023 << 10, 1023])
    assert read(content).values[0].tolist() == [[255, 128, 0], [0, 64, 1]]


def test_rows_are_from_the_top_on_unless_the_height_is_negative():
    rows = struct.pack("<4H", 0x1F, 0, 0x7C00, 0)  # one pixel a row, and two bytes that fill it
    assert read(bmp(1, 2, 16, rows)).values[:, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert read(bmp(1, -2, 16, rows)).values[:, 0].tolist() == [[0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("compression", [0, 3])
@pytest.mark.parametrize("cut", [1, 5])
def test_a_truncated_one_is_refused(bits, compression, cut):
    if bits == 24 and compression == 3:
        pytest.skip("masks are of 16 and 32 bits")
    given = {16: [0x7C00, 0x3E0, 0x1F], 32: [0xFF, 0xFF00, 0xFF0000]}.get(bits, []) if compression else []
    content = bmp(4, 2, bits, bytes(bits), compression=compression, masks=given)
    assert read(content).values.shape == (2, 4, 3)
    with pytest.raises(Refusal, match="BMP that is truncated"):
        read(content[:-cut])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((0x5, 0xFF00, 0xFF0000), "not contiguous"),
        ((0, 0xFF00, 0xFF0000), "without a mask"),
        ((0, 0, 0), "without a mask"),
    ],
)
def test_masks_that_make_no_sense_are_refused(given, reason):
    with pytest.raises(Refusal, match=reason):
        read(bmp(4, 1, 32, bytes(16), compression=3, masks=given))


def test_a_mask_beyond_a_pixel_is_refused():
    with pytest.raises(Refusal, match="not contiguous"):
        read(bmp(4, 1, 16, bytes(8), compression=3, masks=(0xFF0000, 0xF0, 0xF)))


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-4, 1), (2**30, 2**30), (2**31 - 1, -(2**31))])
def test_sizes_that_are_lies_are_refused(width, height):
    with pytest.raises(Refusal, match=r"truncated|pixels"):
        read(bmp(width, height, 16, bytes(64)))
