"""One page of several, or a projection of all of them."""

import numpy as np
import pytest

from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.stacks import project, require_page


def frames(*values, dtype=np.uint8):
    return [np.full((2, 3, 1), value, dtype) for value in values]


@pytest.mark.parametrize(("page", "value"), [(1, 9), ("max", 250), ("mean", 88), (0, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_page_or_a_projection(page, value, dtype):
    result = project(frames(5, 9, 250, dtype=dtype), page)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.full((2, 3, 1), value))


def test_many_bright_frames_do_not_overflow():
    assert project(frames(*[65535] * 300, dtype=np.uint16), "mean").max() == 65535


@pytest.mark.parametrize(("page", "pages"), [(3, 3), (-1, 3), (1, 1)])
def test_a_page_that_is_not_there_is_refused(page, pages):
    with pytest.raises(Refusal, match=f"holds {pages} page"):
        require_page(page, pages)


@pytest.mark.parametrize("page", [0, 2, "max", "mean"])
def test_a_page_that_is_there_is_not(page):
    require_page(page, 3)
