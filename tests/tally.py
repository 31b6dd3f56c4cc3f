"""Counts the cases that were tried and their outcomes, over all tests and worker processes of one run."""

import traceback
from collections import Counter
from contextlib import contextmanager

import pytest

OUTCOMES = ("survived", "refused", "failed")


class Case:
    """One try. It survives unless it says that it was refused, or an exception ends it."""

    outcome = "survived"

    def refused(self):
        self.outcome = "refused"


class Tally:
    """The cases of one test: {(kind, outcome): number}. A failed one does not keep the others from being tried."""

    def __init__(self):
        self.counts = Counter()
        self.failures = []

    @contextmanager
    def case(self, kind, name=""):
        case = Case()
        try:
            yield case
        except Exception:
            case.outcome = "failed"
            self.failures.append(f"{kind} {name}:\n{traceback.format_exc()}")
        self.counts[kind, case.outcome] += 1

    def check(self):
        """Fail the test if a case has failed."""
        if self.failures:
            pytest.fail(f"{len(self.failures)} failed, the first of them:\n" + "\n".join(self.failures[:3]))


class Table:
    """The cases of a whole run, gathered from the reports of its tests, shown when everything else has been said."""

    def __init__(self, brief=False):
        self.brief = brief
        self.counts = Counter()
        self.failed, self.counted = set(), set()

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when == "teardown":
            for kind, outcome, number in dict(report.user_properties).get("tally", ()):
                self.counts[kind, outcome] += number
                if outcome == "failed":
                    self.counted.add(report.nodeid)

    def pytest_unconfigure(self, config):
        for test in self.failed - self.counted:
            self.counts[test, "failed"] += 1
        print("\n".join(self.lines()), flush=True)

    def lines(self):
        """A line for each kind, and the sum of all as the last."""
        kinds = sorted({kind for kind, _ in self.counts})
        width = max(map(len, kinds), default=0)
        rows = [
            [sum(self.counts[kind, o] for o in OUTCOMES), *(self.counts[kind, o] for o in OUTCOMES)] for kind in kinds
        ]
        yield "\n" + "  ".join([f"{'case':{width}}", *(f"{name:>8}" for name in ("tried", *OUTCOMES))])
        for kind, row in zip(kinds, rows, strict=True):
            yield "  ".join([f"{kind:{width}}", *(f"{number:8,}" for number in row)])
        tried, survived, refused, failed = map(sum, zip(*rows, strict=True)) if rows else (0, 0, 0, 0)
        if self.brief:
            yield f"tried {tried}, failed {failed}"
        else:
            yield f"tried {tried}, survived {survived}, refused {refused}, failed {failed}"
