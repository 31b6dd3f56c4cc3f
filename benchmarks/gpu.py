"""Compare xpcnn on CuPy with PyTorch on the same GPU, in one run: ``python benchmarks/gpu.py``.

First both sides must agree. Then they take turns, timed by device events: a training step on a batch in device memory
and a prediction, each launched kernel by kernel and as one CUDA graph; finally whole epochs, from images to weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import gpu_sides as sides
from benchmarks.networks import NETWORKS, copy_weights, samples, torch_model, xpcnn_model

BATCHES = (32, 128, 512)
#: Largest relative difference in loss, gradients or predictions that counts as agreement, in float32.
AGREEMENT = 1e-2
#: Seconds after which no further part is started, so that the whole run takes at most 8 minutes.
DEADLINE = 420.0
#: Milliseconds of a turn, and turns of each side.
TURN, TURNS = 15.0, 7

started = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("XPCNN_DATA"), metavar="FOLDER",
        help="contains mnist/ and blood/ (default: $XPCNN_DATA); without it, random images of the same sizes",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "tf32", "bfloat16", "float16"), default="float32",
        help="what xpcnn's products and convolutions compute in (default: float32); else PyTorch's compute in TF32",
    )  # fmt: skip
    options = parser.parse_args()
    results: dict[str, Any] = {"precision": options.precision, "steps": [], "left_out": []}
    try:
        measure(results, options.data, options.precision)
    finally:  # save what was measured, however the run ends
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{time.perf_counter() - started:.0f} s in total")


def measure(results: dict[str, Any], data: Path | None, precision: str) -> None:
    """Measure what there is time for, printing row by row, and store all figures in ``results``."""
    import torch

    from xpcnn.backend import choose
    from xpcnn.precision import in_precision
    from xpcnn.training.engine.graphs import own_stream

    xp = choose("cupy").xp
    torch.backends.cudnn.benchmark = True
    tf32(False)
    results |= {"machine": machine(xp), "limits": limits()}
    print(" · ".join(f"{value}" for value in results["machine"].values()))
    print(" · ".join(f"{name} {value:.3g}" for name, value in results["limits"].items()))
    results["agreement"] = {name: agreement(xp, name) for name in NETWORKS}
    results["agreement"]["blood, 50 steps on NumPy and CuPy"] = fifty_steps(xp)
    print("agreement: " + ", ".join(f"{name} {value:.1e}" for name, value in results["agreement"].items()))
    wrong = [name for name, value in results["agreement"].items() if not value <= AGREEMENT]
    if wrong:
        raise SystemExit(f"The two sides differ on {', '.join(wrong)}, so there is nothing to compare.")
    xp = in_precision(xp, precision)  # from here on; the sides agree in float32

    def part(name: str, make: Callable[[], Any]) -> Any:
        """Run one part, if there is time; a failure is recorded, and the rest continues."""
        if time.perf_counter() - started > DEADLINE:
            results["left_out"].append(f"{name}: no time")
            return None
        try:
            with own_stream(xp):
                return make()
        except Exception as error:
            message = f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            print(message)
            results["left_out"].append(message)
            return None
        finally:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            xp.get_default_memory_pool().free_all_blocks()

    print(f"\n{'ms':58}{'eager':>9}{'graph':>9}{'torch':>9}{'graph':>9}   torch/xpcnn: eager, graph")
    for precise in (False, True) if precision == "float32" else (True,):
        tf32(precise)
        for task in ("train", "predict"):
            for name in NETWORKS:
                for batch in BATCHES:
                    row = part(
                        f"{name}, {task}, batch {batch}, TF32 {precise}",
                        lambda name=name, task=task, batch=batch: compare(xp, name, task, batch, precise, results),
                    )
                    results["steps"] += [row] if row else []
        if not precise or precision != "float32":
            both = [part(f"epochs of {name}", lambda name=name: epochs(xp, name, data)) for name in ("blood", "mnist")]
            results["epochs"] = [epoch for epoch in both if epoch]
    tf32(precision != "float32")
    results["memory"] = [m for name in NETWORKS if (m := part(f"{name}, memory", lambda name=name: memory(xp, name)))]
    results["launches"] = [
        n for name in NETWORKS if (n := part(f"{name}, launches", lambda name=name: launches(xp, name)))
    ]
    # Last, since it may take all remaining time.
    for name in NETWORKS:
        compiled = part(f"{name}, torch.compile", lambda name=name: compare_compiled(xp, name))
        results.setdefault("compiled", []).extend([compiled] if compiled else [])
    summary(results)


def tf32(allowed: bool) -> None:
    """Let PyTorch use TF32 in convolutions and matrix products, or in neither; xpcnn's precision is an option."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def machine(xp: Any) -> dict[str, str]:
    """Return what the figures were measured on."""
    import torch

    def said(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            return "unknown"

    runtime = xp.cuda.runtime.runtimeGetVersion()
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "card": torch.cuda.get_device_name(),
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": f"CUDA {runtime // 1000}.{runtime % 1000 // 10}",
        "cupy": f"CuPy {xp.__version__}",
        "torch": f"PyTorch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
        "numpy": f"NumPy {np.__version__}",
        "commit": said("git", "rev-parse", "--short", "HEAD"),
    }


def limits() -> dict[str, float]:
    """Return the GPU's measured limits: float32 matrix products, and copies within its memory."""
    import torch

    a = torch.randn(8192, 8192, device="cuda")
    milliseconds = statistics.median(sides.torch_milliseconds(lambda: a @ a, 3) for _ in range(3))
    b = torch.empty_like(a)
    copied = statistics.median(sides.torch_milliseconds(lambda: b.copy_(a), 20) for _ in range(3))
    return {"float32 TFLOP/s": 2 * 8192**3 / milliseconds / 1e9, "copy TB/s": 2 * a.nbytes / copied / 1e9}


def agreement(xp: Any, name: str) -> float:
    """Return the largest relative difference of loss and gradients between the sides, without dropout."""
    import torch

    shape, batch, description = NETWORKS[name]
    model, module = xpcnn_model(shape, description, dropout=False), torch_model(shape, description, dropout=False)
    copy_weights(model, module)
    module.cuda()
    x, y = samples(shape, batch)
    loss, gradients = model.to(xp).loss_and_gradients(x, y)
    theirs = torch.nn.functional.cross_entropy(module(torch.from_numpy(x).cuda()), torch.from_numpy(y).cuda())
    theirs.backward()
    differences = [abs(loss - theirs.item()) / abs(theirs.item())]
    total = max(float(p.grad.abs().max()) for p in module.parameters())
    for ours, parameter in zip(gradients.values(), module.parameters(), strict=True):
        scale = max(float(parameter.grad.abs().max()), 1e-3 * total)
        differences.append(float(np.abs(ours - parameter.grad.cpu().numpy()).max()) / scale)
    return max(differences)


def fifty_steps(xp: Any) -> float:
    """Return the largest relative difference of the losses of 50 steps on NumPy and on the device.

    At this rate a rounding that flips one ReLU changes the loss no more than other roundings do; at Adam's usual one
    the loss of these random images differs by 0.08 between NumPy and NumPy with pixels changed in their last place.
    """
    from xpcnn.optimizers import Adam

    shape, batch, description = NETWORKS["blood"]
    x, y = samples(shape, 5 * batch)
    losses = []
    for backend in (xp, np):
        model = xpcnn_model(shape, description).to(backend)
        model.compile(Adam(1e-4), "cross_entropy")
        losses.append(np.array(model.fit(x, y, epochs=10, batch_size=batch, verbose=0, seed=1).steps))
    return float(np.abs(losses[0] / losses[1] - 1).max())


def take_turns(ways: dict[str, sides.Side]) -> dict[str, float]:
    """Return the median milliseconds of each side, which take turns."""
    counts = {}
    for name, way in ways.items():
        way.milliseconds(way.call, 4)  # compiled, captured, warm
        counts[name] = max(1, min(400, round(TURN / max(way.milliseconds(way.call, 4), 1e-3))))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            times[name].append(way.milliseconds(way.call, counts[name]))
    return {name: statistics.median(of) for name, of in times.items()}


def compare(xp: Any, name: str, task: str, batch: int, precise: bool, results: dict[str, Any]) -> dict[str, Any]:
    """Time one kind of work on both sides, and print a row."""
    from xpcnn.training.engine.graphs import Captured

    images, rows, x, y = sides.batch_of(xp, name, batch)

    def ours() -> sides.Step:
        model, _ = sides.pair(xp, name)
        return sides.xpcnn_train(xp, model, images, rows) if task == "train" else sides.xpcnn_predict(xp, model, images)

    def theirs(capturable: bool) -> sides.Step:
        _, module = sides.pair(xp, name)
        return (
            sides.torch_train(module, x, y, capturable=capturable)
            if task == "train"
            else sides.torch_predict(module, x)
        )

    captured, clock = Captured(xp, ours()), sides.cupy_milliseconds(xp)
    eager, torch_eager = ours(), theirs(False)
    ways = {
        "xpcnn eager": sides.Side(eager, clock),
        "xpcnn graph": sides.Side(captured, clock),
        "torch eager": sides.Side(torch_eager, sides.torch_milliseconds),
        "torch graph": sides.Side(sides.torch_graph(theirs(True)), sides.torch_milliseconds),
    }
    row: dict[str, Any] = {"network": name, "task": task, "batch": batch, "tf32": precise, "ms": take_turns(ways)}
    ms = row["ms"]
    row["ratio_eager"] = ms["torch eager"] / ms["xpcnn graph"]
    row["ratio_graph"] = ms["torch graph"] / ms["xpcnn graph"]
    row["captured"] = captured.is_graph
    model, _ = sides.pair(xp, name)
    forward, first = model.network.multiplications, sides.first_multiplications(model)
    operations = 2 * batch * (3 * forward - first if task == "train" else forward)
    row["share_of_limit"] = operations / ms["xpcnn graph"] / 1e9 / results["limits"]["float32 TFLOP/s"]
    label = f"{name}, {task}, batch {batch}, TF32 {'on' if precise else 'off'} for PyTorch"
    figures = "".join(f"{ms[way]:9.4f}" for way in ways)
    print(f"{label:58}{figures}   {row['ratio_eager']:.2f}  {row['ratio_graph']:.2f}", flush=True)
    if not captured.is_graph:
        print("  xpcnn's graph was not captured: its figure is that of an eager step")
    return row


def compare_compiled(xp: Any, name: str) -> dict[str, Any]:
    """Time torch.compile against xpcnn's graph, at the smallest batch."""
    from xpcnn.training.engine.graphs import Captured

    images, rows, x, y = sides.batch_of(xp, name, BATCHES[0])
    model, module = sides.pair(xp, name)
    ms = take_turns({
        "xpcnn graph": sides.Side(
            Captured(xp, sides.xpcnn_train(xp, model, images, rows)), sides.cupy_milliseconds(xp)
        ),
        "torch.compile": sides.Side(sides.torch_train(module, x, y, compiled=True), sides.torch_milliseconds),
    })  # fmt: skip
    print(f"{name}, train, batch {BATCHES[0]}, ms: " + ", ".join(f"{way} {took:.4f}" for way, took in ms.items()))
    return {"network": name, "ms": ms, "ratio": ms["torch.compile"] / ms["xpcnn graph"]}


def memory(xp: Any, name: str) -> dict[str, Any]:
    """Return the GPU memory in bytes of a captured training step on the largest batch, measured one side at a time."""
    import torch

    from xpcnn.training.engine.graphs import Captured

    def used() -> int:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        xp.get_default_memory_pool().free_all_blocks()
        free, total = xp.cuda.runtime.memGetInfo()
        return int(total - free)

    images, rows, x, y = sides.batch_of(xp, name, BATCHES[-1])
    model, module = sides.pair(xp, name)
    before = used()
    captured = Captured(xp, sides.xpcnn_train(xp, model, images, rows))
    for _ in range(4):
        captured()
    ours = used() - before
    captured.close()
    before = used()
    replay = sides.torch_graph(sides.torch_train(module, x, y, capturable=True))
    replay()
    theirs = used() - before
    print(f"{name}, train, batch {BATCHES[-1]}: xpcnn takes {ours / 2**20:.0f} MB, PyTorch {theirs / 2**20:.0f} MB")
    return {"network": name, "xpcnn": ours, "torch": theirs}


def launches(xp: Any, name: str) -> dict[str, Any]:
    """Return how many kernels and copies a training step launches on each side; run late, since profiling is slow."""
    images, rows, x, y = sides.batch_of(xp, name, BATCHES[0])
    model, module = sides.pair(xp, name)
    ours = sides.launches(sides.xpcnn_train(xp, model, images, rows))
    theirs = sides.launches(sides.torch_train(module, x, y))
    print(f"{name}, train, launches: xpcnn {ours}, PyTorch {theirs}")
    return {"network": name, "xpcnn": ours, "torch": theirs}


def images_of(name: str, data: Path | None) -> tuple[Any, Any, str]:
    """Return training and test data, each as (uint8 images, labels), and a description."""
    from xpcnn import data as sets

    if data is not None and name == "mnist":
        train, test = sets.load_mnist(data / "mnist")
        return (train.x, train.y), (test.x, test.y), "MNIST"
    if data is not None:
        cells = sets.load_folder(data / "blood", sets.Decoding(50, 50, 1))
        split = sets.stratified_split(cells.y, 0.2, 0.0, 0)
        return (cells.x[split.train], cells.y[split.train]), (cells.x[split.test], cells.y[split.test]), "blood cells"
    n, size, classes = (60_000, 28, 10) if name == "mnist" else (10_869, 50, 8)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (n, 1, size, size), dtype=np.uint8), rng.integers(0, classes, n)
    return (x, y), (x[:1000], y[:1000]), f"random images of the size of {name}"


def epochs(xp: Any, name: str, data: Path | None) -> dict[str, Any]:
    """Train for three epochs with batches of 32 on both sides, from images on the host to a measured accuracy."""
    import torch

    from xpcnn.data import Decoding, Normalized, Preprocessing

    (x, y), test, what = images_of(name, data)
    shape, batch, description = NETWORKS[name]
    model, module = xpcnn_model(shape, description), torch_model(shape, description)
    copy_weights(model, module)
    scaled = Preprocessing(Decoding(*shape[1:], 1), (0.0,), (255.0,))
    before = time.perf_counter()
    images = Normalized(x, np.arange(len(x)), scaled)
    history = model.to(xp).fit(images, y, epochs=3, batch_size=batch, verbose=0)
    ours = time.perf_counter() - before
    accuracy = model.evaluate(scaled.normalize(test[0]), test[1])["accuracy"]

    before = time.perf_counter()
    module = module.cuda()
    images, labels = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    for _ in range(3):
        for rows in torch.randperm(len(images), device="cuda").split(batch):
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(module(images[rows].float() / 255), labels[rows]).backward()
            optimizer.step()
    torch.cuda.synchronize()
    theirs = time.perf_counter() - before
    print(
        f"3 epochs, {what}: xpcnn {ours:.2f} s (the last {history.history['seconds'][-1]:.2f} s, test accuracy "
        f"{accuracy:.4f}), PyTorch eager {theirs:.2f} s",
        flush=True,
    )
    return {
        "network": name, "data": what, "xpcnn_s": ours, "torch_s": theirs, "test_accuracy": accuracy,
        "epoch_s": history.history["seconds"],
    }  # fmt: skip


def summary(results: dict[str, Any]) -> None:
    """Print the targets next to the results."""
    found = {(r["network"], r["batch"]): r for r in results["steps"] if r["task"] == "train" and not r["tf32"]}
    print("\ntargets (PyTorch's time / xpcnn's, TF32 off):")
    for name in ("blood", "blood-unpooled", "mnist"):
        if row := found.get((name, 32)):
            print(
                f"  {name}, batch 32: {row['ratio_eager']:.2f} of eager (3), {row['ratio_graph']:.2f} of its graph (1)"
            )
    for name in ("cifar", "batchnorm"):
        if row := found.get((name, 512)):
            print(
                f"  {name}, batch 512: {row['ratio_eager']:.2f} of eager (1); {row['share_of_limit']:.0%} of the limit"
            )
    for left in results["left_out"]:
        print(f"  left out: {left}")


if __name__ == "__main__":
    main()
