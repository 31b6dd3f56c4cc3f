"""One step and one prediction of each side, as functions to time, and a check that both compute the same."""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, copy_weights, samples, torch_model, xpcnn_model

Step = Callable[[], object]


def xpcnn_train(model: Any, x: Any, y: Any, threads: int, stack: ExitStack) -> Step:
    """Return a function that runs one training step, as ``fit`` does."""
    from xpcnn.program.execute import Executor
    from xpcnn.training.engine.host import ShardedTraining

    network, optimizer, loss = model.network, model.optimizer, model.loss
    executor = stack.enter_context(Executor(network, len(x), None, threads, training=True))
    sharded = ShardedTraining(executor, loss)
    optimizer.build(network.xp, network.parameters)
    segments = network.layout.segments()

    def step() -> None:
        targets = loss.prepare(y, network.output_shape[0])
        result = sharded.train(x, targets, [], 0, optimizer.step)
        optimizer.update(network.parameters, result.gradient, segments)
        network.update_buffers(result.buffers)

    return step


def torch_train(module: Any, x: Any, y: Any, channels_last: bool) -> Step:
    """Return a function that runs one training step of a copy of the module with fused Adam."""
    import torch

    module = copy.deepcopy(module)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    return step


def xpcnn_predict(model: Any, x: Any, threads: int) -> Step:
    """Return a function that predicts other images each time, as a user would."""
    batches = itertools.cycle([x, x[::-1].copy() + 1])
    return lambda: model.predict(next(batches), batch_size=len(x), threads=threads)


def torch_predict(module: Any, x: Any, channels_last: bool) -> Step:
    """Return a function that predicts probabilities in inference mode."""
    import torch

    module = copy.deepcopy(module).eval()
    if channels_last:
        module = module.to(memory_format=torch.channels_last)

    def predict() -> object:
        with torch.inference_mode():
            images = torch.from_numpy(x)
            if channels_last:
                images = images.to(memory_format=torch.channels_last)
            return torch.softmax(module(images), dim=1).numpy()

    return predict


def onnx_predict(model: Any, x: Any, threads: int) -> Step:
    """Return a function that predicts with ONNX Runtime on the exported model."""
    import onnxruntime

    from xpcnn.formats import onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        onnx.export(model, f"{folder}/model.onnx")
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batches = itertools.cycle([x, x[::-1].copy() + 1])
    return lambda: session.run(None, {name: next(batches)})


def disagreement(name: str) -> float:
    """Return the largest relative difference of loss, gradients and predictions between the two sides.

    A gradient's difference is relative to the largest value of its own array; dropout is left out on both sides.
    """
    import torch

    shape, batch, description = NETWORKS[name]
    model = xpcnn_model(shape, description, dropout=False)
    module = torch_model(shape, description, dropout=False)
    copy_weights(model, module)
    x, y = samples(shape, batch)
    loss, gradients = model.loss_and_gradients(x, y)
    theirs = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))
    theirs.backward()
    differences = [abs(loss - theirs.item()) / abs(theirs.item())]
    total = max(float(p.grad.abs().max()) for p in module.parameters())
    for ours, parameter in zip(gradients.values(), module.parameters(), strict=True):
        # The gradient of a bias before batch normalisation is only rounding error, so its own scale is meaningless.
        scale = max(float(parameter.grad.abs().max()), 1e-3 * total)
        differences.append(float(np.abs(ours - parameter.grad.numpy()).max()) / scale)
    if "norm" not in {kind for kind, *_ in description}:  # else the running statistics differ
        predictions = model.predict(x)
        differences.append(float(np.abs(predictions - torch_predict(module, x, False)()).max()))
        differences.append(float(np.abs(predictions - onnx_predict(model, x, 1)()[0]).max()))
    return max(differences)
