"""Images of strangers: each becomes bytes of the size asked for, or a reason in one line, and no crash."""

import pytest

from tests.fuzz import child

PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_an_image_is_read_or_refused_in_one_line(tally, cases, seed, part):
    child.run(tally, "images", seed, cases(40), part, PARTS)
