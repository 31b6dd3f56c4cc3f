"""Kernels are compiled together, in parallel, before the first launch of a step or of a prediction, and each once."""

import threading
from collections import Counter
from types import ModuleType

import numpy as np
import pytest

import xpcnn
from tests import kernels, strict
from tests.models import CLASSES, SHAPE, mixed, samples
from xpcnn import layers
from xpcnn.ops.cuda.ahead import rehearsed
from xpcnn.ops.cuda.compiler import kernel

#: The first kernel of the layers of ``mixed``, and others that its training needs.
FIRST, OTHERS = "correlate", ("weight_gradient", "normalize_backward", "pool", "unpool", "softmax_cross_entropy")


class Watched:
    """The stand-in with kernels, of which none is compiled yet, and what then happens to them."""

    def __init__(self):
        #: ("compiled", its text and the constants before it) and ("launched", the name of a function), in order.
        self.events, self.threads = [], set()
        self.xp = ModuleType("kernels")
        vars(self.xp).update({name: value for name, value in vars(kernels.xp).items() if not name.startswith("__")})
        self.xp.RawModule = self._module

    def _module(self, *, code, options):
        module = kernels.RawModule(code=code, options=options)
        compile_, get_function = module.compile, module.get_function

        def compiled():
            self.events.append(("compiled", code))
            self.threads.add(threading.current_thread())
            compile_()

        def function(name):
            launch = get_function(name)

            def launched(*arguments, **keywords):
                self.events.append(("launched", name))
                launch(*arguments, **keywords)

            return launched

        module.compile, module.get_function = compiled, function
        return module

    def compiled(self, before=None):
        """Return all texts that were compiled, or those before a function was launched for the first time, counted."""
        until = len(self.events) if before is None else self.events.index(("launched", before))
        return Counter(text for event, text in self.events[:until] if event == "compiled")


@pytest.fixture
def watched():
    if kernels.COMPILER is None:
        pytest.skip("kernels column: there is no C++ compiler for the shim (g++ or clang++, on Linux)")
    return Watched()


@pytest.mark.parametrize("column", ["kernels"])
def test_the_kernels_of_a_step_are_compiled_before_its_first_launch_each_once(watched, column):
    x, y = samples(16)
    mixed(watched.xp).fit(x, y, epochs=1, batch_size=16, verbose=0)
    ready = watched.compiled(before=FIRST)
    assert [name for name in OTHERS if not any(f" {name}(" in text for text in ready)] == []
    assert set(watched.compiled().values()) == {1}
    assert watched.threads - {threading.current_thread()}, "in threads of their own"


@pytest.mark.parametrize("column", ["kernels"])
def test_so_are_those_of_a_prediction(watched, column):
    mixed(watched.xp).predict(samples(16)[0])
    ready = watched.compiled(before=FIRST)
    assert any(" pool(" in text for text in ready)
    assert not any(" weight_gradient(" in text for text in ready)


def dense(xp, *units):
    """A model of dense layers, the last of them normalised: other arrays hold what its gradients need than kernels."""
    stack = [layers.Flatten(), *map(layers.Dense, units), layers.BatchNorm(), layers.Softmax()]
    model = xpcnn.Sequential(stack, input_shape=SHAPE, xp=xp)
    model.compile("adam", "cross_entropy")
    return model


@pytest.mark.parametrize("column", ["kernels"])
@pytest.mark.parametrize(
    ("before", "build"),
    [(None, mixed), (lambda xp: dense(xp, CLASSES), lambda xp: dense(xp, 4, CLASSES))],
    ids=["at the first kernel", "on the way back"],
)
def test_a_rehearsal_changes_no_bit(watched, column, before, build):
    """Its kernels compute nothing, so that whatever it wrote into would show."""
    x, y = samples(40)
    if before is not None:  # whose kernels are those of the way forward
        before(watched.xp).fit(x, y, epochs=1, batch_size=16, verbose=0)
    build(kernels.xp).fit(x, y, epochs=1, batch_size=16, verbose=0)
    rehearsing, not_rehearsing = build(watched.xp), build(kernels.xp)
    compiled = watched.compiled()
    for model in (rehearsing, not_rehearsing):
        model.fit(x, y, epochs=2, batch_size=16, verbose=0, seed=3)
    assert watched.compiled() != compiled
    for name, value in not_rehearsing.get_weights().items():
        assert rehearsing.get_weights()[name].tobytes() == value.tobytes(), name


def relu(xp, name="activate"):
    return kernel(xp, "activations", name, np.float32, FUNCTION="RELU")


@pytest.mark.parametrize("column", ["kernels"])
def test_what_is_compiled_is_not_rehearsed_again(watched, column):
    x, calls = watched.xp.ones(4, dtype=np.float32), []
    for name in ("activate", "activate", "activate_gradient"):
        arrays = [x] * (2 if name == "activate" else 3)
        with rehearsed(lambda: calls.append(None)):
            relu(watched.xp, name).for_each(4, *arrays, 0.0, np.uint64(4))
    assert len(calls) == 1


@pytest.mark.parametrize("column", ["kernels"])
def test_a_layer_of_ones_own_is_called_once_a_step(watched, column):
    calls = []

    class Own(layers.Layer):
        def build(self, input_shape):
            return input_shape

        def forward(self, params, x, context):
            calls.append(context.training)
            return x * 2, lambda dy, gradients: dy * 2

    stack = [Own(), layers.Flatten(), layers.Dense(CLASSES), layers.Softmax()]
    model = xpcnn.Sequential(stack, input_shape=SHAPE, xp=watched.xp)
    model.compile("adam", "cross_entropy")
    model.fit(*samples(16), epochs=1, batch_size=8, verbose=0)
    assert calls == [True, True]


@pytest.mark.parametrize("column", ["kernels"])
def test_where_a_rehearsal_runs_out_of_memory_the_work_may_still_fit(watched, column):
    x = watched.xp.ones(4, dtype=np.float32)

    def rehearsal():
        kernel(watched.xp, "parts", "add_parts", np.float32).for_each(1)
        raise strict.OutOfMemoryError

    with rehearsed(rehearsal):
        relu(watched.xp).for_each(4, x, x, 0.0, np.uint64(4))
    assert ("launched", "activate") in watched.events
    assert any(" add_parts(" in text for text in watched.compiled())


def test_a_source_that_does_not_compile_is_an_error_of_the_work():
    class Module:
        def __init__(self, code, options):
            pass

        def compile(self):
            raise RuntimeError("error: expected a ;")

    xp = ModuleType("broken")
    xp.RawModule, xp.cuda = Module, strict.xp.cuda
    with pytest.raises(RuntimeError, match="expected a ;"), rehearsed(lambda: relu(xp).for_each(1)):
        relu(xp).for_each(1)
