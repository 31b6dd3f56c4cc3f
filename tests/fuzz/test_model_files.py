"""Untrusted model files: each is refused in one line, or predicts finite values in bounded time and memory."""

import pytest

from tests.fuzz import child

PARTS = 2


@child.linux
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_model_file_is_refused_in_one_line_or_predicts(tally, cases, seed, part):
    child.run(tally, "model_files", seed, cases(40), part, PARTS)
