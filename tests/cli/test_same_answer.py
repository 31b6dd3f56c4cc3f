"""The same seed gives the same bits: in every process, on any number of threads, by command or from Python."""

import os
import re
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import from_here
from xpcnn import data, presets, recipe

EPOCHS = 1
DIGITS = ["train", "digits", "--epochs", str(EPOCHS), "--backend", "numpy", "--shards", "3"]


def weights(run):
    """The weights that a run came to, as bytes."""
    return {name: value.tobytes() for name, value in xpcnn.load(run / "last.safetensors").get_weights().items()}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """What one process comes to on one thread, without a terminal."""
    run = tmp_path_factory.mktemp("first") / "run"
    line, environment = from_here([*DIGITS, "--threads", "1", "--out", run])
    subprocess.run(line, env=environment, check=True, capture_output=True)
    return run


@pytest.fixture(scope="module")
def expected(first):
    """The weights of that run."""
    return weights(first)


def test_in_another_process_on_any_number_of_threads(process, here, first, expected):
    for threads in ("1", "2", "3"):
        assert process(*DIGITS, "--threads", threads, "--out", threads).code == 0
        assert weights(here / threads) == expected
        for file in ("best.safetensors", "last.safetensors", "metrics.json", "parts.csv"):
            assert (here / threads / file).read_bytes() == (first / file).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_with_a_progress_bar_in_a_terminal(here, expected):
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(
        theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0)
    )  # no bar is drawn in a terminal of no width
    line, environment = from_here([*DIGITS, "--out", "watched"])
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=theirs) as child:
        os.close(theirs)
        seen = []

        def read():
            try:
                while part := os.read(ours, 1000):
                    seen.append(part)
            except OSError:  # what Linux says when the last writer has gone
                pass

        reader = threading.Thread(target=read)
        reader.start()
        child.communicate(timeout=60)
        reader.join()
    os.close(ours)
    assert child.returncode == 0
    shown = b"".join(seen)
    assert b"epoch 1/1" in shown
    assert re.search(rb"\d+/1295, +[\d.]+ images/s, loss [\d.]+  accuracy [\d.]+  \d\d:\d\d left", shown)
    assert weights(here / "watched") == expected


def test_through_python_as_through_the_command(here, expected):
    images = data.load_digits()
    split = data.stratified_split(images.y, 0.2, 0.1, seed=0, classes=images.classes)
    preprocessing = data.Preprocessing.measure(images.x, data.Decoding(8, 8, 1), rows=split.train)
    shape = images.x.shape[1:]
    model = xpcnn.Sequential(presets.get("small")(shape, 10), shape, xp="numpy", seed=0)
    recipe.compile(model, EPOCHS * -(-len(split.train) // recipe.BATCH_SIZE))
    x, y = data.Normalized(images.x, split.train, preprocessing), images.y[split.train]
    history = model.fit(x, y, epochs=EPOCHS, batch_size=recipe.BATCH_SIZE, seed=0, shards=3, augment="shift", verbose=0)
    assert {name: value.tobytes() for name, value in model.get_weights().items()} == expected
    assert np.isfinite(history.steps).all()
