"""Measurements of whole processes: peak memory, import time, and a small job from start to end."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]

IMPORTS = {"xpcnn": "import xpcnn; xpcnn.Sequential", "torch": "import torch"}

JOBS = {
    "xpcnn": """
import sys
import xpcnn
from xpcnn import data, layers
digits = data.load_digits()
model = xpcnn.Sequential(
    [layers.Conv2D(16, 3, activation="relu"), layers.MaxPool2D(2), layers.Flatten(),
     layers.Dense(10, activation="softmax")], input_shape=(1, 8, 8))
model.compile("adam", "cross_entropy")
model.fit(digits.x / 255, digits.y, verbose=0)
model.save(sys.argv[1])
""",
    "torch": """
import sys
import numpy, torch
from torch import nn
digits = numpy.load(sys.argv[2])
x = torch.from_numpy(digits["images"].reshape(-1, 1, 8, 8)).float() / 255
y = torch.from_numpy(digits["labels"]).long()
model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10))
optimizer = torch.optim.Adam(model.parameters(), fused=True)
for rows in torch.randperm(len(x)).split(32):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
    optimizer.step()
torch.save(model.state_dict(), sys.argv[1])
""",
}

MEMORY = """
import sys
from contextlib import ExitStack
from benchmarks import networks, sides
side, name = sys.argv[1:]
shape, batch, description = networks.NETWORKS[name]
x, y = networks.samples(shape, batch)
with ExitStack() as stack:
    if side == "xpcnn":
        step = sides.xpcnn_train(networks.xpcnn_model(shape, description), x, y, 2, stack)
    else:
        import torch
        torch.set_num_threads(2)
        step = sides.torch_train(networks.torch_model(shape, description), x, y, False)
    for _ in range(20):
        step()
# The peak of this process alone; getrusage would include the parent's memory at the time of the fork.
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


def run(code: str, *arguments: str) -> tuple[float, str]:
    """Run code in a fresh interpreter; return its duration in seconds and its output."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, done.stdout


def in_turns(codes: dict[str, str], rounds: int, *arguments: str) -> dict[str, float]:
    """Return each side's median seconds for whole processes that take turns, after an uncounted first round."""
    times: dict[str, list[float]] = {name: [] for name in codes}
    for counted in range(rounds + 1):
        for name, code in codes.items():
            seconds, _ = run(code, *arguments)
            if counted:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(name: str) -> dict[str, float]:
    """Return each side's peak resident memory in MB over 20 training steps, in a separate process per side."""
    return {side: float(run(MEMORY, side, name)[1]) for side in ("xpcnn", "torch")}
