"""Compare xpcnn with PyTorch and ONNX Runtime on the same CPU, in one run: ``python -m benchmarks.cpu``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import processes
from benchmarks.growth import VALUES, cliffs, growth
from benchmarks.layers import layer_times, peak_gflops
from benchmarks.networks import NETWORKS, copy_weights, samples, torch_model, xpcnn_model
from benchmarks.sides import disagreement, onnx_predict, torch_predict, torch_train, xpcnn_predict, xpcnn_train
from benchmarks.timing import compare, take_turns

#: Largest relative difference in loss, gradients or predictions that counts as agreement, in float32.
AGREEMENT = 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="take about a minute, with fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--backend", choices=("numpy", "numba"), default="numba", help="xpcnn's (default: numba)")
    options = parser.parse_args()
    os.environ["XPCNN_BACKEND"] = options.backend
    results = measure(seconds=0.3 if options.quick else 8.0, quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(seconds: float, quick: bool) -> dict[str, Any]:
    """Measure everything, printing a table row by row; return all figures."""
    import torch

    results: dict[str, Any] = {"machine": machine(), "agreement": {}, "steps": [], "processes": {}}
    print(" · ".join(str(value) for value in results["machine"].values()))
    for name in NETWORKS:
        difference = disagreement(name)
        results["agreement"][name] = difference
        if difference > AGREEMENT:
            raise SystemExit(f"{name}: the two sides differ by {difference:.1e}, so there is nothing to compare.")
    worst = max(results["agreement"].values())
    print(f"loss, gradients and predictions agree within {worst:.1e} on all networks\n")
    print(f"{'':42} {'xpcnn ms':>16} {'PyTorch ms':>16}   ratio    ONNX Runtime ms   ratio")
    print(f"{'':42} {'median  min':>16} {'median  min':>16}           {'median  min':>16}")
    for threads in (2, 1):
        torch.set_num_threads(threads)
        for name in NETWORKS:
            for task, batch in tasks(name, quick):
                row = {"network": name, "task": task, "batch": batch, "threads": threads}
                row |= compare_one(name, task, batch, threads, seconds)
                results["steps"].append(row)
                label = f"{name}, {task}, batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
                print(
                    f"{label:42} {row['xpcnn_median']:8.2f} {row['xpcnn_min']:7.2f} {row['torch_median']:8.2f} "
                    f"{row['torch_min']:7.2f}   {row['ratio']:5.2f}{_of_onnx(row)}",
                    flush=True,
                )
    results["layers"] = layers(quick)
    results["growth"] = growing(seconds / 8, quick)
    results["processes"] = whole_processes(quick)
    results["loops"] = loops()
    return results


def _of_onnx(row: dict[str, Any]) -> str:
    if "onnx_median" not in row:
        return ""
    return f"   {row['onnx_median']:8.2f} {row['onnx_min']:7.2f}   {row['onnx_ratio']:5.2f}"


def tasks(name: str, quick: bool) -> list[tuple[str, int]]:
    """Return the tasks to time for a network: a training step, and predictions of several batches."""
    batch = NETWORKS[name][1]
    if quick:
        return [("train", batch), ("predict", batch)]
    return [("train", batch), ("predict", batch), ("predict", 1), ("predict", 256)]


def compare_one(name: str, task: str, batch: int, threads: int, seconds: float) -> dict[str, Any]:
    """Time one task of one network; xpcnn may use fewer threads than it is allowed."""
    shape, _, description = NETWORKS[name]
    x, y = samples(shape, batch)
    model, module = xpcnn_model(shape, description), torch_model(shape, description)
    copy_weights(model, module)
    allowed = None if threads > 1 else 1
    with ExitStack() as stack:
        if task == "train":
            ours: Any = xpcnn_train(model, x, y, allowed, stack)
            theirs = {kind: torch_train(module, x, y, kind == "channels last") for kind in FORMATS}
        else:
            ours = xpcnn_predict(model, x, allowed)
            theirs = {kind: torch_predict(module, x, kind == "channels last") for kind in FORMATS}
            theirs["onnx"] = onnx_predict(model, x, threads)
        times = take_turns({"xpcnn": ours, **theirs}, seconds)
    ours, onnx = times.pop("xpcnn"), times.pop("onnx", None)
    row = compare(ours, times)
    if onnx is not None:
        row |= {"onnx_median": statistics.median(onnx), "onnx_min": min(onnx)}
        row["onnx_ratio"] = row["onnx_median"] / row["xpcnn_median"]
    return row


FORMATS = ("channels first", "channels last")


def layers(quick: bool) -> dict[str, Any]:
    """Time the passes of each layer on one thread, against the peak of this processor."""
    peak = peak_gflops()
    title = "layers, a shard of 16 images, 1 thread"
    print(f"\n{title:42} {'forward ms':>12} {'of peak':>8} {'backward ms':>12} {'of peak':>8}")
    print(f"{'':42} (peak: {peak:.0f} GFLOP/s, the product of two 1024 x 1024 matrices)")
    figures: dict[str, Any] = {"peak_gflops": peak}
    for name in ("blood",) if quick else NETWORKS:
        figures[name] = layer_times(name, rounds=5 if quick else 30)
        for row in figures[name]:
            shares = (f"{row[f'{way}_gflops'] / peak:.2f}" if row[f"{way}_gflops"] else "" for way in WAYS)
            forward, backward = shares
            print(
                f"{name + ', ' + row['layer']:42} {row['forward_ms']:12.2f} {forward:>8} {row['backward_ms']:12.2f} "
                f"{backward:>8}"
            )
    return figures


WAYS = ("forward", "backward")


def growing(seconds: float, quick: bool) -> list[dict[str, Any]]:
    """Time training steps as batch, image side and filters grow, and point out where cost jumps."""
    rows: list[dict[str, Any]] = []
    print(f"\n{'a step as the work grows':42} {'ms':>12} {'µs per image':>12} {'ps per multiplication':>21}")
    for threads in (1,) if quick else (1, 2):
        for varied in ("filters",) if quick else VALUES:
            row_of_values = growth(varied, threads, seconds)
            high = cliffs(row_of_values)
            for row in row_of_values:
                label = f"{varied} {row['value']}, {threads} thread{'s' if threads > 1 else ''}"
                mark = "  a cliff" if row in high else ""
                print(
                    f"{label:42} {row['ms']:12.2f} {row['us_an_image']:12.1f} {row['ps_a_multiplication']:21.1f}{mark}",
                    flush=True,
                )
            rows += row_of_values
    return rows


def whole_processes(quick: bool) -> dict[str, Any]:
    """Time imports and a small job, and measure memory, in separate processes."""
    rounds = 1 if quick else 7
    digits = processes.ROOT / "xpcnn" / "data" / "digits.npz"
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {
            "import, s": processes.in_turns(processes.IMPORTS, rounds),
            "import, load digits, one epoch, save, s": processes.in_turns(
                processes.JOBS, rounds, f"{folder}/model", str(digits)
            ),
        }
    for name in ("blood",) if quick else NETWORKS:
        figures[f"peak memory of training {name}, MB"] = processes.peak_memory(name)
    print()
    for label, sides in figures.items():
        print(f"{label:42} {sides['xpcnn']:16.2f} {sides['torch']:16.2f}   {sides['xpcnn'] / sides['torch']:.2f} of it")
    return figures


def loops() -> dict[str, float]:
    """Time the first origin's plain loops over positions on one image, against xpcnn's step on a batch."""
    from tests import reference

    shape, batch, description = NETWORKS["blood"]
    x, y = samples(shape, batch)
    model = xpcnn_model(shape, description)
    first, second = (np.array(model.parameters[f"conv2d_{i}.weight"], dtype=np.float64) for i in (1, 2))
    image = x[:1].astype(np.float64)
    started = time.perf_counter()
    a = reference.conv2d(image, first)
    b = reference.pool2d(np.maximum(a, 0), "max", (2, 2), (2, 2))
    c = reference.conv2d(b, second)
    reference.pool2d(np.maximum(c, 0), "max", (2, 2), (2, 2))
    reference.conv2d_gradients(c, b, second)
    reference.conv2d_gradients(a, image, first)
    seconds = (time.perf_counter() - started) * batch
    with ExitStack() as stack:
        step = xpcnn_train(model, x, y, None, stack)
        times = take_turns({"xpcnn": step}, 1.0)["xpcnn"]
    factor = seconds * 1e3 / statistics.median(times)
    print(f"\nplain loops, training blood, batch {batch}: {seconds:.1f} s a step, {factor:,.0f} times xpcnn's")
    return {"seconds": seconds, "factor": factor}


def machine() -> dict[str, Any]:
    """Return what the figures depend on: the date, the processor, the libraries."""
    import torch
    from threadpoolctl import threadpool_info

    blas = next((pool for pool in threadpool_info() if pool["user_api"] == "blas"), {})
    return {
        "backend": os.environ["XPCNN_BACKEND"],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processors": f"{len(os.sched_getaffinity(0))} processors {platform.machine()}",
        "blas": f"{blas.get('internal_api')} {blas.get('version')} {blas.get('architecture')}",
        "numpy": f"numpy {np.__version__}",
        "torch": f"torch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
    }


if __name__ == "__main__":
    main()
