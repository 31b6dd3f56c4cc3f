"""How long a user waits: a fresh process until its first epoch ends, and training until MNIST is learnt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.run import Run
from xpcnn import Sequential, callbacks, data, presets
from xpcnn.data import Decoding, Normalized, Preprocessing
from xpcnn.optimizers import Adam

#: What a fresh process runs; it prints when the first epoch ended, and how long that epoch took.
FIRST_EPOCH = """
import json, sys, time
from xpcnn import Sequential, data, presets
digits = data.load_digits()
shape = digits.x.shape[1:]
model = Sequential(presets.get("small")(shape, 10), input_shape=shape, xp=sys.argv[1])
model.compile("adam", "cross_entropy")
imported = time.time()
history = model.fit(digits.x.astype("float32") / 255, digits.y, epochs=1, batch_size=32, verbose=0)
print(json.dumps({"imported": imported, "ended": time.time(), "epoch": history.history["seconds"][0]}))
"""
#: Most seconds that such a process may take.
MOST_SECONDS = 60
#: The accuracy on MNIST's test images to reach, by which presets in which precisions, and within how many epochs.
ACCURACY, LEARNERS, PRECISIONS, MOST_EPOCHS, BATCH = 0.985, ("lenet", "small"), ("float32", "bfloat16"), 10, 128


def start(run: Run) -> None:
    """The first epoch of ``digits`` in a fresh process, without compiled kernels on disk, and again with them."""
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "full"):
            what = f"a fresh process until the first epoch of digits ends, the kernel cache {cache}"
            figures = run.measure("start", what, lambda cache=cache: first_epoch(run.gpu.backend, folder, cache))
            if figures:
                print(
                    f"{what}: {figures['seconds']:.2f} s, of which {figures['before']:.2f} s until the fit, "
                    f"{figures['epoch']:.2f} s the epoch",
                    flush=True,
                )


def first_epoch(backend: str, folder: str, cache: str) -> dict[str, Any]:
    """Return the seconds of a process that keeps its kernels in a folder; RuntimeError if it fails."""
    before = time.time()
    done = subprocess.run(
        [sys.executable, "-c", FIRST_EPOCH, backend],
        env={**os.environ, "CUPY_CACHE_DIR": folder, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True, text=True, timeout=MOST_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    times = json.loads(done.stdout)
    seconds = {"seconds": times["ended"] - before, "before": times["imported"] - before, "epoch": times["epoch"]}
    return {"cache": cache, **seconds}


class UntilLearnt(callbacks.Callback):
    """Stops at the accuracy to reach."""

    def on_epoch_end(self, fit: Any) -> None:
        if fit.logs["val_accuracy"] >= ACCURACY:
            fit.stop(f"accuracy {fit.logs['val_accuracy']:.4f}")


def mnist(run: Run) -> None:
    """Training on MNIST's images until its test images are classified well enough, with compiled kernels."""
    if run.data is None:
        run.results["left_out"].append("mnist: no data: give --data FOLDER, which contains mnist/")
        return
    for name in LEARNERS:
        for precision in PRECISIONS:
            what = f"mnist, {name}, {precision}"
            figures = run.measure("mnist", what, lambda name=name, precision=precision: learn(run, name, precision))
            if figures:
                print(
                    f"{what}: {figures['seconds']:.2f} s to a test accuracy of {figures['accuracy']:.4f}, "
                    f"{figures['epochs']} epochs{'' if figures['reached'] else f', {ACCURACY} NOT reached'}",
                    flush=True,
                )


def learn(run: Run, name: str, precision: str) -> dict[str, Any]:
    """Train a preset twice, the first time for an epoch that compiles what the second one takes the time of."""
    train, test = data.load_mnist(run.data / "mnist")
    scaled = Preprocessing(Decoding(*train.x.shape[2:], 1), (0.0,), (255.0,))
    images, tested = Normalized(train.x, np.arange(len(train.x)), scaled), scaled.normalize(test.x)
    shape, seconds = train.x.shape[1:], 0.0
    for epochs in (1, MOST_EPOCHS):
        model = Sequential(presets.get(name)(shape, 10), input_shape=shape, xp="numpy")
        model.to(run.gpu.xp)
        model.compile(Adam(2e-3), "cross_entropy", precision=precision)
        before = time.perf_counter()
        history = model.fit(
            images, train.y, epochs=epochs, batch_size=BATCH, validation_data=(tested, test.y),
            callbacks=[UntilLearnt()], verbose=0,
        )  # fmt: skip
        seconds = time.perf_counter() - before
    accuracies = history.history["val_accuracy"]
    return {
        "network": name, "precision": precision, "seconds": seconds, "epochs": len(accuracies),
        "accuracy": accuracies[-1], "reached": accuracies[-1] >= ACCURACY,
    }  # fmt: skip
