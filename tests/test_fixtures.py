"""The saved PyTorch cases load without PyTorch and hold what the other tests rely on."""

import numpy as np
import pytest

from tests import cases

COUNTS = {
    "convolution": 38,
    "pooling": 48,
    "global_pooling": 3,
    "upsampling": 5,
    "batch_normalization": 6,
    "activations": 22,
    "losses": 12,
    "optimizers": 11,
    "blood": 1,
    "residual": 1,
}


def names(file):
    return [case.name for case in cases.load(file)]


@pytest.mark.parametrize("file", COUNTS)
def test_a_file_loads_with_its_cases(file):
    assert len(set(names(file))) == len(names(file)) == COUNTS[file]
    for case in cases.load(file):
        assert isinstance(case.geometry, dict)
        for name, array in case.arrays.items():
            assert array.dtype == (np.int64 if name == "labels" or array.dtype == np.int64 else np.float64)
            assert np.isfinite(array).all()
            assert not array.flags.writeable


def test_every_file_is_counted_and_all_are_small():
    files = {path.stem: path.stat().st_size for path in cases.FOLDER.glob("*.npz")}
    assert set(files) == set(COUNTS)
    assert sum(files.values()) < 1_500_000


def test_the_cases_that_catch_known_faults_are_there():
    assert {
        "same-stride-2",
        "edge-same-even-kernel",
        "depthwise",
        "no-bias",
        "kernel-1x1",
        "all-at-once",
    } <= set(names("convolution"))
    assert {"max-ties-3-stride-1", "min-padding-1-one-sign", "average-padding-1x0", "max-ragged-3"} <= set(
        names("pooling")
    )
    assert names("activations")[::2] == [
        *("relu", "leaky_relu", "sigmoid", "tanh", "softmax"),
        *("relu6", "elu", "silu", "hard_swish", "hard_sigmoid", "gelu"),
    ]
    assert {"sgd-nesterov", "rmsprop", "adagrad", "adam", "adam-betas", "adamw", "adam-clipped"} <= set(
        names("optimizers")
    )
    assert {
        "cross-entropy-label-smoothing-and-class-weights",
        "binary-cross-entropy-logits-3",
        "mse-3",
    } <= set(names("losses"))


@pytest.mark.parametrize("file", ["blood", "residual"])
def test_networks_come_with_a_gradient_for_every_parameter_in_layer_order(file):
    (case,) = cases.load(file)
    parameters, gradients = case.group("parameters"), case.group("gradients")
    assert list(parameters) == list(gradients)
    assert list(parameters)[:2] == ["conv2d_1.weight", "conv2d_1.bias"]
    assert all(gradients[name].shape == parameters[name].shape for name in parameters)
    assert case.x.shape[0] == len(case.labels) == len(case.logits)


def test_float32_holds_the_inputs_exactly():
    for file in ("convolution", "pooling", "blood", "residual"):
        for case in cases.load(file):
            for array in (case.x, *case.group("parameters").values()):
                np.testing.assert_array_equal(array.astype(np.float32), array)


def test_a_case_names_what_it_lacks():
    case = cases.load("upsampling")[0]
    assert case.geometry["size"] == (1, 1)
    assert str(case) == "1x1"
    with pytest.raises(AttributeError, match="'1x1' has no array 'weight'"):
        case.weight  # noqa: B018
