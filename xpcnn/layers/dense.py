"""Fully connected layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpcnn import initializers
from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.activation import activation_part
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops.dense import dense
from xpcnn.parameters import Shape
from xpcnn.registry import check_int


class Dense(Layer):
    """Fully connected layer, y = x Wᵀ + b.

    Input (n, features), output (n, units); weight (units, features), bias (units,). Raises ValueError at build for
    input that is not flat.

    >>> Dense(96, activation="relu").connect((810,))
    (96,)
    """

    _fixed = frozenset({"activation"})
    _shaping = frozenset({"units", "use_bias"})
    on_tensor_cores = True

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
        self.units = check_int("units", units, 1)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self._activation = activation_part(activation)

    def sublayers(self) -> Sequence[Layer]:
        """Return the activation."""
        return self._activation

    def build(self, input_shape: Shape) -> Shape:
        """Declare the weight and the bias."""
        if len(input_shape) != 1:
            raise self.refuse("it takes flat input, (features,)", input_shape, "Put Flatten() before it.")
        self.declare("weight", (self.units, input_shape[0]), self.kernel_initializer, decays=True)
        if self.use_bias:
            self.declare("bias", (self.units,), self.bias_initializer)
        return (self.units,)

    def forward(
        self, params: Arrays, x: Array, context: Context, *, relu: bool = False, input_gradient: bool = True,
        stored: Any = None,
    ) -> tuple[Array, Backward]:  # fmt: skip
        """Multiply by the weight and add the bias, optionally fused with ReLU.

        stored: the dtype of y, if not the weight's.
        """
        y, backward = dense(
            context.xp, x, params["weight"], params.get("bias"), context.workspace, relu=relu, stored=stored
        )
        return y, lambda dy, gradients: backward(dy, gradients["weight"], gradients.get("bias"), input_gradient)
