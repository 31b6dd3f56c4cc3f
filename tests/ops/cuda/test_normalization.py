"""Batch normalisation with pooling and ReLU on a GPU; for the formulas see tests/layers/test_normalization.py."""

import copy

import numpy as np
import pytest

from tests import strict
from xpcnn.ops import normalization as generic
from xpcnn.ops.cuda import normalization
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
POOLS = pytest.mark.parametrize(
    "pool", [None, Window((2, 2), (2, 2)), Window((3, 2), (2, 1))], ids=["not pooled", "squares", "overlapping"]
)


def arrays(xp, shape):
    """Images, and the weight, bias and running statistics of their channels."""
    rng = np.random.default_rng(0)
    numbers = [rng.normal(size=shape), rng.normal(size=shape[1]), rng.normal(size=shape[1])]
    return [xp.asarray(array) for array in (*numbers, np.zeros(shape[1]), np.ones(shape[1]))]


# Rows that one block sums, and longer ones that several do.
@WITH_KERNELS
@POOLS
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(5, 4, 6, 7), (40, 3, 24, 32)])
def test_it_computes_what_the_generic_code_does(device, host, pool, relu, shape):
    def results(module, call, xp):
        workspace, (x, weight, bias, *running) = Workspace(xp), arrays(xp, shape)
        total = call(module.moments)(xp, x, workspace)
        mean, std, *moved = call(module.statistics)(xp, total, *running, 0.1, 1e-5)
        y, backward = call(module.batch_normalization)(
            xp, x, mean, std, weight, bias, workspace, pool=pool, relu=relu
        )  # fmt: skip
        dy = xp.asarray(np.random.default_rng(1).normal(size=y.shape))
        dweight, dbias = xp.full(shape[1], np.nan), xp.full(shape[1], np.nan)
        sums, input_gradient = backward(dy, dweight, dbias)
        frozen, without_statistics = backward(dy, None, None)
        assert frozen is None
        dx = input_gradient(sums, total.count), without_statistics(None, 0)
        return [host(array) for array in (mean, std, *moved, y, sums, dweight, dbias, *dx)]

    expected = results(generic, lambda function: getattr(function, "__wrapped__", function), np)
    for result, right in zip(results(normalization, lambda function: function, device), expected, strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-9, atol=1e-9 * np.abs(right).max())


@pytest.mark.parametrize("device", ["kernels"], indirect=True)
@POOLS
@pytest.mark.parametrize(("images", "sums"), [(5, 1), (300, 2)])
def test_it_is_three_launches_forward_and_two_or_three_backward(device, pool, images, sums):
    workspace, (x, weight, bias, *running) = Workspace(device), arrays(device, (images, 3, 16, 16))
    x, dweight, dbias = x.transpose(1, 2, 3, 0).copy().transpose(3, 0, 1, 2), weight.copy(), bias.copy()
    with strict.counting() as forward:
        total = normalization.moments(device, x, workspace)
        mean, std, *_ = normalization.statistics(device, total, *running, 0.1, 1e-5)
        y, backward = normalization.batch_normalization(
            device, x, mean, std, weight, bias, workspace, pool=pool, relu=True
        )  # fmt: skip
    dy = workspace.like(y)
    dy[...] = y
    with strict.counting() as back:
        total, input_gradient = backward(dy, dweight, dbias)
        input_gradient(total, x.size // 3)
    assert (forward.launches, back.launches) == (3, sums + 1)


@WITH_KERNELS
def test_what_another_rank_receives_are_the_combined_moments(device, host):
    x = arrays(device, (40, 3, 24, 32))[0]
    total = normalization.moments(device, x, Workspace(device))
    sent = copy.copy(total)  # by the protocol by which ranks send objects
    assert type(sent) is generic.Moments
    np.testing.assert_allclose(host(sent.mean), host(x).mean(axis=(0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(host(sent.squares), host(x).var(axis=(0, 2, 3)) * sent.count, rtol=1e-10)


@WITH_KERNELS
def test_a_pooling_that_kept_nothing_has_no_backward_pass(device):
    x, weight, bias, mean, std = arrays(device, (2, 3, 4, 4))
    y, backward = normalization.batch_normalization(
        device, x, mean, std, weight, bias, Workspace(device), pool=Window((2, 2), (2, 2)), training=False
    )
    with pytest.raises(RuntimeError, match=r"ran without training=True"):
        backward(y, None, None)
