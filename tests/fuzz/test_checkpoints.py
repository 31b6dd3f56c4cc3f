"""Untrusted checkpoints: each is refused in one line, or the fit resumes to its end with finite weights."""

import pytest

from tests.fuzz import child

PARTS = 2


@child.linux
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_checkpoint_is_refused_in_one_line_or_gone_on_with(tally, cases, seed, part):
    child.run(tally, "checkpoints", seed, max(1, cases(40) // 2), part, PARTS)
