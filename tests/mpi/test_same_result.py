"""Any number of ranks gives the same result as one process."""

import numpy as np
import pytest

from tests.mpi import fits
from tests.mpi.conftest import told

CASES = {
    "every kind of layer": {},
    "no layer in which pieces meet": {"model": "plain"},
    "an uneven end": {"n": 51, "batch_size": 33},
    "fewer pieces than ranks": {"n": 20, "batch_size": 8, "shards": 1},
    "an odd number of pieces": {"batch_size": 60, "shards": 7},
    "a piece an image": {"n": 21, "batch_size": 10, "shards": 10},
    "weights, and no validation": {"weigh": True, "validation": False},
    "smoothed labels": {"smoothing": 0.2},
    "a part kept for validation": {"validation": False, "validation_split": 0.25},
    "a learning rate that falls": {"plateau": True, "epochs": 4},
    "features of views": {"model": "frozen", "augment": "dihedral", "epochs": 8},
}


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("case", CASES)
def test_bit_for_bit(ranks, tally, n, case):
    with tally.case(f"{n} ranks"):
        one = fits.fit(alone=True, **CASES[case])
        found = told(ranks(n, "fit", **CASES[case]))
        assert len(found) == n
        for other in found:
            assert other == one


@pytest.mark.parametrize("n", [2, 4])
def test_sums_in_any_order_stay_within_rounding(ranks, tally, n):
    with tally.case(f"{n} ranks"):
        one = fits.fit(alone=True, exact=False)
        for other in told(ranks(n, "fit", exact=False)):
            np.testing.assert_allclose(other["values"], one["values"], rtol=1e-3, atol=1e-5)


def test_threads_and_ranks_together(ranks, tally):
    with tally.case("2 ranks"):
        one = fits.fit(alone=True, batch_size=64)
        assert told(ranks(2, "fit", batch_size=64, threads=2)) == [one, one]


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (2, 0), (0, 2)])
def test_a_fit_goes_on_on_another_number_of_ranks(ranks, tmp_path, tally, before, after):
    with tally.case("resumes"):
        whole = fits.fit(alone=True, epochs=4, save=str(tmp_path / "whole"))
        path = str(tmp_path / "checkpoint")

        def part(n, **options):
            return told(ranks(n, "fit", **options))[0] if n else fits.fit(alone=True, **options)

        part(before, epochs=4, save=path, stop_after=7)
        assert part(after, epochs=4, save=path, resume=path) == whole


@pytest.mark.parametrize(("before", "after"), [(2, 3), (0, 2), (2, 0)])
def test_features_that_some_ranks_have_kept_are_read_by_others(ranks, tmp_path, tally, before, after):
    with tally.case("kept features"):
        options = {"model": "frozen", "augment": "dihedral", "epochs": 8}
        whole, keep = fits.fit(alone=True, **options), str(tmp_path / "kept")
        written = set()
        for n in (before, after):
            found = told(ranks(n, "fit", keep=keep, **options)) if n else [fits.fit(alone=True, keep=keep, **options)]
            assert found == [whole] * max(n, 1)
            written |= {(path, path.stat().st_mtime_ns) for path in (tmp_path / "kept").iterdir()}
        assert len(written) == 1
