"""How many processors a process may use, on every system."""

import os

import pytest

from xpcnn.processors import available_threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system holds no process to some processors")
def test_those_that_the_process_is_held_to_are_counted():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_threads() == len(before)


@pytest.mark.parametrize(("processors", "expected"), [(6, 6), (None, 1)])
def test_systems_that_cannot_say_which_processors_a_process_may_use(monkeypatch, processors, expected):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert available_threads() == expected
