"""Batch normalisation with a few kernels over whole channels."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import THREADS, Kernel, ceil_divide, check_size, kernel, many_blocks
from xpcnn.ops.cuda.parts import add_parts
from xpcnn.ops.normalization import Moments
from xpcnn.ops.workspace import Workspace, to_batch_last


def moments(xp: ArrayModule, x: Array, workspace: Workspace) -> Moments:
    """See :func:`xpcnn.ops.normalization.moments`."""
    x, channels, count = _rows(x, workspace)
    parts = _parts(xp, channels, count)
    means, squares = xp.empty((channels, parts), x.dtype), xp.empty((channels, parts), x.dtype)
    mean, square = xp.empty(channels, x.dtype), xp.empty(channels, x.dtype)
    _kernel(xp, "moments_of_parts", x)((channels, parts), (THREADS,), x, means, squares, count)
    _kernel(xp, "combine_moments", x).for_each(channels, means, squares, mean, square, channels, parts, count)
    return Moments(count, mean, square)


def statistics(
    xp: ArrayModule, total: Moments, running_mean: Array, running_var: Array, momentum: float, epsilon: float
) -> tuple[Array, Array, Array]:
    """See :func:`xpcnn.ops.normalization.statistics`."""
    results = xp.empty((3, total.mean.size), total.mean.dtype)
    _kernel(xp, "statistics", total.mean).for_each(
        total.mean.size, total.mean, total.squares, running_mean, running_var, results, float(momentum), float(epsilon),
        total.count, total.mean.size,
    )  # fmt: skip
    return results[0], results[1], results[2]


def normalize(
    xp: ArrayModule, x: Array, mean: Array, std: Array, weight: Array, bias: Array, workspace: Workspace
) -> Array:
    """See :func:`xpcnn.ops.normalization.normalize`."""
    x, channels, count = _rows(x, workspace)
    y = workspace.like(x)
    _kernel(xp, "normalize", x)(_grid(xp, channels, count), (THREADS,), x, mean, std, weight, bias, y, count)
    return y


def gradient_sums(xp: ArrayModule, dy: Array, x: Array, mean: Array, workspace: Workspace) -> Array:
    """See :func:`xpcnn.ops.normalization.gradient_sums`."""
    x, channels, count = _rows(x, workspace)
    dy, parts = to_batch_last(dy, workspace), _parts(xp, channels, count)
    sums, total = xp.empty((parts, 2, channels), x.dtype), xp.empty((2, channels), x.dtype)
    _kernel(xp, "gradient_sums_of_parts", x)((channels, parts), (THREADS,), dy, x, mean, sums, count)
    add_parts(xp, sums, total, None)
    return total


def normalize_backward(
    xp: ArrayModule,
    dy: Array,
    x: Array,
    mean: Array,
    sums: Array,
    count: int,
    std: Array,
    weight: Array,
    workspace: Workspace,
) -> Array:
    """See :func:`xpcnn.ops.normalization.normalize_backward`."""
    x, channels, own = _rows(x, workspace)
    dy, dx = to_batch_last(dy, workspace), workspace.like(x)
    _kernel(xp, "normalize_backward", x)(
        _grid(xp, channels, own), (THREADS,), dy, x, mean, sums, std, weight, dx, own, float(count)
    )
    return dx


def _rows(x: Array, workspace: Workspace) -> tuple[Array, int, int]:
    """Return x with each channel as a row in memory, the number of channels, and the number of values in a row."""
    check_size(x)
    return to_batch_last(x, workspace), x.shape[1], x.size // x.shape[1]


def _parts(xp: ArrayModule, channels: int, count: int) -> int:
    """Return how many parts to cut a row into: enough blocks for a large GPU, each with work for all its threads."""
    return max(1, min(many_blocks(xp) // channels, count // (4 * THREADS)))


def _grid(xp: ArrayModule, channels: int, count: int) -> tuple[int, int]:
    return channels, max(1, min(ceil_divide(count, THREADS), 8 * many_blocks(xp) // channels))


def _kernel(xp: ArrayModule, name: str, x: Array) -> Kernel:
    return kernel(xp, "normalization", name, x.dtype)
