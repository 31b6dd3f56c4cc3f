"""Cross-correlation as matrix products: im2col along the width, one product per output row, col2im for the gradient.

With the batch last in memory, copies and products run over (columns, images), long and contiguous. Matrices are stacked
as (groups, output rows, matrix rows, matrix columns).
"""

from __future__ import annotations

from collections.abc import Callable

from xpcnn.backend import Array, ArrayModule, is_host
from xpcnn.ops.im2col import blocks, im2col, rows_lowered
from xpcnn.ops.window import Window, pad, unpad
from xpcnn.ops.workspace import Workspace, to_batch_last

#: backward(dy, dweight, input_gradient) writes the weight's gradient and returns the input's, or None if not requested.
Backward = Callable[[Array, Array, bool], Array | None]


def correlation(
    xp: ArrayModule,
    x: Array,
    weight: Array,
    window: Window,
    workspace: Workspace,
    *,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Array, Backward]:
    """Cross-correlate images with filters: y[n, k, p] = Σ over c, i, j of weight[k, c, i, j] x[n, c, p + (i, j)].

    x: (n, channels, height, width); weight: (filters, channels / groups, kh, kw); y: (n, filters, rows, columns), the
    dtype of both. padding_mode: "zeros" or "edge" (the border repeated).
    """
    edge = padding_mode == "edge"
    padded = pad(xp, x, window.padding, "edge" if edge else 0.0, workspace)
    y = correlate(xp, padded, grouped(weight, groups), window, workspace)

    def backward(dy: Array, dweight: Array, input_gradient: bool) -> Array | None:
        weight_gradient(xp, padded, dy, dweight, window, workspace, groups=groups)
        if not input_gradient:
            return None
        around = (window.unpadded if edge else window).reach
        if window.strides == (1, 1) and around is not None:
            # The input's gradient is itself a correlation: of the fully padded dy with kernels rotated by 180 degrees.
            full = pad(xp, dy, around, 0.0, workspace)
            dx = correlate(xp, full, _turned(grouped(weight, groups)), window, workspace)
            return unpad(dx, window.padding, "edge") if edge else dx
        dpadded = _col2im(xp, dy, weight, window, groups, padded.shape, workspace)
        return unpad(dpadded, window.padding, padding_mode)

    return y, backward


def correlate(xp: ArrayModule, padded: Array, filters: Array, window: Window, workspace: Workspace) -> Array:
    """Multiply the windows of already padded images by :func:`grouped` filters."""
    n, channels, height, width = padded.shape
    size = window.unpadded.output_size(height, width)
    groups = len(filters)
    y = workspace.batch_last((n, groups * filters.shape[1], *size), padded.dtype)
    kernel, y_rows = _kernel(filters), _rows(y, groups)
    row_bytes = channels * window.kernel[1] * size[1] * padded.dtype.itemsize
    for images, rows in blocks(n, size[0], row_bytes, rows_lowered(window), workspace.column_bytes):
        block = y_rows[:, rows, :, :, images]
        columns = im2col(xp, padded, window, size[1], groups, images, rows, workspace)
        if is_host(xp) and block.shape[4] == n:
            xp.matmul(kernel, columns, out=_matrices(block))
        else:  # CuPy's matmul only writes to contiguous arrays
            block[...] = xp.matmul(kernel, columns).reshape(block.shape)
    return y


def weight_gradient(
    xp: ArrayModule,
    padded: Array,
    dy: Array,
    dweight: Array,
    window: Window,
    workspace: Workspace,
    *,
    groups: int = 1,
) -> None:
    """Write the weight's gradient: the sum over all output rows of the im2col columns times dy."""
    n, channels = padded.shape[:2]
    (kh, kw), (height, width) = window.kernel, dy.shape[2:]
    dy = to_batch_last(dy, workspace)
    dy_rows = _rows(dy, groups)
    row_bytes = channels * kw * width * padded.dtype.itemsize
    filters = dy_rows.shape[2]
    total: Array = 0
    for images, rows in blocks(n, height, row_bytes, rows_lowered(window), workspace.column_bytes):
        columns = im2col(xp, padded, window, width, groups, images, rows, workspace)
        dy_block = _matrices(dy_rows[:, rows, :, :, images])
        total = xp.matmul(columns, dy_block.swapaxes(2, 3)).sum(axis=1) + total
    total = total.reshape(groups, kh, channels // groups, kw, filters).transpose(0, 4, 2, 1, 3)
    dweight[...] = total.reshape(dweight.shape)


def _col2im(
    xp: ArrayModule,
    dy: Array,
    weight: Array,
    window: Window,
    groups: int,
    shape: tuple[int, ...],
    workspace: Workspace,
) -> Array:
    """Return the padded images' gradient by col2im: each window's gradient is added to the cells it was copied from."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    n, channels, (height, width) = shape[0], shape[1] // groups, dy.shape[2:]
    dpadded = workspace.batch_last(shape, dy.dtype)
    dpadded[...] = 0
    kernel, dpadded_rows = _kernel(grouped(weight, groups)).swapaxes(2, 3), _rows(dpadded, groups)
    dy_rows = _rows(to_batch_last(dy, workspace), groups)
    row_bytes = shape[1] * kw * width * dy.dtype.itemsize
    for images, rows in blocks(n, height, row_bytes, (2 * kh, 2 * kh), workspace.column_bytes):
        dy_block = dy_rows[:, rows, :, :, images]
        count, at_once = dy_block.shape[1], dy_block.shape[4]
        cells = workspace.scratch((groups, count, kh, channels, kw, width, at_once), dy.dtype, "lowered")
        xp.matmul(kernel, _matrices(dy_block), out=_matrices_of_cells(cells))
        lowered_rows = (count - 1) * sh + (kh - 1) * dh + 1
        lowered = workspace.scratch((groups, lowered_rows, channels, kw, width, at_once), dy.dtype, "col2im")
        lowered[...] = 0
        for i in range(kh):
            row = lowered[:, i * dh : i * dh + (count - 1) * sh + 1 : sh]
            row += cells[:, :, i]
        block = dpadded_rows[:, rows.start * sh : rows.start * sh + lowered_rows, :, :, images]
        for j in range(kw):
            column = block[:, :, :, j * dw : j * dw + (width - 1) * sw + 1 : sw]
            column += lowered[:, :, :, j]
    return dpadded


def grouped(weight: Array, groups: int) -> Array:
    """View filters (filters, channels, kh, kw) as (groups, filters / groups, channels, kh, kw)."""
    return weight.reshape(groups, len(weight) // groups, *weight.shape[1:])


def _turned(filters: Array) -> Array:
    """View the filters for the input's gradient: channels and filters swapped, kernels rotated by 180 degrees."""
    return filters[..., ::-1, ::-1].swapaxes(1, 2)


def _kernel(filters: Array) -> Array:
    """Return filters as matrices (groups, 1, filters, kh channels kw)."""
    groups, count, channels, kh, kw = filters.shape
    return filters.transpose(0, 1, 3, 2, 4).reshape(groups, 1, count, kh * channels * kw)


def _rows(images: Array, groups: int) -> Array:
    """View images with the batch last as (groups, rows, channels, columns, n)."""
    n, channels, height, width = images.shape
    return images.transpose(1, 2, 3, 0).reshape(groups, channels // groups, height, width, n).swapaxes(1, 2)


def _matrices(rows: Array) -> Array:
    """Reshape (groups, rows, channels, columns, n) to matrices (groups, rows, channels, columns n)."""
    return rows.reshape(*rows.shape[:3], -1)


def _matrices_of_cells(cells: Array) -> Array:
    """Reshape (groups, rows, kh, channels, kw, columns, n) to matrices (groups, rows, kh channels kw, columns n)."""
    groups, rows, kh, channels, kw, width, n = cells.shape
    return cells.reshape(groups, rows, kh * channels * kw, width * n)
