"""How many launches a training step is, as docs/gpu.md says: forward, loss, backward and update."""

from types import ModuleType

import numpy as np
import pytest

from benchmarks.networks import NETWORKS, xpcnn_model
from tests import kernels, strict
from xpcnn import Sequential, presets
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.precision import in_precision
from xpcnn.program.execute import Goal, Shard, infer, train_whole


class OnlyCounted:
    """Kernels that are counted, and do nothing."""

    def __init__(self, code, options):
        pass

    def compile(self):
        pass

    def get_function(self, name):
        return lambda grid, block, arguments, shared_mem: strict.launch(name, lambda: None)


XP = ModuleType("only_counted")
vars(XP).update({name: value for name, value in vars(kernels.xp).items() if not name.startswith("__")})
vars(XP).update(RawModule=OnlyCounted)


@pytest.mark.parametrize(
    ("name", "batch", "precision", "launches"),
    [
        ("blood", 32, "float32", 22), ("blood-unpooled", 32, "float32", 21), ("mnist", 32, "float32", 24),
        ("cifar", 32, "float32", 32), ("batchnorm", 32, "float32", 46), ("batchnorm", 128, "float32", 48),
        ("batchnorm", 512, "float32", 49),
        ("blood", 32, "bfloat16", 23), ("cifar", 32, "bfloat16", 36), ("cifar", 512, "bfloat16", 33),
    ],
)  # fmt: skip
def test_a_training_step_is_so_many_launches(monkeypatch, name, batch, precision, launches):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)  # an H100's
    xp = in_precision(XP, precision)
    shape, _, description = NETWORKS[name]
    model = xpcnn_model(shape, description).to(xp)
    network, optimizer = model.network, model.optimizer
    optimizer.build(xp, network.parameters)
    gradient = xp.zeros(network.layout.size, dtype=np.float32)
    images = Workspace(xp).batch_last((batch, *shape), np.float32)
    targets = xp.zeros((batch, *network.output_shape), dtype=np.float32)
    goal = Goal(model.loss, targets, None, xp.full((), float(batch), dtype=np.float32))
    program, views = network.training_program(model.loss), network.layout.layer_views(gradient)
    scalars, number = xp.ones(len(optimizer.scalars(0)), dtype=np.float32), xp.zeros(1, dtype=np.uint64)

    def step():
        context = Context(Workspace(xp), training=True, step=number)
        train_whole(Shard(program, network.params, images, context, views, goal))
        optimizer.apply(network.parameters, gradient, network.layout.segments(), scalars)
        network.update_buffers(context.buffers)

    step()  # which also compiles its kernels
    with strict.counting() as counts:
        step()
    assert counts.launches == launches


@pytest.mark.parametrize(("name", "launches"), [("mobilenet-v2", 73), ("efficientnet-lite0", 66)])
def test_a_prediction_is_so_many_launches(monkeypatch, name, launches):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)
    model = Sequential(presets.get(name)((3, 224, 224), 8), input_shape=(3, 224, 224), xp="numpy")
    model.compile()
    model.to(XP)
    network, images = model.network, Workspace(XP).batch_last((32, 3, 224, 224), np.float32)
    program, params = network.program(model.loss), network.prediction_params({})
    infer(network, images, Context(Workspace(XP)), program, params)  # which also compiles its kernels
    with strict.counting() as counts:
        infer(network, images, Context(Workspace(XP)), program, params)
    assert counts.launches == launches
