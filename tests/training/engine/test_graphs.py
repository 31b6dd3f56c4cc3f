"""Work that is captured once and then launched as a whole."""

import numpy as np
import pytest

from tests import strict
from xpcnn.backend import to_host
from xpcnn.training.engine.graphs import WARM_UPS, Captured, GraphWarning, own_stream


def test_launches_do_what_calls_did_on_what_lies_there_then(device):
    x, total = device.ones(3), device.zeros(3)
    calls = []

    def work():
        calls.append(None)
        nonlocal total
        total += device.exp(x) * device.arange(3)
        return total * 2

    captured = Captured(device, work)
    expected = np.zeros(3)
    with own_stream(device):
        for step in range(6):
            x[...] = device.asarray(np.full(3, step / 10))
            expected += np.exp(step / 10) * np.arange(3)
            result = captured()
            np.testing.assert_allclose(to_host(total), expected, rtol=1e-12)
            np.testing.assert_allclose(to_host(result), 2 * expected, rtol=1e-12)
    assert len(calls) == WARM_UPS + 1, "called to warm up and to be captured, never again"


def test_a_launch_is_one():
    xp = strict.xp
    x = xp.ones(3)
    captured = Captured(xp, lambda: xp.exp(xp.tanh(x)) + 1)
    with own_stream(xp):
        for _ in range(WARM_UPS + 1):
            captured()
        with strict.counting() as counts, strict.forbid():
            captured()
    assert counts.launches == 1


def test_where_something_waits_a_warning_comes_once_and_it_is_called_every_time(device):
    x = device.ones(3)
    calls = []

    def work():
        calls.append(None)
        return float((x * 2).sum())

    captured = Captured(device, work)
    with own_stream(device):
        results = [captured() for _ in range(WARM_UPS)]
        with pytest.warns(GraphWarning, match=r"can't be captured as a CUDA graph \(.+\), so its kernels") as seen:
            results += [captured() for _ in range(3)]
    assert results == [6.0] * 5
    assert len(seen) == 1
    assert len(calls) == 6, "once more, in vain, for the capture"


def test_an_error_of_the_work_itself_is_raised(device):
    def work():
        raise ValueError("no such luck")

    with own_stream(device), pytest.raises(ValueError, match="no such luck"):
        Captured(device, work)()


def test_a_stream_of_ones_own_ends_with_its_work_done():
    with strict.counting() as counts, own_stream(strict.xp):
        assert counts.waits == 1, "for what was begun before"
    assert counts.waits == 2


def test_an_interrupted_capture_leaves_the_stream_as_it_was(device):
    calls = []

    def work():
        calls.append(None)
        if len(calls) == WARM_UPS + 1:
            raise KeyboardInterrupt
        return device.ones(2) * 2

    captured = Captured(device, work)
    with own_stream(device):
        for _ in range(WARM_UPS):
            captured()
        with pytest.raises(KeyboardInterrupt):
            captured()
        assert not device.cuda.get_current_stream().is_capturing()
        np.testing.assert_array_equal(to_host(captured()), [2, 2])


def test_the_memory_is_given_back_when_nobody_holds_it_any_more(monkeypatch):
    freed = []
    monkeypatch.setattr(strict.MemoryPool, "free_all_blocks", lambda self: freed.append(self))
    captured = Captured(strict.xp, lambda: strict.xp.ones(2))
    with own_stream(strict.xp):
        for _ in range(WARM_UPS + 2):
            captured()
    assert freed == []
    del captured
    assert len(freed) == 1


def test_a_threads_stream_is_always_the_same(device):
    streams = []
    for _ in range(2):
        with own_stream(device):
            streams.append(device.cuda.get_current_stream())
    assert streams[0] is streams[1]
