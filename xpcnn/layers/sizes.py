"""Size checks shared by several layers."""

from __future__ import annotations

from xpcnn.layers.base import Layer
from xpcnn.ops.window import Pair, Window
from xpcnn.parameters import Shape


def fitting_size(layer: Layer, window: Window, input_shape: Shape) -> Pair:
    """Return the window's output (rows, columns), or raise the layer's error if the window does not fit."""
    rows, columns = window.output_size(*input_shape[-2:])
    if rows < 1 or columns < 1:
        (kh, kw), (height, width) = window.extent, input_shape[-2:]
        what = "kernel" if hasattr(layer, "kernel_size") else "window"
        raise layer.refuse(
            f"a {kh}x{kw} {what} does not fit the {height}x{width} input",
            input_shape,
            f'Use padding="same", a smaller {what}, or fewer pooling layers.',
        )
    return rows, columns
