"""Batch normalisation, pooling and ReLU: three kernels forward, and two or three backward.

Pooling comes first, as in :mod:`xpcnn.ops.cpu.normalization`.
"""

from __future__ import annotations

import functools

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import THREADS, Kernel, ceil_divide, check_size, kernel, many_blocks
from xpcnn.ops.cuda.pooling import kernel_for, structure_of, winner_dtype
from xpcnn.ops.normalization import Backward, InputGradient, Moments
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, to_batch_last
from xpcnn.precision import computed_dtype

#: Rows up to this long are summed by one block each, of up to so many threads: a second launch would cost more.
MOST_ALONE, MOST_THREADS = 8192, 1024


class MomentsOfParts(Moments):
    """Moments that are combined only when read, as where shards are added: :func:`statistics` takes those of the parts.

    parts: means and sums of squares, (2, channels, parts).
    """

    xp: ArrayModule
    parts: Array

    def __init__(self, xp: ArrayModule, count: int, parts: Array) -> None:
        vars(self).update(xp=xp, count=count, parts=parts)

    def __reduce__(self) -> tuple[type[Moments], tuple[int, Array, Array]]:
        """Another rank gets combined moments."""
        return Moments, (self.count, self.mean, self.squares)

    @functools.cached_property
    def _combined(self) -> Array:
        _, channels, parts = self.parts.shape
        results = self.xp.empty((2, channels), self.parts.dtype)
        _kernel(self.xp, "combine_moments", results).for_each(
            channels, self.parts[0], self.parts[1], results, channels, parts, self.count
        )
        return results

    @property
    def mean(self) -> Array:
        """The mean of each channel."""
        return self._combined[0]

    @property
    def squares(self) -> Array:
        """The sums of the squared deviations from them."""
        return self._combined[1]


def moments(xp: ArrayModule, x: Array, workspace: Workspace) -> Moments:
    """See :func:`xpcnn.ops.normalization.moments`."""
    x = _rows(x, workspace)
    channels, count = _row_sizes(x)
    parts = xp.empty((2, channels, _parts(xp, channels, count)), computed_dtype(x.dtype))
    _kernel(xp, "moments_of_parts", x)((channels, parts.shape[2]), (THREADS,), x, parts[0], parts[1], count)
    return MomentsOfParts(xp, count, parts)


def statistics(
    xp: ArrayModule, total: Moments, running_mean: Array, running_var: Array, momentum: float, epsilon: float
) -> tuple[Array, Array, Array, Array]:
    """See :func:`xpcnn.ops.normalization.statistics`."""
    parts = total.parts if isinstance(total, MomentsOfParts) else (total.mean, total.squares)
    channels = running_mean.size
    results = xp.empty((4, channels), running_mean.dtype)
    _kernel(xp, "statistics", results).for_each(
        channels, parts[0], parts[1], running_mean, running_var, results, float(momentum), float(epsilon), channels,
        parts[0].size // channels, total.count,
    )  # fmt: skip
    return results[0], results[1], results[2], results[3]


def batch_normalization(
    xp: ArrayModule,
    x: Array,
    mean: Array,
    std: Array,
    weight: Array,
    bias: Array,
    workspace: Workspace,
    *,
    pool: Window | None = None,
    relu: bool = False,
    training: bool = True,
) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.normalization.batch_normalization`."""
    x = z = _rows(x, workspace)
    channels, count = _row_sizes(x)
    winners = None
    if pool is None:
        y = workspace.like(x)
        _kernel(xp, "normalize", x)(_grid(xp, x), (THREADS,), x, mean, std, weight, bias, y, count, relu)
    else:
        n, _, *size = x.shape
        y = workspace.batch_last((n, channels, *pool.output_size(*size)), x.dtype)
        of = structure_of(pool, x.shape, y.shape, activation="relu" if relu else "linear")
        if training:
            z, winners = workspace.like(y), workspace.batch_last(y.shape, winner_dtype(xp, pool))
        kernel_for(xp, "pooled_normalization", "pool_normalize", pool, x.dtype).for_each(
            y.size, x, mean, std, weight, bias, y, z if training else None, winners, of
        )
    clipped = y if relu else None

    def backward(dy: Array, dweight: Array | None, dbias: Array | None) -> tuple[Array | None, InputGradient]:
        if pool is not None and winners is None:
            raise RuntimeError("This pooling ran without training=True, so it has no backward pass.")
        dy, sums = to_batch_last(dy, workspace), None
        if dweight is not None and dbias is not None:
            sums = _gradient_sums(xp, dy, clipped, z, mean, std, dweight, dbias)

        def input_gradient(totals: Array | None, samples: int) -> Array:
            dx, line = workspace.like(x), (mean, totals, std, weight)
            if pool is None:
                _kernel(xp, "normalize_backward", x)(
                    _grid(xp, x), (THREADS,), dy, clipped, x, *line, dx, count, float(samples)
                )
            else:
                kernel_for(xp, "pooled_normalization", "unpool_normalize_backward", pool, x.dtype).for_each(
                    x.size, dy, y, winners, x, *line, dx, float(samples), of
                )
            return dx

        return sums, input_gradient

    return y, backward


def _gradient_sums(
    xp: ArrayModule, dy: Array, clipped: Array | None, x: Array, mean: Array, std: Array, dweight: Array,
    dbias: Array,
) -> Array:  # fmt: skip
    """Write the gradients of weight and bias, and return the sums as :func:`xpcnn.ops.normalization.gradient_sums`.

    clipped: 0 where ReLU clipped the output, or None.
    """
    channels, count = _row_sizes(x)
    alone = count <= MOST_ALONE
    threads = min(MOST_THREADS, 32 * ceil_divide(count, 32)) if alone else THREADS
    parts = xp.empty((1 if alone else _parts(xp, channels, count), 2, channels), mean.dtype)
    _kernel(xp, "gradient_sums_of_parts", x)(
        (channels, len(parts)), (threads,), dy, clipped, x, mean, std, parts, dweight, dbias, count
    )
    if len(parts) == 1:
        return parts[0]
    sums = xp.empty((2, channels), mean.dtype)
    _kernel(xp, "add_gradient_sums", sums).for_each(channels, parts, std, sums, dweight, dbias, channels, len(parts))
    return sums


def _rows(x: Array, workspace: Workspace) -> Array:
    """Return x with each channel as a row in memory."""
    check_size(x)
    return to_batch_last(x, workspace)


def _row_sizes(x: Array) -> tuple[int, int]:
    """Return the number of channels, and the number of values in the row of each."""
    return x.shape[1], x.size // x.shape[1]


def _parts(xp: ArrayModule, channels: int, count: int) -> int:
    """Return how many parts to cut a row into: enough blocks for a large GPU, each with work for all its threads."""
    return max(1, min(many_blocks(xp) // channels, count // (4 * THREADS)))


def _grid(xp: ArrayModule, x: Array) -> tuple[int, int]:
    channels, count = _row_sizes(x)
    return channels, max(1, min(ceil_divide(count, THREADS), 8 * many_blocks(xp) // channels))


def _kernel(xp: ArrayModule, name: str, x: Array) -> Kernel:
    return kernel(xp, "normalization", name, x.dtype)
