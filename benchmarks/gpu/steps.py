"""Training steps and predictions of both sides, in turns: xpcnn's graph, and PyTorch's in either memory format."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu import sides
from benchmarks.gpu.device import Gpu, Step
from benchmarks.gpu.run import Run
from benchmarks.gpu.twin import twin
from benchmarks.networks import NETWORKS
from xpcnn.backend import to_host
from xpcnn.layers import Dropout
from xpcnn.training.engine.graphs import Captured, own_stream

#: In the order of their importance.
BATCHES = (512, 32, 128)
PRECISIONS = ("bfloat16", "tf32", "float32")
#: What is measured of the presets: name, batch, task, precisions.
OF_PRESETS = (
    ("resnet-18, 64 px", 128, "train", PRECISIONS),
    ("resnet-18, 224 px", 64, "train", PRECISIONS[:2]),
    ("efficientnet-lite0, 224 px", 64, "train", PRECISIONS[:2]),
    ("resnet-18, 224 px", 64, "predict", PRECISIONS[:1]),
    ("efficientnet-lite0, 224 px", 64, "predict", PRECISIONS[:1]),
)
#: Largest relative difference in loss or gradients that counts as agreement, in float32.
AGREEMENT = 1e-2
#: Milliseconds of a turn, and turns of each way.
TURN, TURNS = 15.0, 7


class Work(NamedTuple):
    """What both sides do."""

    network: str
    task: str
    batch: int
    precision: str

    def __str__(self) -> str:
        return f"{self.network}, {self.task}, batch {self.batch}, {self.precision}"


def train(run: Run) -> None:
    """Training steps of the five networks."""
    _rows(run, "train", (Work(n, "train", batch, p) for batch in BATCHES for p in PRECISIONS for n in NETWORKS))


def predict(run: Run) -> None:
    """Predictions of the five networks."""
    _rows(run, "predict", (Work(n, "predict", batch, p) for batch in BATCHES for p in PRECISIONS for n in NETWORKS))


def preset(run: Run) -> None:
    """ResNet-18 and EfficientNet-Lite0."""
    _rows(run, "presets", (Work(name, task, batch, p) for name, batch, task, of in OF_PRESETS for p in of))


def compiled(run: Run) -> None:
    """Training steps of the five networks on the smallest batch, PyTorch's compiled, in its faster memory format."""
    for precision in PRECISIONS[:2]:
        for name in NETWORKS:
            work = Work(name, "train", min(BATCHES), precision)
            _row(run, "compile", work, [faster_format(run.results.get("train", []), work)], compile_it=True)


def faster_format(rows: list[dict[str, Any]], work: Work) -> str:
    """Return PyTorch's faster memory format for some work, if that was measured, else "channels last"."""
    times = [row["ms"] for row in rows if tuple(row[field] for field in Work._fields) == work]
    return min(sides.FORMATS, key=times[0].__getitem__) if times else "channels last"


def _rows(run: Run, part: str, works: Iterable[Work]) -> None:
    print(f"\n{part + ', ms':52}{'xpcnn':>10}  PyTorch")
    for work in works:
        _row(run, part, work, [*sides.FORMATS])


def _row(run: Run, part: str, work: Work, formats: Sequence[str], compile_it: bool = False) -> None:
    """Measure some work, and print its times."""
    row = run.measure(part, f"{part}: {work}", lambda: compare(run.gpu, work, formats, compile_it))
    if row:
        theirs = ", ".join(f"{name} {ms:.4f}" for name, ms in row["ms"].items() if name != "xpcnn")
        print(f"{work!s:52}{row['ms']['xpcnn']:10.4f}  {theirs}   {row['ratio']:.2f}{remarks(row)}", flush=True)


def remarks(row: dict[str, Any]) -> str:
    """Return what to know about a row besides its times."""
    said = []
    if not row["captured"]:
        said.append("xpcnn's graph was not captured: its kernels were launched one by one")
    if row["difference"] is not None and not row["difference"] < 0.1:
        said.append(f"the two sides differ by {row['difference']:.1e}")
    return "".join(f"\n  {remark}" for remark in said)


def compare(gpu: Gpu, work: Work, formats: Sequence[str], compile_it: bool = False) -> dict[str, Any]:
    """Time one kind of work on both sides, and compare what they compute first.

    formats: PyTorch's memory formats. compile_it: whether it compiles its module instead of capturing the step.
    """
    with own_stream(gpu.xp):
        model = sides.model_of(gpu, work.network, work.precision)
        module = twin(model)
        images, rows, x, y = sides.batch_of(gpu, model, work.batch)
        training = work.task == "train"
        captured = Captured(
            model.network.xp,
            sides.xpcnn_train(model, images, rows) if training else sides.xpcnn_predict(model, images),
        )
        theirs = {name: sides.Torch(gpu, module, x, y, work.precision, name) for name in formats}
        difference = differ(gpu, model, theirs[formats[0]], captured, training)
        ways: dict[str, Way] = {"xpcnn": Way(captured, gpu.ours)}
        for name, side in theirs.items():
            if compile_it:
                side.module = gpu.compiled(side.module)
            step = side.train() if training else side.predict()
            label = f"compiled, {name}" if compile_it else name
            ways[label] = Way(step if compile_it else gpu.graph(step), gpu.theirs)
        ms = take_turns(ways)
        best = min(value for name, value in ms.items() if name != "xpcnn")
        row = work._asdict() | {"ms": ms, "ratio": best / ms["xpcnn"], "captured": captured.is_graph}
        captured.close()
    return row | {"difference": difference}


def differ(gpu: Gpu, model: Any, theirs: sides.Torch, ours: Step, training: bool) -> float | None:
    """Return the relative difference of the loss, or the largest one of the probabilities; None with dropout."""
    computed = np.array(to_host(ours()), dtype=float)
    if not training:
        return float(np.abs(computed - theirs.predict()().cpu().numpy()).max())
    if any(isinstance(layer, Dropout) for layer in model.layers):
        return None
    expected = theirs.loss().item()
    return float(abs(computed - expected) / abs(expected))


class Way(NamedTuple):
    """One way to do the work, and how its time is measured."""

    call: Step
    milliseconds: Callable[[Step, int], float]


def take_turns(ways: dict[str, Way]) -> dict[str, float]:
    """Return the median milliseconds of each way, all of which take turns."""
    counts = {}
    for name, way in ways.items():
        way.milliseconds(way.call, 4)  # compiled, captured, warm
        counts[name] = max(1, min(400, round(TURN / max(way.milliseconds(way.call, 4), 1e-3))))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            times[name].append(way.milliseconds(way.call, counts[name]))
    return {name: statistics.median(of) for name, of in times.items()}


def agreement(gpu: Gpu, name: str) -> float:
    """Return the largest relative difference of loss and gradients between the sides, in float32 without dropout."""
    model = sides.model_of(gpu, name, "float32", dropout=False)
    module = twin(model)
    _, _, x, y = sides.batch_of(gpu, model, NETWORKS[name][1] if name in NETWORKS else 4)
    side = sides.Torch(gpu, module, x, y, "float32", "channels first")
    theirs = side.loss()
    theirs.backward()
    loss, gradients = model.loss_and_gradients(x.cpu().numpy(), y.cpu().numpy())
    differences = [abs(loss - theirs.item()) / abs(theirs.item())]
    expected = [parameter.grad.cpu().numpy() for parameter in side.module.parameters()]
    largest = max(float(np.abs(gradient).max()) for gradient in expected)
    for ours, gradient in zip(gradients.values(), expected, strict=True):
        # The gradient of a bias before batch normalisation is only rounding error, so its own scale is meaningless.
        scale = max(float(np.abs(gradient).max()), 1e-3 * largest)
        differences.append(float(np.abs(ours - gradient).max()) / scale)
    return max(differences)
