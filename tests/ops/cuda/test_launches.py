"""How many launches a training step is, as docs/gpu.md says: forward, loss, backward and update."""

from types import ModuleType

import numpy as np
import pytest

from tests import kernels, strict
from xpcnn import Sequential, layers
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Goal, Shard, train_whole


class OnlyCounted:
    """Kernels that are counted, and do nothing."""

    def __init__(self, code, options):
        pass

    def get_function(self, name):
        return lambda grid, block, arguments, shared_mem: strict.launch(name, lambda: None)


XP = ModuleType("only_counted")
vars(XP).update({name: value for name, value in vars(kernels.xp).items() if not name.startswith("__")})
vars(XP).update(RawModule=OnlyCounted)


def conv(filters, size, padding=0, *after):
    return [layers.Conv2D(filters, size, padding=padding), *after]


def relu_conv(filters, size, padding=0, *after):
    return conv(filters, size, padding, layers.ReLU(), *after)


def dense(*sizes):
    return [layers.Flatten(), *(layers.Dense(size, activation="relu") for size in sizes), layers.Dense(8)]


#: Image shape and layers of the networks of benchmarks/networks.py, all with 8 classes.
NETWORKS = {
    "blood": lambda: (
        (1, 50, 50),
        [*relu_conv(10, 5, 0, layers.MaxPool2D(2)), *relu_conv(10, 5, 0, layers.MaxPool2D(2)), *dense(96)],
    ),
    "blood-unpooled": lambda: (
        (1, 50, 50),
        [*relu_conv(10, 5), *relu_conv(10, 5, 0, layers.MaxPool2D(2)), *dense(96)],
    ),
    "mnist": lambda: (
        (1, 28, 28),
        [
            *relu_conv(4, 3), *relu_conv(8, 3, 0, layers.MaxPool2D(2)), layers.Flatten(),
            layers.Dense(64, activation="relu"), layers.Dropout(0.5), layers.Dense(8),
        ],
    ),
    "cifar": lambda: (
        (3, 32, 32),
        [
            *relu_conv(32, 3, 1), *relu_conv(32, 3, 1, layers.MaxPool2D(2)),
            *relu_conv(64, 3, 1), *relu_conv(64, 3, 1, layers.MaxPool2D(2)), *dense(256),
        ],
    ),
    "batchnorm": lambda: (
        (3, 64, 64),
        [
            *(
                part
                for filters in (16, 32, 64, 128)
                for part in conv(filters, 3, 1, layers.BatchNorm(), layers.ReLU(), layers.MaxPool2D(2))
            ),
            layers.GlobalAveragePool2D(), layers.Dense(8),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "batch", "launches"),
    [
        ("blood", 32, 22), ("blood-unpooled", 32, 21), ("mnist", 32, 24), ("cifar", 32, 32),
        ("batchnorm", 32, 46), ("batchnorm", 128, 48), ("batchnorm", 512, 49),
    ],
)  # fmt: skip
def test_a_training_step_is_so_many_launches(monkeypatch, name, batch, launches):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)  # an H100's
    shape, stack = NETWORKS[name]()
    model = Sequential([*stack, layers.Softmax()], shape, XP)
    model.compile("adam", "cross_entropy")
    network, optimizer = model.network, model.optimizer
    optimizer.build(XP, network.parameters)
    gradient = XP.zeros(network.layout.size, dtype=np.float32)
    images = Workspace(XP).batch_last((batch, *shape), np.float32)
    targets, scalars = XP.zeros((batch, 8), dtype=np.float32), XP.ones(len(optimizer.scalars(0)), dtype=np.float32)
    goal = Goal(model.loss, targets, None, XP.full((), float(batch), dtype=np.float32))
    context = Context(Workspace(XP), training=True, step=XP.zeros(1, dtype=np.uint64))
    program, views = network.training_program(model.loss), network.layout.layer_views(gradient)
    with strict.counting() as counts:
        train_whole(Shard(program, network.params, images, context, views, goal))
        optimizer.apply(network.parameters, gradient, network.layout.segments(), scalars)
        network.update_buffers(context.buffers)
    assert counts.launches == launches
