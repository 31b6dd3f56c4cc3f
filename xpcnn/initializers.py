"""Initial weights, drawn on the host in float64, so that a seed gives the same weights on every backend.

The variance of a weight is ``scale / fan``: fan-in for He and LeCun, the mean of fan-in and fan-out for
Glorot. A dense weight (out, in) has fans in and out; a kernel (out, in, kh, kw) has these times kh kw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xpcnn.registry import Named, Registry, check_float

#: The type of a custom function, called as ``function(generator, shape)``.
Function = Callable[[np.random.Generator, tuple[int, ...]], Any]


class Initializer(Named):
    """Base class of initialisers: ``initializer(generator, shape, dtype)`` returns a new host array."""

    def __call__(
        self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float32
    ) -> np.ndarray[Any, Any]:
        """Return an array of ``shape`` and ``dtype``, drawn from ``generator`` in float64.

        Raises ValueError if the initialiser needs fans and the shape has none.
        """
        return self._draw(generator, shape).astype(dtype)

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return the float64 array; to be implemented by subclasses."""
        raise NotImplementedError


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan-in, fan-out) of a weight (out, in) or (out, in per group, kernel height, kernel width).

    Raises ValueError for any other shape.

    >>> fans((10, 3, 5, 5))
    (75, 250)
    """
    if len(shape) not in (2, 4) or min(shape) < 1:
        raise ValueError(
            "Fans are defined for a weight (out, in) or (out, in, height, width); "
            "use zeros, ones or constant for other shapes. "
            f"Received shape: {tuple(shape)}."
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


class _Scaled(Initializer):
    """Draws with mean 0 and variance ``scale / fan``."""

    scale: float
    fan: Literal["in", "mean"]
    uniform: bool

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        fan_in, fan_out = fans(shape)
        variance = self.scale / (fan_in if self.fan == "in" else (fan_in + fan_out) / 2)
        if self.uniform:
            limit = math.sqrt(3 * variance)
            return generator.uniform(-limit, limit, shape)
        return generator.normal(0.0, math.sqrt(variance), shape)


class HeNormal(_Scaled):
    """Normal, variance 2 / fan-in, for ReLU (He et al., "Delving deep into rectifiers", ICCV 2015, eq. 10).

    >>> HeNormal()(np.random.default_rng(0), (96, 810)).std().round(3)
    np.float32(0.05)
    """

    scale, fan, uniform = 2.0, "in", False


class HeUniform(_Scaled):
    """Uniform, variance 2 / fan-in, for ReLU (He et al., "Delving deep into rectifiers", ICCV 2015)."""

    scale, fan, uniform = 2.0, "in", True


class GlorotNormal(_Scaled):
    """Normal, variance 2 / (fan-in + fan-out) (Glorot and Bengio, AISTATS 2010, eq. 12)."""

    scale, fan, uniform = 1.0, "mean", False


class GlorotUniform(_Scaled):
    """Uniform, within sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio, AISTATS 2010, eq. 16)."""

    scale, fan, uniform = 1.0, "mean", True


class LecunNormal(_Scaled):
    """Normal, variance 1 / fan-in (LeCun et al., "Efficient BackProp", 1998, eq. 16)."""

    scale, fan, uniform = 1.0, "in", False


class LecunUniform(_Scaled):
    """Uniform, variance 1 / fan-in (LeCun et al., "Efficient BackProp", 1998)."""

    scale, fan, uniform = 1.0, "in", True


class Constant(Initializer):
    """Every weight is ``value``."""

    def __init__(self, value: float) -> None:
        self.value = check_float("The value of a constant initialiser", value)

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.full(shape, self.value)


class Zeros(Initializer):
    """Every weight is 0."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.zeros(shape)


class Ones(Initializer):
    """Every weight is 1."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.ones(shape)


class _Own(Initializer):
    """A custom function, with its result checked."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def config(self) -> dict[str, Any]:
        # A function can't be saved in a model file, and a loaded model's weights replace its result anyway.
        return Zeros().config()

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        drawn = np.asarray(self.function(generator, shape), dtype=np.float64)
        if drawn.shape != tuple(shape) or not np.isfinite(drawn).all():
            raise ValueError(
                f"An initialiser must return an array of finite numbers of shape {tuple(shape)}. "
                f"Received: {self.function!r} returned shape {drawn.shape}."
            )
        return drawn


_REGISTRY = Registry(
    "initializer",
    Initializer,
    [HeNormal, HeUniform, GlorotNormal, GlorotUniform, LecunNormal, LecunUniform, Zeros, Ones, Constant],
)


def config_of(initializer: Initializer) -> dict[str, Any]:
    """Return what a model file stores: the configuration, or "zeros" for a custom class or function."""
    known = _REGISTRY.classes.get(type(initializer).name) is type(initializer)
    return initializer.config() if known else Zeros().config()


def get(initializer: Initializer | str | Mapping[str, Any] | Function) -> Initializer:
    """Return the initialiser for a name, a configuration, an object or a custom ``f(generator, shape)``.

    A model file stores a custom function as "zeros": the saved weights replace its result.
    Raises ValueError for an unknown name, listing the known ones.

    >>> get("he_normal")
    HeNormal()
    """
    if callable(initializer) and not isinstance(initializer, Initializer | type):
        return _Own(initializer)
    return _REGISTRY.get(initializer)  # type: ignore[arg-type]  # what is left is a name, a configuration or an object


if not TYPE_CHECKING:  # type checkers know which names are missing

    def __getattr__(name):
        raise _REGISTRY.no_attribute(__name__, name)
