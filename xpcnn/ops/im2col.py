"""im2col: the windows of a convolution copied into matrix columns, here along the width only.

Each row of the image is lowered once, by copying what every row of a kernel sees in it, so the copy is kw times the
image and not kh kw times, as with plain im2col. The windows of one output row are kh consecutive rows of that copy, a
matrix that is a view (Cho and Brand, "MEC: memory-efficient convolution for deep neural network", ICML 2017). The work
is done in blocks of rows, so that the lowered copy stays within the workspace's byte budget whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Iterator

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, strided


def blocks(
    n: int, output_rows: int, row_bytes: int, rows_lowered: tuple[int, int], budget: int
) -> Iterator[tuple[slice, slice]]:
    """Cut the output into blocks (images, rows) whose lowered rows fit the budget, at least one row of one image each.

    row_bytes: size of one lowered row of one image; rows_lowered: as from :func:`rows_lowered`.
    """
    first, more = rows_lowered
    images_at_once = max(1, min(n, budget // (row_bytes * first)))
    rows_at_once = 1 + max(0, budget // (row_bytes * images_at_once) - first) // more
    for image in range(0, n, images_at_once):
        for row in range(0, output_rows, rows_at_once):
            yield slice(image, min(image + images_at_once, n)), slice(row, min(row + rows_at_once, output_rows))


def rows_lowered(window: Window) -> tuple[int, int]:
    """Return how many rows are lowered for the first output row, and for each further one."""
    rows = window.kernel[0]
    return (rows, window.strides[0] if window.shares_rows else rows)


def im2col(
    xp: ArrayModule,
    padded: Array,
    window: Window,
    width: int,
    groups: int,
    images: slice,
    rows: slice,
    workspace: Workspace,
) -> Array:
    """Return the windows of some output rows as im2col columns: (groups, rows, kh channels kw, width n)."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    part = padded[images, :, rows.start * sh :]
    n, channels, count = part.shape[0], part.shape[1] // groups, rows.stop - rows.start
    image, channel, row, column = part.strides
    if window.shares_rows:
        shape: tuple[int, ...] = (groups, (count - 1) * sh + kh, channels, kw, width, n)
        strides: tuple[int, ...] = (row, channel, dw * column, sw * column, image)
    else:
        shape = (groups, count, kh, channels, kw, width, n)
        strides = (sh * row, dh * row, channel, dw * column, sw * column, image)
    lowered = workspace.scratch(shape, padded.dtype, "lowered")
    xp.copyto(lowered, strided(xp, part, shape, (channels * channel, *strides)))
    item = padded.dtype.itemsize
    return strided(
        xp,
        lowered,
        (groups, count, kh * channels * kw, width * n),
        (lowered.strides[0], (sh if window.shares_rows else 1) * lowered.strides[1], width * n * item, item),
    )
