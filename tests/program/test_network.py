"""A built network: names, arrays, shapes, its passes against PyTorch, and what training leaves unchanged."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpcnn
from tests import cases, strict
from tests.reference import numerical_gradient
from xpcnn import initializers, layers, losses, presets
from xpcnn.backend import to_host
from xpcnn.layers import Context, Layer
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Executor, Goal, Shard, activations, infer, train_whole
from xpcnn.program.network import DEPTHWISE, Network
from xpcnn.training.engine.host import ShardedTraining

IMAGE = (3, 8, 8)


def small(**arguments):
    """A stack with a bit of everything that learns."""
    return [
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.BatchNorm(),
        layers.Residual([layers.Conv2D(4, 3, padding="same"), layers.BatchNorm(), layers.Tanh()]),
        layers.MaxPool2D(2),
        layers.Flatten(),
        layers.Dropout(0.25),
        layers.Dense(5, activation="softmax", **arguments),
    ]


def classifier():
    """The layers that end a stack: probabilities of 5 classes."""
    return [layers.Flatten(), layers.Dense(5, activation="softmax")]


def residual_stack():
    """The network of the fixture ``residual``."""

    def convolve():
        return layers.Conv2D(6, 3, padding="same")

    block = [convolve(), layers.BatchNorm(), layers.ReLU(), convolve(), layers.BatchNorm()]
    return [
        convolve(),
        layers.BatchNorm(),
        layers.ReLU(),
        layers.Residual(block),
        layers.ReLU(),
        layers.GlobalAveragePool2D(),
        layers.Dense(5, activation="softmax"),
    ]


def blood_stack():
    """The network of the fixture ``blood``."""
    return [
        layers.Conv2D(10, 5, activation="relu"),
        layers.MaxPool2D(2),
        layers.Conv2D(10, 5, activation="relu"),
        layers.MaxPool2D(2),
        layers.Flatten(),
        layers.Dense(96, activation="relu"),
        layers.Dense(8, activation="softmax"),
    ]


def batch(n=6, shape=IMAGE, classes=5, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *shape)).astype(dtype), rng.integers(0, classes, n)


def train(network, x, y, shards=None, threads=None, loss="cross_entropy", step=0, seed=0):
    """Return loss, gradients by name and new buffers of one step, on the host."""
    loss = losses.get(loss)
    with Executor(network, len(x), shards, threads) as runner:
        sharded = ShardedTraining(runner, loss)
        targets = loss.prepare(y, network.output_shape[0], dtype=network.dtype)
        result = sharded.train(x, targets, [], seed, step)
        gradients = network.layout.views(to_host(result.gradient).copy())
        buffers = {
            f"{layer}.{name}": to_host(value)
            for layer, values in result.buffers.items()
            for name, value in values.items()
        }
        return float(result.loss), gradients, buffers


def predict(network, x):
    context = Context(Workspace(network.xp))
    return to_host(infer(network, network.xp.asarray(x), context, network.program())).copy()


def names(stack, input_shape=IMAGE):
    return [
        *activations(Network(stack, input_shape, np), np.zeros((1, *input_shape), np.float32), Context(Workspace(np)))
    ]


# Names and shapes


def test_layers_are_named_by_kind_and_number_in_order():
    stack = [
        layers.Conv2D(2, 3),
        layers.ReLU(),
        layers.Conv2D(2, 3, activation="relu"),
        layers.ReLU(),
        layers.Flatten(),
    ]
    assert names(stack) == ["conv2d_1", "relu_1", "conv2d_2", "relu_2", "flatten_1"]


def test_inner_layers_are_counted_before_those_that_follow():
    stack = [
        layers.Conv2D(3, 1),
        layers.Residual([layers.Conv2D(3, 1), layers.Residual([layers.Conv2D(3, 1), layers.ReLU()])]),
        layers.Conv2D(3, 1, activation=layers.LeakyReLU()),
        layers.ReLU(),
    ]
    assert names(stack) == [
        *["conv2d_1", "conv2d_2", "conv2d_3", "relu_1", "residual_1", "residual_2"],
        *["leaky_relu_1", "conv2d_4", "relu_2"],
    ]


def test_names_of_ones_own_are_kept_and_counted():
    assert names([layers.ReLU(name="first"), layers.ReLU(), layers.Tanh(name="t")]) == ["first", "relu_2", "t"]


def test_layers_of_another_network_keep_their_names():
    stack = [layers.ReLU(), layers.ReLU()]
    assert names(stack) == ["relu_1", "relu_2"]
    assert names([*stack, layers.ReLU()]) == ["relu_1", "relu_2", "relu_3"]


shared = layers.ReLU()


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        ([shared, layers.Tanh(), shared], "relu_1"),
        ([layers.Residual([shared]), shared], "relu_1"),
        ([layers.Conv2D(3, 1, activation=shared), layers.Conv2D(3, 1, activation=shared)], "relu_1"),
        ([layers.ReLU(name="a"), layers.Tanh(name="a")], "a"),
        ([layers.ReLU(name="relu_2"), layers.ReLU()], "relu_2"),
    ],
)
def test_a_layer_or_a_name_that_stands_twice_is_refused(stack, name):
    with pytest.raises(ValueError, match=f"Two layers are named '{name}'. Use each layer object once, and each name"):
        Network(stack, IMAGE, np)


def test_every_layer_knows_its_shapes():
    stack = small()
    network = Network(stack, IMAGE, np)
    assert [(layer.input_shape, layer.output_shape) for layer in stack] == [
        ((3, 8, 8), (4, 8, 8)),
        ((4, 8, 8), (4, 8, 8)),
        ((4, 8, 8), (4, 8, 8)),
        ((4, 8, 8), (4, 4, 4)),
        ((4, 4, 4), (64,)),
        ((64,), (64,)),
        ((64,), (5,)),
    ]
    assert network.output_shape == (5,)


def a_layer(draw):
    kernel, stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.integers(1, 3))
    return draw(
        st.sampled_from(
            [
                layers.Conv2D(2, kernel, stride, draw(st.sampled_from(["valid", "same", 1])), activation="relu"),
                layers.Conv2D(4, kernel, dilation=stride, groups=2),
                layers.MaxPool2D(kernel, stride, draw(st.sampled_from(["valid", "same"]))),
                layers.AveragePool2D(kernel),
                layers.Upsample2D((1, stride)),
                layers.BatchNorm(),
                layers.Residual([layers.Conv2D(2, 3, padding="same"), layers.BatchNorm()]),
                layers.Flatten(),
                layers.Reshape((2, -1, 4)),
                layers.GlobalMaxPool2D(),
                layers.Dense(8),
            ]
        )
    )


@settings(max_examples=80)
@given(data=st.data())
def test_a_stack_gives_the_shapes_it_says_or_is_refused_naming_layer_shape_and_remedy(xp, data):
    stack = [a_layer(data.draw) for _ in range(data.draw(st.integers(1, 5)))]
    shape = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    try:
        network = Network(stack, shape, xp)
    except ValueError as error:
        message = str(error)
        known = {layer.name: layer for layer in stack} | {
            inner.name: inner for layer in stack for inner in layer.sublayers()
        }
        refused = known[message.split("'")[1]]
        assert message.startswith(f"{type(refused).__name__} '{refused.name}': ")
        received, remedy = message.split("Received input shape ")[1].split(". ", 1)
        assert received == str(refused.input_shape) or isinstance(refused, layers.Residual)
        assert remedy.startswith(("Use ", "Put ", "Choose ", "Make ", "Let "))
        return
    x = xp.asarray(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32))
    outputs = activations(network, x, Context(Workspace(xp)))
    for layer in stack:
        assert outputs[layer.name].shape == (2, *layer.output_shape)
        assert outputs[layer.name].dtype == np.float32
    assert network.output_shape == stack[-1].output_shape


# Arrays


def test_parameters_are_in_layer_order_weight_before_bias_and_decay_lies_first():
    layout = Network(small(), IMAGE, np).layout
    assert [d.full_name for d in layout.declarations] == [
        *["conv2d_1.weight", "conv2d_1.bias", "batch_norm_1.weight", "batch_norm_1.bias"],
        *["conv2d_2.weight", "conv2d_2.bias", "batch_norm_2.weight", "batch_norm_2.bias"],
        *["dense_1.weight", "dense_1.bias"],
    ]
    assert [d.full_name for d in layout.declarations if d.decays] == [
        "conv2d_1.weight",
        "conv2d_2.weight",
        "dense_1.weight",
    ]
    assert len(layout.segments()) == 2


def test_parameters_and_buffers_are_flat_float32_and_views_write_through(xp):
    network = Network(small(), IMAGE, xp)
    x, _ = batch(dtype=np.float32)
    before = predict(network, x)
    assert network.parameters.dtype == network.buffers.dtype == np.float32
    assert network.parameters.shape == (network.layout.size,)
    network.layout.views(network.parameters)["dense_1.bias"][...] = xp.asarray(np.arange(5, dtype=np.float32))
    changed = predict(network, x)
    assert changed.dtype == np.float32
    np.testing.assert_allclose(
        changed, before * np.exp(np.arange(5)) / (before @ np.exp(np.arange(5)))[:, None], rtol=1e-4
    )


def test_first_values_are_the_same_on_every_backend_and_keyed_by_the_seed(xp):
    first = Network(small(), IMAGE, xp, seed=7).host_values()
    again = Network(small(), IMAGE, np, seed=7).host_values()
    other = Network(small(), IMAGE, np, seed=8).host_values()
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        assert (value == other[name]).all() == name.endswith(("bias", "mean", "var", "norm_1.weight", "norm_2.weight"))


def test_first_values_do_not_depend_on_layers_without_arrays_nor_on_later_ones():
    plain = Network([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)], IMAGE, np).host_values()
    others = Network(
        [layers.ReLU(), layers.Conv2D(2, 3), layers.Tanh(), layers.Flatten(), layers.Dense(3), layers.Dense(9)],
        IMAGE,
        np,
    ).host_values()
    for name, value in plain.items():
        np.testing.assert_array_equal(others[name], value)


def test_first_values_are_those_of_the_initialisers():
    stack = [layers.Flatten(), layers.Dense(40, kernel_initializer="lecun_uniform", bias_initializer="ones")]
    values = Network(stack, (1, 10, 10), np).host_values()
    assert set(values["dense_1.bias"].tolist()) == {1.0}
    limit = np.sqrt(3 / 100)
    assert 0.95 * limit < abs(values["dense_1.weight"]).max() <= limit
    assert 0.9 * limit / np.sqrt(3) < values["dense_1.weight"].std() < 1.1 * limit / np.sqrt(3)


def test_values_given_are_taken_and_written_in_place(xp):
    network = Network(small(), IMAGE, xp, seed=1)
    values = {name: value + 1 for name, value in network.host_values().items()}
    given_at_once = Network(small(), IMAGE, xp, values=values)
    flat = network.parameters
    network.set_values(values)
    assert network.parameters is flat
    for name, value in values.items():
        np.testing.assert_array_equal(network.host_values()[name], value)
        np.testing.assert_array_equal(given_at_once.host_values()[name], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense_1.bias": np.zeros(6)}, r"'dense_1.bias': expected shape \(5,\). Received: shape \(6,\)"),
        ({"dense_9.bias": np.zeros(5)}, r"'dense_9.bias': expected no such array. Received: shape \(5,\)"),
        ({"batch_norm_1.running_var": None}, r"running_var': expected shape \(4,\). Received: nothing"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_nothing_written(change, message):
    network = Network(small(), IMAGE, np)
    before = {name: value.copy() for name, value in network.host_values().items()}
    values = {
        name: value for name, value in {**{n: v + 1 for n, v in before.items()}, **change}.items() if value is not None
    }
    with pytest.raises(ValueError, match=f"The arrays do not fit the network. .*{message}"):
        network.set_values(values)
    with pytest.raises(ValueError, match=message):
        Network(small(), IMAGE, np, values=values)
    for name, value in before.items():
        np.testing.assert_array_equal(network.host_values()[name], value)


def test_a_network_moves_between_modules_with_all_it_holds(xp):
    network = Network(small(), IMAGE, np)
    x, y = batch(dtype=np.float32)
    before, expected = {name: v.copy() for name, v in network.host_values().items()}, predict(network, x)
    network.to(xp)
    assert type(network.parameters) is type(network.buffers) is type(xp.zeros(1))
    np.testing.assert_allclose(predict(network, x), expected, rtol=1e-5)
    train(network, x, y)
    network.to(np)
    for name, value in before.items():
        np.testing.assert_array_equal(network.host_values()[name], value)
    np.testing.assert_allclose(predict(network, x), expected, rtol=1e-5)


# Passes


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_loss_and_gradients_of_the_blood_network_are_pytorchs(xp, shards):
    (case,) = cases.load("blood")
    network = Network(blood_stack(), (1, 50, 50), xp, dtype=np.float64, values=case.group("parameters"))
    loss, gradients, buffers = train(network, case.x, case.labels, shards, 1)
    assert loss == pytest.approx(float(case.loss), rel=1e-12)
    assert buffers == {}
    assert [*gradients] == [*case.group("gradients")]
    for name, gradient in case.group("gradients").items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-9, atol=1e-13, err_msg=name)
    probabilities = np.exp(case.logits) / np.exp(case.logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(network, case.x), probabilities, rtol=1e-10)


def test_the_preset_blood_is_the_network_of_the_fixture():
    (case,) = cases.load("blood")
    values = Network(presets.blood((1, 50, 50), 8), (1, 50, 50), np).host_values()
    assert {name: value.shape for name, value in values.items()} == {
        name: value.shape for name, value in case.group("parameters").items()
    }


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 3])
def test_residual_and_batch_norm_on_33_images_are_pytorchs_however_they_are_cut(xp, shards, threads):
    (case,) = cases.load("residual")
    running = {
        f"batch_norm_{i}.running_{what}": np.full(6, what == "var") for i in (1, 2, 3) for what in ("mean", "var")
    }
    values = {**case.group("parameters"), **running}
    network = Network(residual_stack(), IMAGE, xp, dtype=np.float64, values=values)
    loss, gradients, buffers = train(network, case.x, case.labels, shards, threads)
    assert loss == pytest.approx(float(case.loss), rel=1e-12)
    assert gradients.keys() == case.group("gradients").keys()
    for name, gradient in case.group("gradients").items():
        # Biases before a normalisation have a gradient of 0, of which rounding leaves something.
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-8, atol=1e-12, err_msg=name)
    assert buffers.keys() == case.group("running_after").keys()
    for name, value in case.group("running_after").items():
        np.testing.assert_allclose(buffers[name], value, rtol=1e-10, atol=1e-14)


def test_a_step_changes_nothing_until_the_buffers_are_written(xp, host):
    network = Network(small(), IMAGE, xp)
    x, y = batch(dtype=np.float32)
    before = {name: value.copy() for name, value in network.host_values().items()}
    _, _, buffers = train(network, x, y)
    for name, value in before.items():
        np.testing.assert_array_equal(network.host_values()[name], value)
    flat = network.buffers
    network.update_buffers({"batch_norm_1": {"running_mean": xp.asarray(buffers["batch_norm_1.running_mean"])}})
    assert network.buffers is flat
    np.testing.assert_array_equal(
        network.host_values()["batch_norm_1.running_mean"], buffers["batch_norm_1.running_mean"]
    )
    assert (buffers["batch_norm_1.running_mean"] != before["batch_norm_1.running_mean"]).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "binary_cross_entropy"])
@pytest.mark.parametrize("shards", [1, 4])
def test_gradients_of_a_bit_of_everything_are_numerical_ones(loss, shards):
    stack = [layers.AveragePool2D(2), *small()[:2], layers.Upsample2D((1, 2)), *small()[5:]]
    stack.insert(-1, layers.GlobalMaxPool2D())
    x, y = batch(9)
    network = Network(stack, IMAGE, np, dtype=np.float64)
    _, gradients, _ = train(network, x, y, shards, 1, loss)
    for name, view in network.layout.views(network.parameters).items():
        numerical = numerical_gradient(lambda _: train(network, x, y, 1, 1, loss)[0], view)
        np.testing.assert_allclose(gradients[name], numerical, rtol=1e-5, atol=1e-8, err_msg=name)


def test_loss_and_gradients_are_float32_and_the_same_on_every_backend(xp):
    x, y = batch(33, dtype=np.float32)
    network = Network(small(), IMAGE, xp)
    loss, gradients, buffers = train(network, x, y)
    expected_loss, expected, expected_buffers = train(Network(small(), IMAGE, np), x, y)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in {**gradients, **buffers}.items():
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, {**expected, **expected_buffers}[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_same_shards_give_the_same_bits_on_any_number_of_threads():
    x, y = batch(33, dtype=np.float32)
    network = Network(small(), IMAGE, np)
    runs = [train(network, x, y, 4, threads) for threads in (1, 2, 3)]
    for loss, gradients, buffers in runs[1:]:
        assert loss == runs[0][0]
        for name, array in {**gradients, **buffers}.items():
            assert array.tobytes() == {**runs[0][1], **runs[0][2]}[name].tobytes()


def test_dropout_is_keyed_by_step_and_seed_and_not_by_the_cut():
    x, y = batch(12)
    network = Network(small(), IMAGE, np, dtype=np.float64)
    whole = train(network, x, y, 1)[0]
    assert train(network, x, y, 5)[0] == pytest.approx(whole, rel=1e-12)
    assert train(network, x, y, 1, step=1)[0] != pytest.approx(whole, rel=1e-6)
    assert train(network, x, y, 1, seed=1)[0] != pytest.approx(whole, rel=1e-6)


def test_each_dropout_of_a_network_has_a_mask_of_its_own(xp, host):
    network = Network([layers.Dropout(0.5), layers.Dropout(0.5)], (2000,), xp)
    x, rows, mse = xp.ones((2, 2000)), xp.zeros((2, 2000)), losses.get("mse")
    outputs, _ = train_at_once(network, x, rows, 1.0, mse, {})
    assert (host(outputs) > 0).mean() == pytest.approx(0.25, abs=0.05)


def test_prediction_does_not_depend_on_the_rest_of_the_batch_nor_on_earlier_runs(xp):
    network = Network(small(), IMAGE, xp, dtype=np.float64)
    x, y = batch(6)
    whole = predict(network, x)
    train(network, x, y)
    np.testing.assert_array_equal(predict(network, x), whole)
    np.testing.assert_allclose(predict(network, x[2:3]), whole[2:3], rtol=1e-12)


def test_activations_are_the_outputs_of_every_named_layer(xp, host):
    network = Network(small(), IMAGE, xp, dtype=np.float64)
    x, _ = batch()
    outputs = activations(network, xp.asarray(x), Context(Workspace(xp)))
    assert [*outputs] == [
        *["conv2d_1", "batch_norm_1", "conv2d_2", "batch_norm_2", "tanh_1", "residual_1"],
        *["max_pool2d_1", "flatten_1", "dropout_1", "dense_1"],
    ]
    outputs = {name: host(output) for name, output in outputs.items()}
    assert outputs["conv2d_1"].min() == 0, "the activation belongs to its layer"
    np.testing.assert_allclose(outputs["residual_1"], outputs["batch_norm_1"] + outputs["tanh_1"], rtol=1e-12)
    np.testing.assert_array_equal(outputs["flatten_1"], outputs["max_pool2d_1"].reshape(6, 64))
    np.testing.assert_array_equal(outputs["dropout_1"], outputs["flatten_1"])
    np.testing.assert_allclose(outputs["dense_1"], predict(network, x), rtol=1e-12)


def test_runs_at_the_same_time_do_not_disturb_each_other():
    network = Network(small(), IMAGE, np)
    x, y = batch(40, dtype=np.float32)
    predicted, trained = predict(network, x), train(network, x, y, 3, 1)[0]
    barrier = threading.Barrier(4)

    def work(number):
        barrier.wait()
        if number % 2:
            return [predict(network, x) for _ in range(10)]
        return [train(network, x, y, 3, 2)[0] for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for number, results in enumerate(pool.map(work, range(4))):
            for result in results:
                np.testing.assert_array_equal(result, predicted if number % 2 else trained)


def test_what_a_run_leaves_is_lent_to_one_later_run_at_a_time(xp):
    network = Network(small(), IMAGE, xp)
    with network.borrow("memory", object) as first, network.borrow("memory", object) as second:
        assert first is not second
    with network.borrow("other", object) as other, network.borrow("memory", object) as again:
        assert again in (first, second)
        assert other not in (first, second)


def test_nothing_is_taken_back_after_an_error_or_once_the_network_has_moved(xp):
    network = Network(small(), IMAGE, xp)
    with pytest.raises(ZeroDivisionError), network.borrow("memory", object) as broken:
        _ = 1 / 0
    with network.borrow("memory", object) as before:
        network.to(strict.xp if xp is np else np)
    with network.borrow("memory", object) as after:
        assert after not in (broken, before)


def test_a_step_neither_waits_for_the_device_nor_copies_to_it():
    xp = strict.xp
    stack = [
        layers.Conv2D(4, 3, padding="same", padding_mode="edge", activation="relu"),
        layers.BatchNorm(),
        layers.Residual([layers.Conv2D(4, 3, padding=1), layers.BatchNorm(), layers.LeakyReLU()]),
        layers.MaxPool2D(3, 2, 1),
        layers.MinPool2D(2, 1),
        layers.Upsample2D(2),
        layers.AveragePool2D(2, padding="same"),
        layers.Tanh(),
        layers.Flatten(),
        layers.Dense(16, activation="sigmoid"),
        layers.Reshape((4, 2, 2)),
        layers.GlobalMaxPool2D(),
        layers.Dense(5, activation="softmax"),
    ]
    network, loss = Network(stack, IMAGE, xp), losses.get("cross_entropy")
    x, y = batch(dtype=np.float32)
    x, rows = xp.asarray(x), xp.asarray(loss.prepare(y, 5).encoded)
    gradients = network.layout.layer_views(xp.zeros(network.layout.size, dtype=np.float32))
    with strict.forbid():
        _, buffers = train_at_once(network, x, rows, 6.0, loss, gradients)
        network.update_buffers(buffers)


def test_the_only_copy_to_the_device_inside_a_step_is_dropouts_mask():
    xp, loss = strict.xp, losses.get("cross_entropy")
    network = Network(small(), IMAGE, xp)
    x, y = batch(dtype=np.float32)
    x, rows = xp.asarray(x), xp.asarray(loss.prepare(y, 5).encoded)
    gradients = network.layout.layer_views(xp.zeros(network.layout.size, dtype=np.float32))
    with strict.counting() as counts:
        train_at_once(network, x, rows, 6.0, loss, gradients)
    assert (counts.waits, counts.transfers) == (0, 1)


def train_at_once(network, x, rows, normalizer, loss, gradients):
    """Make a step of a batch that is one shard; return its probabilities and new buffers."""
    reported, context = [], Context(Workspace(network.xp), training=True)
    program, goal = network.training_program(loss), Goal(loss, rows, None, normalizer)
    train_whole(
        Shard(
            program, network.params, x, context, gradients, goal, lambda *given: reported.append(given), releases=False
        )
    )
    return reported[0][1], context.buffers


# The loss and the last activation


@pytest.mark.parametrize(
    ("last", "loss", "taken_over"),
    [
        ([layers.Dense(5, activation="softmax")], "cross_entropy", True),
        ([layers.Dense(5), layers.Softmax()], "cross_entropy", True),
        ([layers.Dense(5, activation=layers.Softmax())], "cross_entropy", True),
        ([layers.Dense(5, activation="sigmoid")], "binary_cross_entropy", True),
        ([layers.Dense(5, activation="softmax")], "binary_cross_entropy", False),
        ([layers.Dense(5, activation="sigmoid")], "cross_entropy", False),
        ([layers.Dense(5, activation="softmax")], "mse", False),
        ([layers.Dense(5, activation="tanh")], "mse", False),
        ([layers.Dense(5)], "cross_entropy", False),
        ([layers.Dense(5), layers.Softmax(), layers.Dropout(0.1)], "cross_entropy", False),
        ([layers.Dense(5), layers.Residual([layers.Softmax()])], "cross_entropy", False),
    ],
)
def test_a_last_softmax_or_sigmoid_is_taken_over_by_its_own_loss_alone(last, loss, taken_over):
    network = Network([layers.Flatten(), *last], IMAGE, np)
    for program in (network.program(losses.get(loss)), network.training_program(losses.get(loss))):
        assert program.from_logits == taken_over
        assert [node.layer for node in program.nodes] == [
            node.layer for node in network.nodes[: -1 if taken_over else None]
        ]


def test_only_an_activation_is_taken_over_not_what_has_an_argument_of_that_name():
    class Gate(Layer):
        activation = "softmax"

        def forward(self, params, x, context):
            return 2 * x, lambda dy, gradients: 2 * dy

    network = Network([layers.Flatten(), layers.Dense(5), Gate()], IMAGE, np)
    assert not network.program(losses.get("cross_entropy")).from_logits


def test_from_logits_huge_ones_give_a_finite_loss_and_gradient(xp):
    network = Network(classifier(), IMAGE, xp)
    network.parameters *= 1e6
    loss, gradients, _ = train(network, *batch(dtype=np.float32))
    assert 1e5 < loss < 1e9
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


# What learns and what does not


class Probe(Layer):
    """A layer of one's own that notes when it runs."""

    def __init__(self, learning=False):
        super().__init__()
        self.learning, self.forwards, self.backwards = learning, 0, 0

    def build(self, input_shape):
        if self.learning:
            self.declare("scale", input_shape[:1], initializers.Ones())
        return input_shape

    def forward(self, params, x, context):
        self.forwards += 1

        def backward(dy, gradients):
            self.backwards += 1
            if not self.learning:
                return dy
            axes = (0, *range(2, x.ndim))
            gradients["scale"][...] = (dy * x).sum(axis=axes)
            return dy * scale

        if not self.learning:
            return x, backward
        scale = params["scale"].reshape(-1, *(1 for _ in x.shape[2:]))
        return x * scale, backward


def test_a_layer_of_ones_own_trains_in_a_network_on_every_backend(xp):
    network = Network([Probe(learning=True), *small()], IMAGE, xp, dtype=np.float64)
    x, y = batch(7)
    _, gradients, _ = train(network, x, y, 2, 1)
    network.to(np)
    scale = network.layout.views(network.parameters)["probe_1.scale"]
    numerical = numerical_gradient(lambda _: train(network, x, y, 1, 1)[0], scale)
    np.testing.assert_allclose(gradients["probe_1.scale"], numerical, rtol=1e-5, atol=1e-8)


def test_backward_stops_at_the_first_layer_that_learns(xp):
    probes = [Probe(), Probe(), Probe()]
    first = layers.Conv2D(2, 3)
    stack = [probes[0], layers.Residual([probes[1]]), first, probes[2], *classifier()]
    network = Network(stack, IMAGE, xp)
    x, y = batch(dtype=np.float32)
    train(network, x, y)
    assert [(probe.forwards, probe.backwards) for probe in probes] == [(1, 0), (1, 0), (1, 1)]
    first.trainable = False
    train(network, x, y)
    assert [probe.backwards for probe in probes] == [0, 0, 1]
    first.trainable = True
    train(network, x, y)
    assert [probe.backwards for probe in probes] == [0, 0, 2]


def test_a_first_learning_layer_inside_a_residual_is_where_backward_stops(xp):
    before, inside = Probe(), Probe()
    stack = [before, layers.Residual([layers.Conv2D(3, 1), inside]), *classifier()]
    network = Network(stack, IMAGE, xp, dtype=np.float64)
    _, gradients, _ = train(network, *batch())
    assert (before.backwards, inside.backwards) == (0, 1)
    assert gradients["conv2d_1.weight"].any()


def test_frozen_layers_change_nothing_for_the_others(xp):
    x, y = batch()
    stack = small()
    network = Network(stack, IMAGE, xp, dtype=np.float64)
    loss, expected, _ = train(network, x, y)
    stack[0].trainable = False
    frozen_loss, gradients, _ = train(network, x, y)
    assert frozen_loss == loss
    assert network.frozen() == {"conv2d_1"}
    assert not gradients["conv2d_1.weight"].any()
    for name in expected.keys() - {"conv2d_1.weight", "conv2d_1.bias"}:
        np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-12)
    segments = network.layout.segments(network.frozen())
    assert all(cells.start >= network.layout.span(network.layout.declarations[4]).start for cells, *_ in segments)


def test_with_everything_frozen_there_is_a_loss_and_no_backward_at_all(xp):
    probe, stack = Probe(), small()
    stack.insert(2, probe)
    for layer in stack:
        layer.trainable = False
    network = Network(stack, IMAGE, xp)
    loss, gradients, buffers = train(network, *batch(dtype=np.float32))
    assert np.isfinite(loss)
    assert (probe.forwards, probe.backwards) == (1, 0)
    assert not any(gradient.any() for gradient in gradients.values())
    assert buffers == {}
    assert network.layout.segments(network.frozen()) == []


@pytest.mark.parametrize("shards", [1, 3])
def test_a_frozen_batch_norm_uses_its_running_statistics_and_leaves_them(xp, shards):
    frozen = layers.BatchNorm()
    network = Network([layers.Conv2D(2, 3), frozen, layers.BatchNorm(), *classifier()], IMAGE, xp)
    x, y = batch(9, dtype=np.float32)
    assert train(network, x, y, shards, 1)[2].keys() == {
        f"batch_norm_{i}.running_{what}" for i in (1, 2) for what in ("mean", "var")
    }
    frozen.trainable = False
    assert train(network, x, y, shards, 1)[2].keys() == {"batch_norm_2.running_mean", "batch_norm_2.running_var"}


def test_freezing_a_residual_freezes_all_inside_batch_norms_statistics_too(xp):
    block = layers.Residual([layers.Conv2D(3, 1), layers.Residual([layers.BatchNorm()])])
    network = Network([layers.BatchNorm(), block, *classifier()], IMAGE, xp)
    x, y = batch(dtype=np.float32)
    block.trainable = False
    assert network.frozen() == {"residual_2", "conv2d_1", "residual_1", "batch_norm_2"}
    assert train(network, x, y)[2].keys() == {"batch_norm_1.running_mean", "batch_norm_1.running_var"}
    block.trainable = True
    assert network.frozen() == set()
    assert len(train(network, x, y)[2]) == 4


class Centre(Layer):
    """A layer of one's own that needs the whole batch: it subtracts the mean over it."""

    reduces_over_batch = True

    def local_sums(self, params, x, context):
        return self.xp.concatenate([x.sum(axis=0).ravel(), self.xp.full(1, len(x), dtype=x.dtype)])

    def forward(self, params, x, context, total=None):
        if total is None:
            return x, lambda dy, gradients: dy
        mean = (total[:-1] / total[-1]).reshape(x.shape[1:])
        return x - mean, lambda dy, gradients: (dy.sum(axis=0), lambda dtotal: dy - dtotal / total[-1])


def test_a_layer_of_ones_own_may_need_the_whole_batch(xp):
    network = Network([layers.Conv2D(2, 3), Centre(), layers.Tanh(), *classifier()], IMAGE, xp, dtype=np.float64)
    x, y = batch(7)
    loss, gradients, _ = train(network, x, y, 1)
    cut_loss, cut_gradients, _ = train(network, x, y, 3, 1)
    assert cut_loss == pytest.approx(loss, rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(cut_gradients[name], gradient, rtol=1e-9, atol=1e-13)


def test_multiplications_are_counted_for_every_position_of_a_kernel():
    stack = [layers.Conv2D(4, 3), layers.BatchNorm(), layers.Flatten(), layers.Dense(5)]
    assert Network(stack, (2, 6, 7), np).multiplications == 4 * 2 * 9 * 4 * 5 + 5 * 4 * 4 * 5


def test_a_layer_of_ones_own_may_keep_what_it_was_given(monkeypatch):
    kept = []

    class End(layers.Layer):
        def forward(self, params, x, context):
            return x, lambda dy, gradients: kept.append(dy) or dy

    class Start(layers.Layer):
        def forward(self, params, x, context):
            return x, lambda dy, gradients: dy + kept.pop()

    def conv(activation=None):
        return layers.Conv2D(4, 3, padding="same", activation=activation)

    stack = [
        conv(),
        Start(),
        conv("relu"),
        conv(),
        End(),
        conv(),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ]
    network, (x, y) = Network(stack, IMAGE, np), batch(dtype=np.float32)
    _, gradients, _ = train(network, x, y)
    monkeypatch.setattr(Workspace, "reclaim", lambda *arguments, **keywords: None)
    _, expected, _ = train(network, x, y)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, expected[name])


def test_a_loss_of_ones_own_may_give_the_outputs_for_everything(monkeypatch):
    class Energy(losses.Loss):
        name = "energy"

        def evaluate(self, xp, outputs, rows, weights, normalizer, from_logits):
            return xp.asarray((outputs * outputs).sum() / 2), outputs, outputs

    seen = []
    for reclaim in (Workspace.reclaim, lambda *arguments, **keywords: None):
        monkeypatch.setattr(Workspace, "reclaim", reclaim)
        model = xpcnn.Sequential([layers.Flatten(), *(layers.Dense(8) for _ in range(3))], (1, 2, 4), np)
        model.compile("sgd", Energy(), metrics=["mse"])
        rng = np.random.default_rng(0)
        history = model.fit(rng.normal(size=(4, 1, 2, 4)), rng.normal(size=(4, 8)), batch_size=4, verbose=0)
        seen.append(history.history["mse"])
    assert seen[0] == seen[1]


def test_a_depthwise_convolution_counts_as_the_time_it_takes_numpy(monkeypatch):
    """``auto`` compiles kernels where NumPy would take long."""
    asked = []
    monkeypatch.setattr("xpcnn.program.network.for_run", lambda xp, effort: asked.append(effort) or xp)
    for groups in (1, 8):
        Network([layers.Conv2D(8, 3, groups=groups)], (8, 10, 10), np).for_run(5)
    assert asked == [8 * 8 * 9 * 64 * 5, 8 * 9 * 64 * 5 * DEPTHWISE]
