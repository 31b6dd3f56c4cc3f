"""Fully connected layer."""

from __future__ import annotations

from xpcnn import initializers
from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.activation import activation_part
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.parameters import Shape
from xpcnn.registry import whole


class Dense(Layer):
    """Fully connected layer, y = x Wᵀ + b.

    Input (n, features), output (n, units); weight (units, features), bias (units,). Raises ValueError at build for an
    input that is not flat.

    >>> Dense(96, activation="relu").connect((810,))
    (96,)
    """

    def __init__(
        self,
        units: int,
        activation: str | Layer | None = None,
        use_bias: bool = True,
        kernel_initializer: str | initializers.Initializer = "he_normal",
        bias_initializer: str | initializers.Initializer = "zeros",
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.units = whole("units", units, 1)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self._activation = activation_part(activation)

    def parts(self) -> list[Layer]:
        """Return the product and its activation."""
        return [self, *self._activation]

    def build(self, input_shape: Shape) -> Shape:
        """Declare weight and bias."""
        if len(input_shape) != 1:
            raise self.refuse("it takes flat input, (features,)", input_shape, "Put Flatten() before it.")
        self.declare("weight", (self.units, input_shape[0]), self.kernel_initializer, decays=True)
        if self.use_bias:
            self.declare("bias", (self.units,), self.bias_initializer)
        return (self.units,)

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Multiply by the weight and add the bias."""
        y = context.workspace.batch_last((x.shape[0], self.units), x.dtype)
        self.xp.matmul(params["weight"], x.T, out=y.T)
        if self.use_bias:
            y += params["bias"]

        def backward(dy: Array, gradients: Arrays) -> Array:
            self.xp.matmul(dy.T, x, out=gradients["weight"])
            if self.use_bias:
                dy.sum(axis=0, out=gradients["bias"])
            if not self.needs_input_gradient:
                return None
            dx = context.workspace.like(x)
            self.xp.matmul(params["weight"].T, dy.T, out=dx.T)
            return dx

        return y, backward
