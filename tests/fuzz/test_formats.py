"""Models of other formats and IDX files of strangers: each is read, or refused in one line."""

import pytest

from tests.fuzz import child

PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_a_file_of_another_format_is_read_or_refused_in_one_line(tally, cases, seed, part):
    child.run(tally, "formats", seed, cases(40), part, PARTS)
