"""Untrusted images: each becomes bytes of the requested size, or a one-line reason, and never a crash."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import child
from xpcnn.data import Decoding, UndecodableImage, read_image

PARTS = 2


@child.linux
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_an_image_is_read_or_refused_in_one_line(tally, cases, seed, part):
    child.run(tally, "images", seed, cases(40), part, PARTS)


MAGIC = (
    b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"II*\0\x08\0\0\0", b"MM\0*", b"BM", b"GIF89a", b"GIF87a",
    b"RIFF\xff\0\0\0WEBPVP8 ", b"RIFF\xff\0\0\0WEBPVP8L", b"P6\n", b"P1 ", b"\x59\xa6\x6a\x95", b"#?RADIANCE\n",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"\0\0\0\x1cftypavif", b"v/1\x01", b"PF\n",
)  # fmt: skip


@settings(max_examples=100)
@given(st.sampled_from(MAGIC), st.binary(max_size=200))
def test_any_bytes_behind_the_first_of_a_format_are_read_or_refused(tmp_path_factory, magic, rest):
    path = tmp_path_factory.getbasetemp() / "image.png"
    path.write_bytes(magic + rest)
    try:
        assert read_image(path, Decoding(3, 2, 3)).shape == (3, 3, 2)
    except UndecodableImage as error:
        child.refused(error)
