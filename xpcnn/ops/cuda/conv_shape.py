"""The shapes that a correlation reads and writes, as passed to its kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cuda.activations import NUMBERS
from xpcnn.ops.cuda.compiler import ceil_divide, structure
from xpcnn.ops.window import Pair, Window


class ConvShape(NamedTuple):
    """The shape of a correlation's input, the strides of its filters, and the size of its output."""

    n: int
    groups: int
    channels: int
    size: Pair
    filters: int
    rows_and_columns: Pair
    #: Strides from one group, filter, channel, row and column of the filters to the next, in elements.
    steps: tuple[int, int, int, int, int]

    @property
    def filters_at_once(self) -> int:
        """How many filters a thread sums: 4, 8, 12 or 16, so that few sums are wasted."""
        return 4 * ceil_divide(ceil_divide(self.filters, ceil_divide(self.filters, 16)), 4)

    def structure(
        self, window: Window, spread: Pair = (1, 1), *, activation: str = "linear", pooled: Pair | None = None
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
        """Return the structure defined in correlation.cuh. spread: the distance between input cells, zeros between."""
        (top, _), (left, _) = window.padding
        group, filter_, channel, row, column = self.steps
        return structure(
            n=self.n, channels=self.channels, height=self.size[0], width=self.size[1],
            filters=self.filters, rows=self.rows_and_columns[0], columns=self.rows_and_columns[1],
            kernel_height=window.kernel[0], kernel_width=window.kernel[1],
            stride_down=window.strides[0], stride_right=window.strides[1],
            dilation_down=window.dilation[0], dilation_right=window.dilation[1], top=top, left=left,
            spread_down=spread[0], spread_right=spread[1],
            group_step=group, filter_step=filter_, channel_step=channel, row_step=row, column_step=column,
            activation=NUMBERS[activation],
            pooled_rows=pooled[0] if pooled else 0, pooled_columns=pooled[1] if pooled else 0,
        )  # fmt: skip


def steps_of(weight: Array, groups: int) -> tuple[int, int, int, int, int]:
    """Return the strides from one group, filter, channel, row and column of filters to the next, in elements."""
    filters, channels, rows, columns = weight.shape
    return filters // groups * channels * rows * columns, channels * rows * columns, rows * columns, columns, 1
