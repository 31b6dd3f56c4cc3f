"""Convolution as matrix products: lower the width, multiply row by row, fold back.

Lowering copies, for every row of the image, what each row of a kernel sees there: kw times the image. The windows of
one row of output are kh neighbouring rows of that copy, a matrix that needs no copy of its own (Cho and Brand, "MEC:
memory-efficient convolution for deep neural network", ICML 2017). With the batch last in memory, copies and products
run over (columns, images), long and contiguous. The work is cut into blocks of rows, so that what is lowered stays
within the workspace's byte budget whatever the batch.

Matrices are stacked as (groups, output rows, matrix rows, matrix columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xpcnn.backend import Array, ArrayModule, is_host
from xpcnn.ops.window import Window, pad, unpad
from xpcnn.ops.workspace import Workspace, to_batch_last

#: Products of few filters are slow in BLAS, but where they are small: OpenBLAS multiplies up to 100 x 100 x 100 without
#: packing its operands first. So their rows are cut, and dy is turned around in memory for the weight's gradient.
MANY_FILTERS = 32
SMALL_PRODUCT = 10**6

#: backward(dy, dweight, input_gradient) writes the weight's gradient and returns the input's, or None if not asked for.
Backward = Callable[[Array, Array, bool], Array | None]


def convolution(
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
    padded = pad(xp, x, window.padding, border(padding_mode), workspace)
    y = correlate(xp, padded, weight, window, workspace, groups=groups)

    def backward(dy: Array, dweight: Array, input_gradient: bool) -> Array | None:
        return gradients(
            xp, padded, weight, dy, dweight, window, workspace,
            groups=groups, padding_mode=padding_mode, input_gradient=input_gradient,
        )  # fmt: skip

    return y, backward


def border(padding_mode: str) -> str | float:
    """Return what :func:`xpcnn.ops.window.pad` fills the border with."""
    return "edge" if padding_mode == "edge" else 0.0


def gradients(
    xp: ArrayModule,
    padded: Array,
    weight: Array,
    dy: Array,
    dweight: Array,
    window: Window,
    workspace: Workspace,
    *,
    groups: int,
    padding_mode: str,
    input_gradient: bool,
) -> Array | None:
    """Write the weight's gradient and return the input's, or None if not asked for, from the padded input and dy."""
    weight_gradient(xp, padded, dy, dweight, window, workspace, groups=groups)
    if not input_gradient:
        return None
    if window.strides == (1, 1):
        # It is a convolution itself: of dy, padded to the full size, with the kernels turned by half a turn.
        (rows, columns), turned = window.extent, _turned(weight, groups)
        full = pad(xp, dy, ((rows - 1, rows - 1), (columns - 1, columns - 1)), 0.0, workspace)
        dpadded = correlate(xp, full, turned, window, workspace, groups=groups)
    else:
        dpadded = _folded(xp, dy, weight, window, groups, padded.shape, workspace)
    return unpad(dpadded, window.padding, border(padding_mode))


def correlate(
    xp: ArrayModule, padded: Array, weight: Array, window: Window, workspace: Workspace, *, groups: int = 1
) -> Array:
    """Multiply the windows of images that have their padding by the filters."""
    n, channels, height, width = padded.shape
    size = window.unpadded.output_size(height, width)
    y = workspace.batch_last((n, weight.shape[0], *size), padded.dtype)
    kernel, y_rows = _kernel(weight, groups), _rows(y, groups)
    row_bytes = channels * window.kernel[1] * size[1] * padded.dtype.itemsize
    for images, rows in _blocks(n, size[0], row_bytes, _rows_lowered(window), workspace.column_bytes):
        columns = _lower(xp, padded, window, size[1], groups, images, rows, workspace)
        block = y_rows[:, rows, :, :, images]
        if is_host(xp) and block.shape[4] == n:
            parts = _parts(kernel, columns, size[1])
            xp.matmul(kernel[:, :, None], _cut(columns, parts), out=_cut(_matrices(block), parts))
        else:  # CuPy writes products into contiguous arrays only
            block[...] = xp.matmul(kernel, columns).reshape(block.shape)
    return y


def _parts(kernel: Array, columns: Array, width: int) -> int:
    """Into how many equal parts a row of output is cut for a product of few filters."""
    filters = kernel.shape[2]
    if filters >= MANY_FILTERS:
        return 1
    fitting = (n for n in range(1, width) if width % n == 0 and filters * columns[0, 0].size // n <= SMALL_PRODUCT)
    return next(fitting, 1)


def _cut(matrices: Array, parts: int) -> Array:
    """View matrices (groups, rows, a, b) as (groups, rows, parts, a, b / parts), cut along their columns."""
    groups, rows, a, b = matrices.shape
    return matrices.reshape(groups, rows, a, parts, b // parts).swapaxes(2, 3)


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
    """Write the sum, over all rows of output, of the columns times dy."""
    n, channels = padded.shape[:2]
    (kh, kw), (height, width) = window.kernel, dy.shape[2:]
    dy_rows = _rows(to_batch_last(dy, workspace), groups)
    row_bytes = channels * kw * width * padded.dtype.itemsize
    total: Array = 0
    for images, rows in _blocks(n, height, row_bytes, _rows_lowered(window), workspace.column_bytes):
        columns = _lower(xp, padded, window, width, groups, images, rows, workspace)
        dy_block = _matrices(dy_rows[:, rows, :, :, images]).swapaxes(2, 3)
        if dy_block.shape[3] < MANY_FILTERS:
            dy_block = _contiguous(xp, dy_block, workspace)
        products = workspace.scratch((*columns.shape[:3], dy_block.shape[3]), padded.dtype, number=1)
        total = xp.matmul(columns, dy_block, out=products).sum(axis=1) + total
    total = total.reshape(groups, kh, channels // groups, kw, -1).transpose(0, 4, 2, 1, 3)
    dweight[...] = total.reshape(dweight.shape)


def _folded(
    xp: ArrayModule,
    dy: Array,
    weight: Array,
    window: Window,
    groups: int,
    shape: tuple[int, ...],
    workspace: Workspace,
) -> Array:
    """Return the padded images' gradient: that of every window's cells, added where the cells were copied from."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    n, channels, (height, width) = shape[0], shape[1] // groups, dy.shape[2:]
    dpadded = workspace.batch_last(shape, dy.dtype)
    dpadded[...] = 0
    kernel, dpadded_rows = _kernel(weight, groups).swapaxes(2, 3), _rows(dpadded, groups)
    dy_rows = _rows(to_batch_last(dy, workspace), groups)
    row_bytes = shape[1] * kw * width * dy.dtype.itemsize
    for images, rows in _blocks(n, height, row_bytes, (2 * kh, 2 * kh), workspace.column_bytes):
        dy_block = dy_rows[:, rows, :, :, images]
        count, at_once = dy_block.shape[1], dy_block.shape[4]
        cells = workspace.scratch((groups, count, kh, channels, kw, width, at_once), dy.dtype)
        xp.matmul(kernel, _matrices(dy_block), out=_matrices_of_cells(cells))
        lowered_rows = (count - 1) * sh + (kh - 1) * dh + 1
        lowered = workspace.scratch((groups, lowered_rows, channels, kw, width, at_once), dy.dtype, number=1)
        lowered[...] = 0
        for i in range(kh):
            row = lowered[:, i * dh : i * dh + (count - 1) * sh + 1 : sh]
            row += cells[:, :, i]
        block = dpadded_rows[:, rows.start * sh : rows.start * sh + lowered_rows, :, :, images]
        for j in range(kw):
            column = block[:, :, :, j * dw : j * dw + (width - 1) * sw + 1 : sw]
            column += lowered[:, :, :, j]
    return dpadded


def _blocks(
    n: int, height: int, row_bytes: int, rows_lowered: tuple[int, int], budget: int
) -> Iterator[tuple[slice, slice]]:
    """Cut the output into blocks (images, rows) whose lowered rows fit the budget, one row of one image at least.

    row_bytes: of one lowered row of one image; rows_lowered: by the first row of output, and by each one more.
    """
    first, more = rows_lowered
    images_at_once = max(1, min(n, budget // (row_bytes * first)))
    rows_at_once = 1 + max(0, budget // (row_bytes * images_at_once) - first) // more
    for image in range(0, n, images_at_once):
        for row in range(0, height, rows_at_once):
            yield slice(image, min(image + images_at_once, n)), slice(row, min(row + rows_at_once, height))


def _rows_lowered(window: Window) -> tuple[int, int]:
    """Rows lowered for the first row of output and for each one more: windows share rows where that is fewer."""
    (kh, _), (sh, _), (dh, _) = window.kernel, window.strides, window.dilation
    return (kh, sh) if dh == 1 and sh < kh else (kh, kh)


def _lower(
    xp: ArrayModule,
    padded: Array,
    window: Window,
    width: int,
    groups: int,
    images: slice,
    rows: slice,
    workspace: Workspace,
) -> Array:
    """Return the windows of some rows of output as columns: (groups, rows, kh channels kw, width n)."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    part = padded[images, :, rows.start * sh :]
    n, channels, count = part.shape[0], part.shape[1] // groups, rows.stop - rows.start
    image, channel, row, column = part.strides
    as_strided = xp.lib.stride_tricks.as_strided
    shared = _rows_lowered(window)[1] == sh and dh == 1
    if shared:
        shape: tuple[int, ...] = (groups, (count - 1) * sh + kh, channels, kw, width, n)
        strides: tuple[int, ...] = (channels * channel, row, channel, dw * column, sw * column, image)
    else:
        shape = (groups, count, kh, channels, kw, width, n)
        strides = (channels * channel, sh * row, dh * row, channel, dw * column, sw * column, image)
    lowered = workspace.scratch(shape, padded.dtype)
    xp.copyto(lowered, as_strided(part, shape, strides))
    item = padded.dtype.itemsize
    return as_strided(
        lowered,
        (groups, count, kh * channels * kw, width * n),
        (lowered.strides[0], (sh if shared else 1) * lowered.strides[1], width * n * item, item),
    )


def _contiguous(xp: ArrayModule, array: Array, workspace: Workspace) -> Array:
    """Return a C-contiguous copy."""
    copy = workspace.scratch(array.shape, array.dtype, number=2)
    xp.copyto(copy, array)
    return copy


def _kernel(weight: Array, groups: int) -> Array:
    """Return the filters as matrices (groups, 1, filters, kh channels kw)."""
    filters, channels, kh, kw = weight.shape
    by_row = weight.reshape(groups, filters // groups, channels, kh, kw).transpose(0, 1, 3, 2, 4)
    return by_row.reshape(groups, 1, filters // groups, kh * channels * kw)


def _turned(weight: Array, groups: int) -> Array:
    """Return the filters of the input's gradient: channels and filters exchanged, kernels turned by half a turn."""
    filters, channels, kh, kw = weight.shape
    by_channel = weight.reshape(groups, filters // groups, channels, kh, kw)[..., ::-1, ::-1].swapaxes(1, 2)
    return by_channel.reshape(groups * channels, filters // groups, kh, kw)


def _rows(images: Array, groups: int) -> Array:
    """View images with the batch last as (groups, rows, channels, columns, n)."""
    n, channels, height, width = images.shape
    return images.transpose(1, 2, 3, 0).reshape(groups, channels // groups, height, width, n).swapaxes(1, 2)


def _matrices(rows: Array) -> Array:
    """Join (groups, rows, channels, columns, n) to matrices (groups, rows, channels, columns n)."""
    return rows.reshape(*rows.shape[:3], -1)


def _matrices_of_cells(cells: Array) -> Array:
    """Join (groups, rows, kh, channels, kw, columns, n) to matrices (groups, rows, kh channels kw, columns n)."""
    groups, rows, kh, channels, kw, width, n = cells.shape
    return cells.reshape(groups, rows, kh * channels * kw, width * n)
