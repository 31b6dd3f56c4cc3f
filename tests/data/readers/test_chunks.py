"""Chunks, blocks and boxes with false sizes are refused or ignored."""

import struct

import numpy as np
import pytest

from tests.data.readers.files import animated, apng, gif
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.boxes import avif_frames, avif_orientation, boxes, find
from xpcnn.data.readers.chunks import gif_disposals, png_chunks, webp_chunks

FRAMES = [np.full((4, 6, 3), value, np.uint8) for value in (0, 120, 255)]
GIF = gif(4, 3, [(0, 0, 4, 3, 0, 1), (1, 1, 2, 2, 1, 2), (0, 0, 2, 2, 2, 3)])


def array(content):
    return np.frombuffer(content, np.uint8)


def test_the_chunks_of_a_png_end_with_its_end():
    names = [name for name, _, _ in png_chunks(array(apng(FRAMES[:2]) + b"more than that"))]
    assert names == [b"IHDR", b"acTL", b"fcTL", b"IDAT", b"fcTL", b"fdAT", b"IEND"]


def test_the_chunks_of_a_webp_end_where_it_says_so():
    content = animated(FRAMES, "WEBP", lossless=True)
    names = [name for name, _, _ in webp_chunks(array(content + b"more than that"))]
    assert names == [b"VP8X", b"ANIM", b"ANMF", b"ANMF", b"ANMF"]


@pytest.mark.parametrize(
    ("content", "walk"),
    [(apng(FRAMES), png_chunks), (animated(FRAMES, "WEBP"), webp_chunks), (GIF, gif_disposals)],
)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_one_that_is_cut_off_is_refused(content, walk, kept):
    with pytest.raises(Refusal, match="truncated or damaged"):
        list(walk(array(content[: int(len(content) * kept)])))


def test_frames_of_a_gif_are_counted_with_their_disposals():
    assert gif_disposals(array(GIF)) == [1, 2, 3]


def test_a_comment_does_not_count():
    at = GIF.index(b"\x21\xf9")
    assert len(gif_disposals(array(GIF[:at] + b"\x21\xfe\x02,;\0" + GIF[at:]))) == 3


@pytest.mark.parametrize("content", [b"GIF89a", b"GIF89a" + bytes(8), GIF[:-1] + b"?"])
def test_a_gif_without_an_end_is_refused(content):
    with pytest.raises(Refusal, match="GIF that is truncated or damaged"):
        gif_disposals(array(content))


def box(name, content=b"", size=None):
    return struct.pack(">I", 8 + len(content) if size is None else size) + name + content


@pytest.mark.parametrize("size", [0, 1, 7, 8, 2**32 - 1])
def test_boxes_that_lie_end_with_their_parent(size):
    content = array(box(b"free", bytes(4)) + box(b"evil", bytes(20), size))
    found = list(boxes(content, 0, content.size))
    assert found[0].name == b"free"
    assert all(each.start <= each.end <= content.size for each in found)


def test_a_box_of_64_bits_is_read():
    content = array(struct.pack(">I4sQ", 1, b"long", 20) + b"data" + box(b"next"))
    sizes = {each.name: each.end - each.start for each in boxes(content, 0, content.size)}
    assert sizes == {b"long": 4, b"next": 0}


def test_boxes_are_found_within_each_other():
    content = array(box(b"moov", box(b"free") + box(b"trak", b"here")))
    found = find(content, b"moov", b"trak")
    assert content[found.start : found.end].tobytes() == b"here"
    assert find(content, b"moov", b"mdia") is None


FTYP = box(b"ftyp", b"avif\0\0\0\0")
SEQUENCE = box(b"ftyp", b"avis\0\0\0\0")


@pytest.mark.parametrize(
    "content",
    [
        FTYP,
        FTYP + box(b"meta", bytes(4) + box(b"pitm") + box(b"iprp", box(b"ipco") + box(b"ipma"))),
        FTYP + box(b"meta", bytes(4) + box(b"pitm", b"\1") + box(b"iprp", box(b"ipco", box(b"irot")) + box(b"ipma"))),
        FTYP
        + box(
            b"meta",
            bytes(4)
            + box(b"pitm", bytes(4) + b"\0\1")
            + box(b"iprp", box(b"ipco", box(b"irot", b"\1")) + box(b"ipma", bytes(4) + b"\xff\xff\xff\xff\0\1\xff")),
        ),
        SEQUENCE,
        SEQUENCE + box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", box(b"stsz", bytes(5))))))),
    ],
)
def test_an_avif_that_says_nothing_sensible_is_upright_and_of_one_frame(content):
    assert avif_orientation(array(content)) == 1
    assert avif_frames(array(content)) == 1
