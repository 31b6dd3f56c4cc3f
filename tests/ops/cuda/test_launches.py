"""How many launches a training step is, and how much memory it takes, as docs/gpu.md says."""

from types import ModuleType

import numpy as np
import pytest

from benchmarks.networks import NETWORKS, xpcnn_model
from tests import kernels, strict
from xpcnn import Sequential, presets
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.precision import STORED, in_precision
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


@pytest.fixture(autouse=True)
def many_multiprocessors(monkeypatch):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)  # an H100's


def step_of(name, batch, precision="float32"):
    """Return a function that makes a training step: forward, loss, backward and update."""
    shape, _, description = NETWORKS[name]
    model = xpcnn_model(shape, description)
    xp = in_precision(XP, precision)
    network, optimizer = model.to(xp).network, model.optimizer
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
    return step


@pytest.mark.parametrize(
    ("name", "batch", "precision", "launches"),
    [
        ("blood", 32, "float32", 22), ("blood-unpooled", 32, "float32", 21), ("mnist", 32, "float32", 24),
        ("cifar", 32, "float32", 32), ("batchnorm", 32, "float32", 46), ("batchnorm", 128, "float32", 48),
        ("batchnorm", 512, "float32", 49),
        ("blood", 32, "bfloat16", 23), ("cifar", 32, "bfloat16", 36), ("cifar", 512, "bfloat16", 33),
    ],
)  # fmt: skip
def test_a_training_step_is_so_many_launches(name, batch, precision, launches):
    step = step_of(name, batch, precision)
    with strict.counting() as counts:
        step()
    assert counts.launches == launches


@pytest.mark.parametrize(("name", "launches"), [("mobilenet-v2", 73), ("efficientnet-lite0", 66)])
def test_a_prediction_is_so_many_launches(name, launches):
    model = Sequential(presets.get(name)((3, 224, 224), 8), input_shape=(3, 224, 224), xp="numpy")
    model.compile()
    model.to(XP)
    network, images = model.network, Workspace(XP).batch_last((32, 3, 224, 224), np.float32)
    program, params = network.program(model.loss), network.prediction_params({})
    infer(network, images, Context(Workspace(XP)), program, params)  # which also compiles its kernels
    with strict.counting() as counts:
        infer(network, images, Context(Workspace(XP)), program, params)
    assert counts.launches == launches


@pytest.mark.parametrize("precision", STORED)
@pytest.mark.parametrize("name", NETWORKS)
def test_images_stored_in_16_bits_take_no_more_launches(name, precision):
    def launches(precision):
        step = step_of(name, 32, precision)
        with strict.counting() as counts:
            step()
        return counts.launches

    assert launches(precision) == launches("tf32")


@pytest.mark.parametrize(
    ("name", "single", "half"),
    [("blood", 65, 34), ("blood-unpooled", 137, 69), ("mnist", 25, 13), ("cifar", 228, 116), ("batchnorm", 399, 210)],
)
def test_a_training_step_takes_so_much_memory(name, single, half):
    """In MB of 2^20 bytes, besides weights, moments and the batch, if memory is free once nothing refers to it."""

    def most(precision):
        step = step_of(name, 512, precision)
        with strict.counting() as counts:
            step()
        return round(counts.most_bytes / 2**20)

    assert (most("tf32"), *map(most, STORED)) == (single, half, half)
