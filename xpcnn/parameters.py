"""All parameters of a network in one flat array, with a named view for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.backend import Array

Shape: TypeAlias = tuple[int, ...]
#: Draws the initial values of a parameter: (generator, shape) to a NumPy array.
Initializer: TypeAlias = Callable[[np.random.Generator, Shape], np.ndarray[Any, Any]]


class Segment(NamedTuple):
    """A part of a flat array, whether weight decay applies to it, and the fraction of the learning rate it takes."""

    span: slice
    decays: bool
    rate: float = 1.0


#: Every view starts on a multiple of 64 bytes of float32, a cache line and the width of the widest vector units.
ALIGNMENT = 16
_NO_RATES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Declaration:
    """An array that a layer declares: its names, shape and initialiser, and whether weight decay applies."""

    layer: str
    name: str
    shape: Shape
    initializer: Initializer
    decays: bool = False

    @property
    def full_name(self) -> str:
        """The name that users see, such as ``conv2d_1.weight``."""
        return f"{self.layer}.{self.name}"

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Layout:
    """The position of each declared array in a flat array: those with weight decay first, all aligned to cache lines.

    Gradients and the optimiser's moments have the same layout, so that one pass over flat arrays is a whole step.
    """

    def __init__(self, declarations: Iterable[Declaration]) -> None:
        self.declarations = tuple(declarations)
        self._offsets: dict[str, int] = {}
        self.size = 0
        for declaration in sorted(self.declarations, key=lambda declaration: not declaration.decays):
            self._offsets[declaration.full_name] = self.size
            self.size += -(-declaration.size // ALIGNMENT) * ALIGNMENT

    def span(self, declaration: Declaration) -> slice:
        """Return the elements of the flat array that belong to one declaration."""
        start = self._offsets[declaration.full_name]
        return slice(start, start + declaration.size)

    def views(self, flat: Array) -> dict[str, Array]:
        """Return {"conv2d_1.weight": view, …} into a flat array, in the order of declaration."""
        return {d.full_name: flat[self.span(d)].reshape(d.shape) for d in self.declarations}

    def layer_views(self, flat: Array) -> dict[str, dict[str, Array]]:
        """Return {"conv2d_1": {"weight": view, …}, …} into a flat array."""
        views: dict[str, dict[str, Array]] = {}
        for d in self.declarations:
            views.setdefault(d.layer, {})[d.name] = flat[self.span(d)].reshape(d.shape)
        return views

    def segments(self, frozen: Collection[str] = (), rates: Mapping[str, float] = _NO_RATES) -> list[Segment]:
        """Return the fewest slices that cover all arrays of the layers that are not ``frozen``.

        No slice contains both arrays with weight decay and arrays without, or layers of different ``rates``; those that
        these do not name have 1.
        """
        segments: list[Segment] = []
        touching = False
        for d in sorted(self.declarations, key=lambda declaration: self._offsets[declaration.full_name]):
            span = self.span(d)
            if d.layer in frozen:
                touching = False
                continue
            kind = d.decays, rates.get(d.layer, 1.0)
            if touching and segments[-1][1:] == kind:
                segments[-1] = Segment(slice(segments[-1].span.start, span.stop), *kind)
            else:
                segments.append(Segment(span, *kind))
            touching = True
        return segments


def check_values(values: Mapping[str, np.ndarray[Any, Any]], declarations: Iterable[Declaration]) -> None:
    """Raise ValueError unless ``values`` contains exactly the declared arrays, in their shapes."""
    expected = {d.full_name: d.shape for d in declarations}
    received = {name: np.shape(value) for name, value in values.items()}
    for name in {**expected, **received}:
        if expected.get(name) != received.get(name):
            raise ValueError(
                f"The arrays do not fit the network. {name!r}: expected "
                f"{f'shape {expected[name]}' if name in expected else 'no such array'}. Received: "
                f"{f'shape {received[name]}' if name in received else 'nothing'}."
            )
