"""Untrusted models of other formats and IDX files: each is read, or refused in one line."""

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import child
from xpcnn.data import read_idx
from xpcnn.data.mnist import MAX_BYTES

PARTS = 2


@child.linux
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_file_of_another_format_is_read_or_refused_in_one_line(tally, cases, seed, part):
    child.run(tally, "formats", seed, cases(40), part, PARTS)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 12) | st.integers(0, 2**32 - 1), min_size=1, max_size=4), st.binary(max_size=60))
def test_an_idx_file_is_read_only_if_it_is_as_long_as_it_says(tmp_path_factory, shape, content):
    path = tmp_path_factory.getbasetemp() / "idx"
    path.write_bytes(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content)
    try:
        assert read_idx(path).tobytes() == content
    except ValueError as error:
        child.refused(error)
        assert math.prod(shape) != len(content) or math.prod(size or 1 for size in shape) > MAX_BYTES
    else:
        assert math.prod(shape) == len(content)
