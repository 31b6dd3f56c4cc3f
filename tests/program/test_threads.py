import threading

import numpy as np
import pytest
import threadpoolctl

from tests.models import SHAPE, samples
from xpcnn import layers
from xpcnn.processors import available_threads
from xpcnn.program import threads
from xpcnn.program.execute import Executor
from xpcnn.program.network import Network
from xpcnn.training.engine.host_prediction import HostPrediction


def blas_threads():
    # NumPy's own: another package, such as OpenCV, may bring and load a second one at any time.
    pools = (pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
    return {pool["num_threads"] for pool in pools if "numpy" in pool["filepath"]}


@pytest.fixture
def two_blas_threads():
    """BLAS set to two threads, whatever the machine has."""
    with threadpoolctl.threadpool_limits(2, "blas"):
        if blas_threads() != {2}:
            pytest.skip("threadpoolctl cannot set the threads of this machine's BLAS")
        yield


def test_blas_is_held_to_one_thread_and_given_back(two_blas_threads):
    with threads.blas_on_one_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_an_error_gives_blas_back(two_blas_threads):
    with pytest.raises(ZeroDivisionError), threads.blas_on_one_thread():
        _ = 1 / 0
    assert blas_threads() == {2}


def test_the_last_of_overlapping_holders_gives_blas_back(two_blas_threads):
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with threads.blas_on_one_thread():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with threads.blas_on_one_thread():
        other.start()
        assert inside.wait(10)
    assert blas_threads() == {1}
    leave.set()
    other.join()
    assert blas_threads() == {2}


class OneForEachThread(threading.local):
    """A library in which each thread has a setting of its own, as MKL is."""

    num_threads = 8

    def set_num_threads(self, count):
        self.num_threads = count


def test_a_setting_of_each_thread_is_held_and_given_back_in_that_thread(monkeypatch):
    library, seen = OneForEachThread(), []
    monkeypatch.setattr(threads, "_libraries", lambda: ([], [library]))

    def hold():
        with threads.blas_on_one_thread():
            seen.append(library.num_threads)
        seen.append(library.num_threads)

    other = threading.Thread(target=hold)
    with threads.blas_on_one_thread():
        other.start()
        other.join()
        assert library.num_threads == 1
    assert (library.num_threads, seen) == (8, [1, 8])


class Watch(layers.Layer):
    """Notes what BLAS is held to in every thread that works in it, of which there must be three at once."""

    def __init__(self, library):
        super().__init__()
        self.library, self.seen, self.all_here = library, {}, threading.Barrier(3)

    def forward(self, params, x, context):
        self.all_here.wait(30)
        self.seen[threading.current_thread().name] = self.library.num_threads
        return x, lambda dy, gradients: dy


def test_every_thread_that_works_holds_its_own_blas(monkeypatch):
    watch = Watch(OneForEachThread())
    monkeypatch.setattr(threads, "_libraries", lambda: ([], [watch.library]))
    network = Network([watch, layers.Flatten()], SHAPE, np)
    x, _ = samples(30)
    with Executor(network, 30, shards=3, threads=3) as runner:
        prediction = HostPrediction(runner)
        prediction.infer(x, network.program(), np.empty((30, 72), np.float32))
    assert len(watch.seen) == 3
    assert set(watch.seen.values()) == {1}


def test_every_processor_works_by_default():
    assert threads.check_threads(None) == min(available_threads(), threads.MOST_THREADS)
    assert threads.check_threads(None, threads.WORTH_A_THREAD - 1) == 1
    assert threads.check_threads(None, threads.WORTH_A_THREAD) == threads.check_threads(None)
    assert threads.check_threads(3, 0) == 3


def test_more_threads_than_the_memory_for_columns_allows_are_not_used():
    assert threads.check_threads(10_000) == threads.MOST_THREADS
    assert threads.check_threads(3) == 3


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, 1), (16, 1), (32, 2), (33, 2), (100, 6), (1024, 64), (20_000, 64)]
)
def test_a_piece_has_about_16_images_on_every_machine(monkeypatch, batch_size, expected):
    monkeypatch.setattr(threads, "available_threads", lambda: 64)
    assert threads.check_shards(None, batch_size) == expected


@pytest.mark.parametrize("value", [0, -1, 1.0, "2", True])
@pytest.mark.parametrize(
    ("what", "check"), [("threads", threads.check_threads), ("shards", lambda value: threads.check_shards(value, 32))]
)
def test_only_whole_numbers_from_1_on_are_counts(what, check, value):
    with pytest.raises(ValueError, match=f"{what} must be a whole number, at least 1. Received: "):
        check(value)
