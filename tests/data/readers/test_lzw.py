"""Decoding TIFF's LZW: the bytes that an encoder was given, or a reason why there are none."""

import imagecodecs
import numpy as np
import pytest

from xpcnn.data.readers.lzw import DamagedData, decode


def some_bytes(size, values, seed=0):
    return np.random.default_rng(seed).integers(0, values, size, dtype=np.uint16).astype(np.uint8).tobytes()


def packed(*codes, widths=None):
    """Codes one behind the other, of 9 bits where nothing else is said."""
    bits = "".join(f"{code:0{width}b}" for code, width in zip(codes, widths or [9] * len(codes), strict=True))
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


CLEAR, END = 256, 257


@pytest.mark.parametrize("values", [1, 2, 7, 256])
@pytest.mark.parametrize("size", [1, 2, 253, 254, 255, 256, 1000, 3838, 3839, 3840, 3841, 20_000])
def test_what_an_encoder_was_given_comes_back(size, values):
    data = some_bytes(size, values)
    assert decode(imagecodecs.lzw_encode(data), size).tobytes() == data


def test_long_repetitions_come_back():
    data = bytes(2_000_000) + some_bytes(1000, 256) + b"abc" * 100_000
    assert decode(imagecodecs.lzw_encode(data), len(data)).tobytes() == data


def test_a_code_may_name_the_string_it_is_about_to_make():
    assert decode(packed(CLEAR, 97, 258, 259, END), 6).tobytes() == b"aaaaaa"


def test_the_end_code_may_be_missing():
    assert decode(packed(CLEAR, 97, 98), 2).tobytes() == b"ab"


def test_codes_that_clear_twice_are_read():
    assert decode(packed(CLEAR, CLEAR, 97, CLEAR, CLEAR, 98, END), 2).tobytes() == b"ab"


@pytest.mark.parametrize(
    ("codes", "size", "reason"),
    [
        ((97, 98, END), 2, "do not start with a Clear"),
        ((CLEAR, 97, 259, END), 3, "strings that do not exist yet"),
        ((CLEAR, 258, END), 1, "strings that do not exist yet"),
        ((CLEAR, 97, END), 2, "end after 1 of 2 bytes"),
        ((CLEAR, 97, 98, 99, END), 2, "more bytes than they should"),
        ((CLEAR, END), 1, "end after 0 of 1 bytes"),
    ],
)
def test_codes_that_no_encoder_writes_are_refused(codes, size, reason):
    with pytest.raises(DamagedData, match=reason):
        decode(packed(*codes), size)


def test_no_data_are_refused():
    with pytest.raises(DamagedData, match="do not start"):
        decode(b"", 1)


def test_a_table_that_overflows_is_refused():
    widths = [9] * 255 + [10] * 512 + [11] * 1024 + [12] * 3000
    data = packed(CLEAR, *[97] * (len(widths) - 1), widths=widths)
    with pytest.raises(DamagedData, match="after the table is full"):
        decode(data, len(widths) - 1)


def test_the_compression_of_old_is_refused_by_name():
    with pytest.raises(DamagedData, match="before 1992"):
        decode(b"\x00\x01\x02\x03", 3)
