"""Ranks compared with threads, and the effect of a slower network: the tables of docs/distributed.md.

    python -m benchmarks.scaling [--quick]

Needs mpi4py and mpiexec. Each figure is the median of the seconds of a step in a separate process or job; they run one
after another, for several rounds.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import xpcnn
from xpcnn import distributed, presets, recipe
from xpcnn.training.callbacks import Callback
from xpcnn.training.distributed import Ranks

NETWORKS = {
    "blood, 50x50 grey": ("blood", (1, 50, 50), 8),
    "small, 28x28 grey": ("small", (1, 28, 28), 10),
    "small, 64x64 colour": ("small", (3, 64, 64), 8),
}
BATCH = 64
#: Seconds per message in addition to its bytes, and bytes per second.
LINKS = {"10 Gbit/s, 20 µs": (2e-5, 1.25e9), "1 Gbit/s, 50 µs": (5e-5, 1.25e8), "100 Mbit/s, 200 µs": (2e-4, 1.25e7)}
MANY = (2, 8, 64, 512)


class Slow(Ranks):
    """Ranks whose messages are delayed, as on a slower network."""

    def __init__(self, comm, latency, bandwidth):
        super().__init__(comm)
        self.latency, self.bandwidth = latency, bandwidth

    def delay(self, count):
        until = time.perf_counter() + self.latency + count / self.bandwidth
        while time.perf_counter() < until:
            pass

    def _send(self, value, to):
        self.delay(200 if not hasattr(value, "nbytes") else value.nbytes)
        super()._send(value, to)

    def add(self, xp, flat, holders):
        if self.rank == 1:
            self.delay(flat.nbytes)  # up
        result = super().add(xp, flat, holders)
        self.delay(flat.nbytes)  # and down
        return result


class Clock(Callback):
    """Records the time of every step."""

    def __init__(self):
        self.at = []

    def on_step_end(self, fit):
        self.at.append(time.perf_counter())


def side(options):
    """Train for some steps, and print the median time of a step."""
    preset, shape, classes = NETWORKS[options["network"]]
    together = None
    if options["ranks"]:
        together = distributed.world(exact=options["exact"])
        if options.get("link"):
            together = Slow(together._comm, *LINKS[options["link"]])
    draws = np.random.default_rng(0)
    n = options["batch"] * options["steps"]
    x, y = draws.normal(size=(n, *shape)).astype(np.float32), draws.integers(0, classes, n)
    model = xpcnn.Sequential(presets.get(preset)(shape, classes), shape, "numpy", seed=0)
    recipe.compile(model, options["steps"])
    clock, more = Clock(), {} if together is None else {"communicator": together}
    model.fit(
        x, y, batch_size=options["batch"], callbacks=[clock], threads=options["threads"], verbose=0, **more
    )  # fmt: skip
    seconds = np.diff(clock.at)[2:]  # the first are recorded
    found = {"seconds": float(np.median(seconds)), "bytes": model.network.parameters.nbytes}
    if together is not None:
        found["share"] = together.seconds / (clock.at[-1] - clock.at[0])
        if together.rank:
            return
    print(json.dumps(found), flush=True)


def measure(**options):
    """Run one side in a separate process or job."""
    line = [sys.executable, "-m", "benchmarks.scaling", "--side", json.dumps(options)]
    if options["ranks"]:
        mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
        line = [mpiexec, "-n", str(options["ranks"]), *line]
    done = subprocess.run(
        line, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def median(found, key="seconds"):
    return statistics.median(one[key] for one in found)


def sides(steps, rounds):
    """Measure every side in turn, for several rounds."""
    table = {}
    for name in NETWORKS:
        common = {"network": name, "steps": steps, "exact": True}
        ways = {
            "1 thread": {"ranks": 0, "threads": 1, "batch": BATCH},
            "2 threads": {"ranks": 0, "threads": 2, "batch": BATCH},
            "2 ranks": {"ranks": 2, "threads": 1, "batch": BATCH},
            "2 ranks, fast sums": {"ranks": 2, "threads": 1, "batch": BATCH, "exact": False},
            "2 ranks, twice the batch": {"ranks": 2, "threads": 1, "batch": 2 * BATCH},
        }
        found = {way: [] for way in ways}
        for _ in range(rounds):
            for way, options in ways.items():
                found[way].append(measure(**{**common, **options}))
        table[name] = found
    return table


def messages(name):
    """Return how many messages a rank waits for in a step: for the sum, losses and outputs, the end, each BatchNorm."""
    preset, shape, classes = NETWORKS[name]
    model = xpcnn.Sequential(presets.get(preset)(shape, classes), shape, "numpy")
    return 2 + 2 + 2 + 4 * sum(node.layer.reduces_over_batch for node in model.network.nodes)


def predicted(compute, ranks, count, size, latency, bandwidth):
    """Return the modelled seconds of a step that computes for ``compute`` on each rank, with messages in a tree."""
    levels = math.ceil(math.log2(ranks))
    return compute + levels * (count * latency + 2 * size / bandwidth)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side")
    given = parser.parse_args()
    if given.side:
        side(json.loads(given.side))
        return
    steps, rounds = (8, 1) if given.quick else (30, 3)
    table = sides(steps, rounds)
    print("| network | 1 thread, ms a step | 2 threads | 2 ranks | 2 ranks, fast sums | share of sums | "
          "2 ranks, twice the batch | kB summed |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, found in table.items():
        one = median(found["1 thread"])
        ratio = {way: one / median(runs) for way, runs in found.items()}
        print(
            f"| {name} | {1e3 * one:.1f} | {ratio['2 threads']:.2f} | {ratio['2 ranks']:.2f} | "
            f"{ratio['2 ranks, fast sums']:.2f} | {100 * median(found['2 ranks'], 'share'):.0f} % | "
            f"{2 * ratio['2 ranks, twice the batch']:.2f} | {found['2 ranks'][0]['bytes'] / 1e3:.0f} |"
        )
    print("\n| network | link | predicted, ms a step of 2 ranks | measured | measured / predicted |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in table.items():
        base, size = median(found["2 ranks"]), found["2 ranks"][0]["bytes"]
        for link, (latency, bandwidth) in LINKS.items():
            expected = predicted(base, 2, messages(name), size, latency, bandwidth)
            runs = [
                measure(network=name, steps=steps, exact=True, ranks=2, threads=1, batch=BATCH, link=link)
                for _ in range(rounds)
            ]
            seconds = median(runs)
            print(f"| {name} | {link} | {1e3 * expected:.1f} | {1e3 * seconds:.1f} | {seconds / expected:.2f} |")
    print(f"\n| network, {BATCH} images a rank | link | {' | '.join(f'{ranks} ranks' for ranks in MANY)} | "
          f"{BATCH} images in all: fastest with |")  # fmt: skip
    print("| --- | --- |" + " --- |" * len(MANY) + " --- |")
    for name, found in table.items():
        one, size = median(found["1 thread"]), found["2 ranks"][0]["bytes"]
        for link, (latency, bandwidth) in LINKS.items():
            shares = [one / predicted(one, ranks, messages(name), size, latency, bandwidth) for ranks in MANY]
            seconds = {1: one} | {
                ranks: predicted(one / ranks, ranks, messages(name), size, latency, bandwidth)
                for ranks in (2**level for level in range(1, 7))
            }
            best = min(seconds, key=lambda ranks: seconds[ranks])
            print(
                f"| {name} | {link} | {' | '.join(f'{100 * share:.0f} %' for share in shares)} | {best}, "
                f"{one / seconds[best]:.1f} times as fast |"
            )


if __name__ == "__main__":
    main()
