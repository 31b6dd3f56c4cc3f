"""Two-dimensional convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpcnn import initializers
from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.activation import activation_part
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.layers.sizes import fitting_size
from xpcnn.ops.convolution import convolution
from xpcnn.ops.window import Window, check_padding, pair, resolve_padding
from xpcnn.parameters import Shape
from xpcnn.registry import check_int

PADDING_MODES = ("zeros", "edge")


class Conv2D(Layer):
    """Convolution layer: each output channel is the input cross-correlated with one filter, plus a bias.

    y[n, k, p] = Σ weight[k, c, i, j] x[n, c, p strides + (i, j) dilation] + bias[k]  (a cross-correlation, as in most
    libraries; Goodfellow, Bengio and Courville, "Deep learning", 2016, equation 9.6).

    Input (n, channels, height, width), output (n, filters, rows, columns); weight (filters, channels / groups, rows,
    columns), bias (filters,). kernel_size, strides, dilation: a whole number or (rows, columns). padding: "valid"
    (none), "same" (ceil(size / strides) outputs, any extra row or column at the end), a whole number or (rows,
    columns). padding_mode: "zeros" or "edge". groups: how many independent groups the input and output channels are
    split into.

    Raises ValueError at build for a kernel that does not fit, or if ``groups`` does not divide the channels.

    >>> Conv2D(10, 5, activation="relu").connect((1, 50, 50))
    (10, 46, 46)
    """

    _fixed = frozenset({"activation"})
    _shaping = frozenset({"filters", "kernel_size", "strides", "padding", "dilation", "groups", "use_bias"})

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = "valid",
        padding_mode: str = "zeros",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        activation: str | Layer | None = None,
        use_bias: bool = True,
        kernel_initializer: str | initializers.Initializer = "he_normal",
        bias_initializer: str | initializers.Initializer = "zeros",
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.filters = check_int("filters", filters, 1)
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.strides = pair(strides, "strides")
        self.padding = check_padding(padding)
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}. Received: {padding_mode!r}.")
        self.padding_mode = padding_mode
        self.dilation = pair(dilation, "dilation")
        self.groups = check_int("groups", groups, 1)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self._activation = activation_part(activation)
        self.on_tensor_cores = self.groups == 1

    def sublayers(self) -> Sequence[Layer]:
        """Return the activation."""
        return self._activation

    def build(self, input_shape: Shape) -> Shape:
        """Declare the weight and the bias."""
        channels, height, width = self.image_shape(input_shape)
        if channels % self.groups or self.filters % self.groups:
            raise self.refuse(
                f"groups={self.groups} must divide both the {channels} input channels and the {self.filters} filters",
                input_shape,
                "Choose another number of groups or filters.",
            )
        self.window = Window(
            self.kernel_size,
            self.strides,
            resolve_padding(self.padding, self.kernel_size, self.strides, self.dilation, (height, width)),
            self.dilation,
        )
        size = fitting_size(self, self.window, input_shape)
        shape = (self.filters, channels // self.groups, *self.kernel_size)
        self.declare("weight", shape, self.kernel_initializer, decays=True)
        if self.use_bias:
            self.declare("bias", (self.filters,), self.bias_initializer)
        return (self.filters, *size)

    def forward(
        self,
        params: Arrays,
        x: Array,
        context: Context,
        *,
        pool: Window | None = None,
        fused_activation: str = "linear",
        input_gradient: bool = True,
        stored: Any = None,
    ) -> tuple[Array, Backward]:
        """Convolve and add the bias, optionally fused with max pooling over ``pool`` and ReLU or ReLU6.

        stored: the dtype of y, if not the weight's.
        """
        y, backward = convolution(
            context.xp,
            x,
            params["weight"],
            params.get("bias"),
            self.window,
            context.workspace,
            groups=self.groups,
            padding_mode=self.padding_mode,
            pool=pool,
            activation=fused_activation,
            training=context.backward,
            stored=stored,
        )
        return y, lambda dy, gradients: backward(dy, gradients["weight"], gradients.get("bias"), input_gradient)
