"""Pooling layers."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.layers.sizes import fitting_size
from xpcnn.ops import pooling
from xpcnn.ops.window import Window, check_padding, pair, resolve_padding
from xpcnn.parameters import Shape


class Pool2D(Layer):
    """Base class of the pooling layers: a window of ``pool_size`` that moves by ``strides``.

    Input (n, channels, height, width), output (n, channels, rows, columns). strides: by default ``pool_size``. padding:
    "valid", "same", a whole number or (rows, columns), smaller than the window. Any remainder at the edge is dropped,
    as in PyTorch.
    """

    _shaping = frozenset({"pool_size", "strides", "padding"})

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str | int | tuple[int, int] = "valid",
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.pool_size = pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, "strides")
        self.padding = check_padding(padding)
        if isinstance(self.padding, tuple) and any(p >= k for p, k in zip(self.padding, self.pool_size, strict=True)):
            raise ValueError(
                f"padding must be smaller than the window, or a window could lie outside the image. "
                f"Received: padding={padding!r} with pool_size={self.pool_size}."
            )

    def build(self, input_shape: Shape) -> Shape:
        """Resolve the window for this input."""
        channels, height, width = self.image_shape(input_shape)
        padding = resolve_padding(self.padding, self.pool_size, self.strides, (1, 1), (height, width))
        self.window = Window(self.pool_size, self.strides, padding)
        return (channels, *fitting_size(self, self.window, input_shape))


class MaxPool2D(Pool2D):
    """Maximum of every window; padding never wins, and the first of equal cells gets the gradient.

    >>> MaxPool2D(2).connect((10, 46, 46))
    (10, 23, 23)
    """

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Take the largest cells."""
        y, backward = pooling.extreme_pool(
            context.xp, x, self.window, context.workspace, largest=True, training=context.backward
        )
        return y, lambda dy, gradients: backward(dy)


class MinPool2D(Pool2D):
    """Minimum of every window; padding never wins, and the first of equal cells gets the gradient."""

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Take the smallest cells."""
        y, backward = pooling.extreme_pool(
            context.xp, x, self.window, context.workspace, largest=False, training=context.backward
        )
        return y, lambda dy, gradients: backward(dy)


class AveragePool2D(Pool2D):
    """Average of every window over the cells inside the image; padding is not counted."""

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Average the windows."""
        y, backward = pooling.average_pool(context.xp, x, self.window, context.workspace)
        return y, lambda dy, gradients: backward(dy)


class AdaptiveAveragePool2D(Layer):
    """Average over as many windows as the output has cells: (channels, height, width) to (channels, rows, columns).

    output_size: a whole number or (rows, columns). The windows are those of
    :func:`~xpcnn.ops.pooling.adaptive_windows`, as in PyTorch, so that any image size gives as many features.

    >>> AdaptiveAveragePool2D(7).connect((512, 10, 12))
    (512, 7, 7)
    """

    _shaping = frozenset({"output_size"})

    def __init__(
        self, output_size: int | tuple[int, int], *, name: str | None = None, xp: ArrayModule | str | None = None
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.output_size = pair(output_size, "output_size")

    def build(self, input_shape: Shape) -> Shape:
        """Replace height and width."""
        return (self.image_shape(input_shape)[0], *self.output_size)

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Average the windows."""
        y, backward = pooling.adaptive_average_pool(context.xp, x, self.output_size, context.workspace)
        return y, lambda dy, gradients: backward(dy)


class GlobalAveragePool2D(Layer):
    """Average of each channel over the whole image: (n, channels, height, width) to (n, channels)."""

    def build(self, input_shape: Shape) -> Shape:
        """Drop height and width."""
        return self.image_shape(input_shape)[:1]

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Average the images."""
        y, backward = pooling.global_average_pool(context.xp, x, context.workspace)
        return y, lambda dy, gradients: backward(dy)


class GlobalMaxPool2D(Layer):
    """Maximum of each channel over the whole image: (n, channels, height, width) to (n, channels)."""

    def build(self, input_shape: Shape) -> Shape:
        """Drop height and width."""
        return self.image_shape(input_shape)[:1]

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Take the largest cells."""
        y, backward = pooling.global_max_pool(context.xp, x, context.workspace)
        return y, lambda dy, gradients: backward(dy)
