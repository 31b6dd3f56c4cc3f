"""Which images between layers are stored in 16 bits, and that a step computes the same of them."""

import numpy as np
import pytest

from tests import kernels, precisions, strict
from xpcnn import Sequential, layers
from xpcnn.layers import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, ReLU
from xpcnn.precision import STORED
from xpcnn.program.program import INPUT
from xpcnn.program.storage import store

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
IN_EACH = pytest.mark.parametrize("precision", precisions.OF_16_BITS)


class Seen(layers.Layer):
    """A custom layer that notes what it is given, forward and backward."""

    def forward(self, params, x, context):
        self.given = [x.dtype]

        def backward(dy, gradients):
            self.given.append(dy.dtype)
            return dy

        return x, backward


def chain():
    """Layers whose images, of those between them, only products read, or ReLU and max pooling before them."""
    return [Conv2D(6, 3, padding=1, activation="relu"), Conv2D(5, 3), MaxPool2D(2), ReLU(), Conv2D(4, 1), Flatten()]


def model_of(stack, xp, precision, shape=(2, 8, 8)):
    model = Sequential([*stack, layers.Dense(3, activation="softmax")], input_shape=shape, xp=xp)
    model.compile(precision=precision)
    return model


def stored_after(*stack):
    """Return which layers' outputs are stored in 16 bits, in the training program of a stack before a Dense."""
    model = model_of(stack, kernels.xp, "bfloat16")
    program = model.network.training_program(model.loss)
    assert INPUT not in program.stored
    assert program.output not in program.stored
    assert set(program.stored.values()) <= {np.dtype(np.uint16)}
    return [type(node.layer).__name__ for node in program.nodes if node.output in program.stored]


class TestWhichAreStored:
    def test_those_that_layers_on_tensor_cores_write_and_read(self):
        assert stored_after(Conv2D(3, 3), ReLU(), Conv2D(3, 3), MaxPool2D(2), Flatten(), Dense(5), ReLU()) == [
            "Conv2D", "Conv2D", "Flatten", "Dense"
        ]  # fmt: skip

    def test_and_those_between_them_whose_layers_keep_what_they_find(self):
        stack = [
            Conv2D(3, 3), BatchNorm(), ReLU(), layers.Residual([Conv2D(3, 3, padding=1), layers.SiLU()]), MaxPool2D(2),
            layers.Branches([[Conv2D(3, 1)], [layers.LeakyReLU()]]), layers.GlobalAveragePool2D(), layers.Dropout(0.5),
        ]  # fmt: skip
        assert stored_after(*stack) == [
            "Conv2D", "BatchNorm", "Conv2D", "SiLU", "Add", "MaxPool2D", "Conv2D", "LeakyReLU", "Concatenate",
            "GlobalAveragePool2D", "Dropout",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "other",
        [
            Seen(), layers.AveragePool2D(2), Conv2D(3, 3, groups=3), Conv2D(3, 3, padding=1, padding_mode="edge"),
            layers.Upsample2D(2), layers.Softmax(),
        ],
        ids=lambda layer: type(layer).__name__,
    )  # fmt: skip
    def test_nothing_that_another_layer_reads_or_writes(self, other):
        assert stored_after(Conv2D(3, 3), ReLU(), Conv2D(3, 1), ReLU(), other, ReLU(), Flatten()) == ["Conv2D"]

    def test_nothing_in_other_precisions_and_on_array_modules_without_kernels(self):
        for xp, precision in ((kernels.xp, "float32"), (kernels.xp, "tf32"), (strict.xp, "bfloat16"), ("numpy", None)):
            network = model_of([Conv2D(3, 3), Flatten()], xp, precision).network
            assert not network.program().stored
        model = model_of([Conv2D(3, 3), Flatten()], kernels.xp, "bfloat16")
        assert model.network.program().stored
        assert not model.network.plain.stored
        model.to("numpy")
        assert not model.network.program().stored

    def test_a_convolution_is_told_how_and_a_layer_that_keeps_is_not(self):
        nodes = model_of([Conv2D(3, 3), layers.Tanh(), Flatten()], kernels.xp, None).network.nodes
        told, stored = store(nodes, nodes[-1].output, STORED["float16"])
        assert [node.options.get("stored") for node in told] == [np.float16, *[None] * (len(nodes) - 1)]
        assert stored == {1: np.float16, 2: np.float16, 3: np.float16}


def data(n=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2, 8, 8)).astype(np.float32), rng.integers(3, size=n)


@pytest.fixture
def in_float32(monkeypatch):
    """A function that lets networks store all images as float32 from now on."""
    return lambda: monkeypatch.setattr("xpcnn.program.network.stored_dtype", lambda xp: None)


@WITH_KERNELS
@IN_EACH
def test_convolutions_relu_and_max_pooling_compute_the_same_bits_but_for_gradients_of_biases(
    device, in_float32, precision
):
    """What only products read is rounded as they read it, whether it was stored so or not."""

    def computed():
        model, rng = model_of(chain(), device, precision), np.random.default_rng(1)
        weights = model.get_weights()
        model.set_weights({name: value + rng.normal(size=value.shape) / 8 for name, value in weights.items()})
        return (*model.loss_and_gradients(*data(40)), model.predict(data(40)[0]))

    loss, gradients, outputs = computed()
    in_float32()
    same_loss, others, same_outputs = computed()
    assert loss == same_loss
    np.testing.assert_array_equal(outputs, same_outputs)
    for name, gradient in gradients.items():
        if name.endswith("weight"):
            np.testing.assert_array_equal(gradient, others[name], err_msg=name)
        else:  # sums of gradients, each rounded
            np.testing.assert_allclose(gradient, others[name], atol=precisions.UNIT[precision], err_msg=name)
    assert any(not np.array_equal(gradient, others[name]) for name, gradient in gradients.items())


@WITH_KERNELS
@IN_EACH
def test_other_networks_compute_the_same_to_within_the_rounding(device, in_float32, precision):
    def computed(precision):
        stack = [
            Conv2D(6, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2), layers.Dropout(0.2),
            layers.Residual([Conv2D(6, 3, padding=1), BatchNorm(), ReLU()]), layers.HardSwish(),
            layers.Branches([[Conv2D(4, 1)], [layers.GELU()]]), layers.GlobalAveragePool2D(),
        ]  # fmt: skip
        return model_of(stack, device, precision).loss_and_gradients(*data(40))

    loss, gradients = computed(precision)
    exact_loss, exact = computed("float32")
    assert 0 < abs(loss - exact_loss) < 10 * precisions.UNIT[precision]
    for name, gradient in gradients.items():
        if name not in ("conv2d_1.bias", "conv2d_2.bias"):  # next to nothing, before batch normalisation
            off = np.linalg.norm(gradient - exact[name]) / np.linalg.norm(exact[name])
            assert off < 50 * precisions.UNIT[precision], name


@WITH_KERNELS
@IN_EACH
def test_a_custom_layer_is_given_float32(device, precision):
    seen = Seen()
    stack = [Conv2D(4, 3), ReLU(), Conv2D(4, 1), seen, Conv2D(4, 1), Flatten()]
    model_of(stack, device, precision).loss_and_gradients(*data())
    assert seen.given == [np.float32, np.float32]


@WITH_KERNELS
@IN_EACH
def test_what_is_stored_otherwise_than_the_program_says_is_refused(device, monkeypatch, precision):
    model = model_of(chain(), device, precision)
    monkeypatch.setattr("xpcnn.layers.convolution.convolution", lambda xp, x, *rest, **options: (x, None))
    with pytest.raises(TypeError, match=rf"Slot 2 is stored as {STORED[precision]}\. Received: an array of float32"):
        model.predict(data()[0])
