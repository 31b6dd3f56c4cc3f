"""Untrusted models of other formats, PyTorch's files and IDX files: each is read, or refused in one line."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import child
from xpcnn.data import read_idx
from xpcnn.data.mnist import MAX_BYTES
from xpcnn.formats.torch_tensor import Storage, View

PARTS = 2


@child.linux
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("module", ["formats", "state_dicts", "configs"])
def test_a_file_of_another_format_is_read_or_refused_in_one_line(tally, cases, seed, module, part):
    child.run(tally, module, seed, cases(40), part, PARTS)


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


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=4), st.integers(0, 9), st.integers(0, 30))
def test_a_view_is_made_only_if_it_is_inside_its_storage(sizes_and_strides, offset, count):
    shape, strides = zip(*sizes_and_strides, strict=True) if sizes_and_strides else ((), ())
    places = offset + sum(
        (place * stride for place, stride in zip(np.indices(shape), strides, strict=True)), np.zeros(shape)
    )
    numbers = np.arange(count, dtype=np.float32)
    try:
        found = View.checked(Storage("F32", "0", count), offset, shape, strides).tensor(numbers.tobytes())
    except ValueError:
        assert places.max() >= count
    else:
        np.testing.assert_array_equal(found.values(), places)
