"""A single layer on any backend: built for an input, given arrays, and run forward and backward."""

from typing import NamedTuple

import numpy as np

from tests.reference import numerical_gradient
from xpcnn.backend import to_host
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace


class Result(NamedTuple):
    """What one run gave, on the host; ``dx`` and ``gradients`` are None without a ``dy``."""

    y: np.ndarray
    dx: np.ndarray | None
    gradients: dict[str, np.ndarray] | None
    buffers: dict[str, np.ndarray]


def draw(layer, input_shape, dtype=np.float64, seed=0):
    """Return drawn values for each array that a layer declares: all away from 0, variances above it."""
    layer.connect(input_shape)
    rng = np.random.default_rng(seed)
    values = {}
    for declaration in (*layer.declarations, *layer.buffers):
        drawn = rng.uniform(0.2, 1, declaration.shape)
        signs = rng.choice([-1, 1], declaration.shape) if declaration.name != "running_var" else 1
        values[declaration.name] = (signs * drawn).astype(dtype)
    return values


def run(layer, xp, x, dy=None, values=None, options=None, **context):
    """Build a layer for ``x`` and run it forward, and backward if ``dy`` is given; all arrays are the host's.

    values: those the layer declares, drawn by default. options: what a program tells its forward. context: what
    :class:`Context` takes; training is on.
    """
    if values is None:
        values = draw(layer, x.shape[1:], x.dtype)
    layer.connect(x.shape[1:])
    layer.xp = xp
    context = Context(**{"workspace": Workspace(xp), "training": True, **context})
    params = {name: xp.asarray(value) for name, value in values.items()}
    total = (layer.local_sums(params, xp.asarray(x), context),) if context.training and layer.reduces_over_batch else ()
    y, backward = layer.forward(params, xp.asarray(x), context, *total, **(options or {}))
    dx = gradients = None
    if dy is not None:
        # A gradient that is not written, or is added to what was there, stays NaN.
        empty = {d.name: xp.full(d.shape, np.nan, dtype=values[d.name].dtype) for d in layer.declarations}
        dx = backward(xp.asarray(dy), empty)
        if total:
            sums, input_gradient = dx
            dx = input_gradient(sums)
        gradients = {name: to_host(gradient) for name, gradient in empty.items()}
    buffers = {name: to_host(value) for name, value in context.buffers.get(layer.name, {}).items()}
    return Result(to_host(y).copy(), None if dx is None else to_host(dx).copy(), gradients, buffers)


def check_against(result, y, dx, **gradients):
    """Assert that a float64 run gave these arrays, to rounding."""
    np.testing.assert_allclose(result.y, y, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.dx, dx, rtol=1e-10, atol=1e-12)
    assert result.gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(result.gradients[name], gradient, rtol=1e-10, atol=1e-11, err_msg=name)


def check_gradients(layer, xp, x, **context):
    """Assert that all gradients of sum(y dy) are what central differences give, in float64."""
    values = draw(layer, x.shape[1:])
    dy = np.random.default_rng(1).normal(size=(len(x), *layer.output_shape))
    result = run(layer, xp, x, dy, values, **context)
    for name, array in {"x": x, **{d.name: values[d.name] for d in layer.declarations}}.items():
        numerical = numerical_gradient(lambda _: (run(layer, xp, x, None, values, **context).y * dy).sum(), array)
        analytical = result.dx if name == "x" else result.gradients[name]
        np.testing.assert_allclose(analytical, numerical, rtol=1e-6, atol=1e-7, err_msg=name)


def check_dtypes(layer, xp, input_shape, **context):
    """Assert that float32 stays float32 and float64 stays float64: output, gradients and buffers."""
    for dtype in (np.float32, np.float64):
        x = distinct(3, *input_shape).astype(dtype)
        layer.connect(input_shape)
        dy = np.ones((3, *layer.output_shape), dtype)
        result = run(layer, xp, x, dy, **context)
        assert result.y.shape == (3, *layer.output_shape)
        assert result.dx.shape == x.shape
        assert result.y.dtype == result.dx.dtype == dtype
        for name, array in {**result.gradients, **result.buffers}.items():
            assert array.dtype == dtype, name
            assert np.isfinite(array).all(), name


def distinct(*shape, seed=0):
    """Return an array of distinct numbers around 0, none nearer to it or to another than 1e-3."""
    size = int(np.prod(shape))
    assert size < 1000
    return ((np.random.default_rng(seed).permutation(size) + 0.25) * (4 / size) - 2).reshape(shape)
