"""A training step and a prediction of each side, at the same precision, on arrays in device memory."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.device import Gpu, Step
from benchmarks.networks import NETWORKS, samples, xpcnn_model
from xpcnn import Sequential, presets
from xpcnn.layers import Context, Dropout
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Goal, Shard, infer, train_whole

CLASSES = 10
#: name: (preset, image shape).
PRESETS = {
    "resnet-18, 64 px": ("resnet-18", (3, 64, 64)),
    "resnet-18, 224 px": ("resnet-18", (3, 224, 224)),
    "efficientnet-lite0, 224 px": ("efficientnet-lite0", (3, 224, 224)),
}
FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def model_of(gpu: Gpu, name: str, precision: str, dropout: bool = True) -> Any:
    """Return one of the networks or presets, compiled with Adam and cross-entropy, on the device."""
    if name in NETWORKS:
        shape, _, description = NETWORKS[name]
        model = xpcnn_model(shape, description, dropout)
    else:
        preset, shape = PRESETS[name]
        layers = [layer for layer in presets.get(preset)(shape, CLASSES) if dropout or not isinstance(layer, Dropout)]
        model = Sequential(layers, input_shape=shape, xp="numpy")
    model.to(gpu.xp)
    model.compile("adam", "cross_entropy", precision=precision)
    return model


def batch_of(gpu: Gpu, model: Any, n: int) -> tuple[Any, Any, Any, Any]:
    """Return a batch for xpcnn (images with the batch last in memory, one-hot labels) and for PyTorch."""
    x, y = samples(model.network.input_shape, n)
    images = Workspace(gpu.xp).batch_last(x.shape, np.float32)
    images[...] = gpu.xp.asarray(x)
    rows = gpu.xp.asarray(np.eye(model.network.output_shape[0], dtype=np.float32)[y])
    return images, rows, *(torch.from_numpy(array).to(gpu.torch_device) for array in (x, y))


def xpcnn_train(model: Any, images: Any, rows: Any) -> Step:
    """Return the work of a training step, which gives its loss: forward, backward and Adam, at fixed addresses."""
    network, optimizer = model.network, model.optimizer
    xp = network.xp
    optimizer.build(xp, network.parameters)
    program = network.training_program(model.loss)
    gradient = xp.zeros(network.layout.size, dtype=np.float32)
    views, segments = network.layout.layer_views(gradient), network.layout.segments()
    scalars = xp.asarray(np.array(optimizer.scalars(0), np.float32))
    divisor, step = xp.full((), float(len(rows)), np.float32), xp.zeros(1, np.uint64)

    def work() -> Any:
        context = Context(Workspace(xp), training=True, step=step)
        losses: list[Any] = []
        goal = Goal(model.loss, rows, None, divisor)
        report = lambda loss, probabilities: losses.append(loss)  # noqa: E731
        train_whole(Shard(program, network.params, images, context, views, goal, report))
        optimizer.apply(network.parameters, gradient, segments, scalars)
        network.update_buffers(context.buffers)
        return losses[0]

    return work


def xpcnn_predict(model: Any, images: Any) -> Step:
    """Return the work of a prediction, which gives probabilities."""
    network = model.network
    program, params = network.program(), network.prediction_params({})  # folded once, as predict does
    return lambda: infer(network, images, Context(Workspace(network.xp)), program, params)


class Torch:
    """PyTorch's side: a module and a batch, in one memory format and one precision.

    tf32: the flags for convolutions and products. bfloat16: autocast, and those flags for what it leaves in float32.
    """

    def __init__(self, gpu: Gpu, module: Any, x: Any, y: Any, precision: str, memory: str) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
        self.module = copy.deepcopy(module).to(gpu.torch_device, memory_format=FORMATS[memory])
        self.x, self.y = x.contiguous(memory_format=FORMATS[memory]), y
        # A graph must not read casts of weights that were cached before it.
        self._cast = lambda: torch.autocast(
            gpu.torch_device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
        )

    def loss(self) -> Any:
        """Return the loss of the batch."""
        with self._cast():
            return torch.nn.functional.cross_entropy(self.module(self.x), self.y)

    def train(self) -> Step:
        """Return the work of a training step with fused Adam."""
        optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3, fused=True, capturable=self.x.is_cuda)

        def work() -> Any:
            optimizer.zero_grad(set_to_none=True)
            loss = self.loss()
            loss.backward()
            optimizer.step()
            return loss

        return work

    def predict(self) -> Step:
        """Return the work of a prediction, which gives probabilities."""
        self.module.eval()

        def work() -> Any:
            with torch.inference_mode(), self._cast():
                return torch.softmax(self.module(self.x).float(), dim=1)

        return work
