"""TIFF's LZW: every stream of an encoder gives its bytes, every other one is refused."""

import numpy as np
import pytest

from xpcnn.data.lzw import DamagedData, decode

imagecodecs = pytest.importorskip("imagecodecs")

CLEAR, END = 256, 257


def packed(*codes, widths=None):
    """Return codes as bytes, each of 9 bits where nothing else is said."""
    bits = "".join(f"{code:0{width}b}" for code, width in zip(codes, widths or [9] * len(codes), strict=True))
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def texts():
    rng = np.random.default_rng(0)
    yield b"a"
    yield b"abababababab"
    yield bytes(100_000)  # the longest strings there are
    yield bytes(range(256)) * 40
    yield rng.bytes(30_000)  # runs that fill the table
    yield rng.integers(0, 4, 50_000).astype(np.uint8).tobytes()
    yield np.cumsum(rng.integers(-1, 2, 40_000)).astype(np.uint8).tobytes()


@pytest.mark.parametrize("text", [*texts()], ids=lambda text: f"{len(text)}-{text[:3].hex()}")
def test_what_an_encoder_wrote_comes_back(text):
    assert decode(imagecodecs.lzw_encode(text), len(text)).tobytes() == text


def test_a_code_may_name_the_string_that_it_makes_itself():
    assert decode(packed(CLEAR, 65, 258, END), 3).tobytes() == b"AAA"


def test_a_table_may_be_cleared_at_any_time():
    assert decode(packed(CLEAR, 65, 66, CLEAR, CLEAR, 67, END), 3).tobytes() == b"ABC"


def test_a_missing_end_code_is_forgiven_where_all_bytes_are_there():
    assert decode(packed(CLEAR, 65, 66), 2).tobytes() == b"AB"


@pytest.mark.parametrize(
    ("data", "size", "reason"),
    [
        (b"", 1, "do not begin with a Clear code"),
        (packed(65, 66, END), 2, "do not begin with a Clear code"),
        (packed(CLEAR, 65, 259, END), 3, "strings that are not there yet"),
        (packed(CLEAR, 258, END), 1, "strings that are not there yet"),
        (packed(CLEAR, 65, END), 2, "end after 1 of 2 bytes"),
        (packed(CLEAR, 65, 66, END), 1, "more bytes than they should"),
        (b"\x00\x01\x02\x03", 2, "before 1992"),
    ],
)
def test_what_no_encoder_writes_is_refused(data, size, reason):
    with pytest.raises(DamagedData, match=reason):
        decode(data, size)


def test_truncated_data_are_refused():
    text = np.random.default_rng(1).bytes(5_000)
    data = imagecodecs.lzw_encode(text)
    for length in range(0, len(data) - 3, 97):
        with pytest.raises(DamagedData):
            decode(data[:length], len(text))


def test_a_table_that_runs_over_is_refused():
    widths = [9, *[9] * 254, *[10] * 512, *[11] * 1024, *[12] * 2200]
    data = packed(CLEAR, *[65] * (len(widths) - 1), widths=widths)
    with pytest.raises(DamagedData, match="without a Clear code where the table is full"):
        decode(data, 10_000)
