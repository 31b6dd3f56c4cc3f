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


def blood():
    """The network of that name in benchmarks/networks.py."""
    blocks = [part for _ in range(2) for part in (layers.Conv2D(10, 5, activation="relu"), layers.MaxPool2D(2))]
    return (1, 50, 50), [*blocks, layers.Flatten(), layers.Dense(96, activation="relu"), layers.Dense(8)]


def batchnorm():
    """The network of that name in benchmarks/networks.py."""
    blocks = [
        part
        for filters in (16, 32, 64, 128)
        for part in (layers.Conv2D(filters, 3, padding=1), layers.BatchNorm(), layers.ReLU(), layers.MaxPool2D(2))
    ]
    return (3, 64, 64), [*blocks, layers.GlobalAveragePool2D(), layers.Dense(8)]


@pytest.mark.parametrize(
    ("network", "batch", "launches"),
    [(blood, 32, 22), (batchnorm, 32, 46), (batchnorm, 128, 48), (batchnorm, 512, 49)],
)
def test_a_training_step_is_so_many_launches(monkeypatch, network, batch, launches):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)  # an H100's
    shape, stack = network()
    model = Sequential([*stack, layers.Softmax()], shape, XP)
    model.compile("adam", "cross_entropy")
    network, optimizer = model.network, model.optimizer
    optimizer.build(XP, network.parameters)
    gradient = XP.zeros(network.layout.size, dtype=np.float32)
    images = Workspace(XP).batch_last((batch, *shape), np.float32)
    targets, scalars = XP.zeros((batch, 8), dtype=np.float32), XP.ones(len(optimizer.scalars(0)), dtype=np.float32)
    goal = Goal(model.loss, targets, None, XP.full((), float(batch), dtype=np.float32))
    context = Context(Workspace(XP), training=True)
    program, views = network.training_program(model.loss), network.layout.layer_views(gradient)
    with strict.counting() as counts:
        train_whole(Shard(program, network.params, images, context, views, goal))
        optimizer.apply(network.parameters, gradient, network.layout.segments(), scalars)
        network.update_buffers(context.buffers)
    assert counts.launches == launches
