"""TIFF files that are truncated, damaged or made up: refused with the reason, quickly, and without much memory."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile

from tests.data.readers.test_tiff import COMPRESSIONS, grey, refusal, some_values, with_tag, written
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.tiff import read_tiff


def layout(content):
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        return page.dataoffsets, page.databytecounts


def made(*entries, data=b""):
    """A little TIFF file of one directory with these tags, of type LONG and one value each, and data behind it."""
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data


def one_strip(height, width, compression, data, *further):
    entries = [
        (256, width),
        (257, height),
        (258, 8),
        (259, compression),
        (262, 1),
        (277, 1),
        (279, len(data)),
        *further,
    ]
    return made(*entries, (273, 8 + 2 + 12 * (len(entries) + 1) + 4), data=data)


def test_a_file_made_by_hand_is_read():
    np.testing.assert_array_equal(grey(one_strip(2, 3, 1, bytes(range(6)))), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_file_cut_anywhere_is_refused(bigtiff):
    # Its directories come first, its pixels last.
    content = written(some_values((9, 11)), rowsperstrip=2, bigtiff=bigtiff)
    for size in range(len(content)):
        assert refusal(content[:size])


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
@pytest.mark.parametrize("seed", range(10))
def test_a_run_of_wrong_bytes_is_noticed(compression, seed):
    content = bytearray(written(some_values((60, 60)) // 40, compression=compression, rowsperstrip=20))
    offsets, counts = layout(content)
    middle = offsets[1] + counts[1] // 2
    content[middle : middle + 8] = np.random.default_rng(seed).integers(0, 256, 8, dtype=np.uint8).tobytes()
    assert "damaged" in refusal(content)


@pytest.mark.parametrize("compression", [*COMPRESSIONS, "zstd", "lzma"])
def test_data_of_another_length_are_refused(compression):
    for height in (8, 10):  # where nine rows were written
        assert "damaged" in refusal(with_tag(some_values((9, 11)), 257, height, compression=compression, metadata=None))


@pytest.mark.parametrize(
    ("compression", "data", "reason"),
    [
        (8, zlib.compress(bytes(6))[:-4], "have no end"),
        (8, zlib.compress(bytes(6))[:-1] + b"?", "incorrect data check"),
        (32773, b"\x05\0\0", "do not end with"),
        (32773, b"\xfb", "do not end with"),
        (32773, b"\xfb\0\0\0", "holds 7 bytes where 6 belong"),
        (5, b"\0\1\0\0", "before 1992"),
    ],
)
def test_compressed_data_that_are_wrong_at_their_end_are_refused(compression, data, reason):
    assert reason in refusal(one_strip(2, 3, compression, data))


@pytest.mark.parametrize("tag", [273, 279])
def test_a_strip_that_was_never_written_is_refused(tag):
    assert "part of it is missing" in refusal(with_tag(some_values((9, 11)), tag, 0))


@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
def test_a_strip_that_ends_early_is_refused(compression):
    content = bytearray(written(np.tile(some_values((9, 11)), (8, 8)), compression=compression))
    offsets, counts = layout(content)
    end = offsets[0] + counts[0]
    content[end - counts[0] // 3 : end] = bytes(counts[0] // 3)
    assert "damaged" in refusal(content) or "truncated" in refusal(content)


def test_jpeg_of_another_size_than_the_page_is_refused():
    content = written(some_values((16, 24)), compression="jpeg")
    start = content.index(b"\xff\xc0") + 5
    changed = content[:start] + struct.pack(">H", 60_000) + content[start + 2 :]
    assert "60000" in refusal(changed)


def test_strips_that_share_their_bytes_beyond_measure_are_refused():
    content = written(some_values((64, 64)), rowsperstrip=1)
    everywhere = struct.pack("<64H", *[len(content) - 200] * 64)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        entry = file.pages[0].tags[279]
    assert entry.dtype == 3
    changed = content[: entry.valueoffset] + everywhere + content[entry.valueoffset + 128 :]
    assert "larger than itself" in refusal(changed)


@pytest.mark.parametrize(("height", "width"), [(2**14, 2**14), (2**32 - 1, 2**32 - 1), (0, 5), (5, 0)])
def test_sizes_that_cannot_be_are_refused(height, width):
    assert refusal(one_strip(height, width, 1, bytes(10)))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_a_size_that_the_bytes_cannot_hold_is_refused_before_it_is_allocated(compression):
    assert "cannot hold" in refusal(one_strip(2**13, 2**14, compression, bytes(1000)))


@pytest.mark.parametrize("samples", [17, 65535])
def test_more_samples_than_fit_are_refused(samples):
    entries = [(256, 2**13), (257, 2**14), (258, 8), (262, 1), (277, samples)]
    assert "2 GiB" in refusal(made(*entries))


def test_directories_in_a_circle_are_refused():
    content = bytearray(written(some_values((9, 11)), metadata=None))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        last = file.pages.next_page_offset
    content[last : last + 4] = struct.pack("<I", 8)
    assert "larger than itself" in refusal(content)


@pytest.mark.parametrize("content", [b"", b"II", b"II*\0", b"II*\0\0\0\0\0", b"MM\0+\0\x08\0\0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_hardly_a_file_is_refused(content):
    assert refusal(content)


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 277, 278, 279])
@pytest.mark.parametrize("number", [0, 3, 255, 65535])
def test_whatever_number_a_tag_says_there_is_a_picture_or_a_reason(tag, number):
    try:
        values = read_tiff(with_tag(some_values((9, 11)), tag, number)).values
    except Refusal:
        return
    assert values.dtype in (np.uint8, np.uint16)


def test_nothing_is_printed_nor_logged(capfd, caplog):
    refusal(written(some_values((64, 64)), compression="zlib")[:-50])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
