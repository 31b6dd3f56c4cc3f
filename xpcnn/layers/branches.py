"""Branches side by side, whose outputs are concatenated or averaged."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import ArrayModule
from xpcnn.layers.base import Graph, Layer, listed
from xpcnn.layers.merging import Average, Concatenate, Merge
from xpcnn.parameters import Shape

#: How the outputs become one.
MERGES: dict[str, type[Merge]] = {"concatenate": Concatenate, "average": Average}


class Branches(Layer):
    """A block of branches that read the same input, and whose channels are concatenated, or their outputs averaged.

    Szegedy et al., "Going deeper with convolutions", 2015.

    branches: at least two lists of layers, whose outputs have the same rows and columns. merge: "concatenate", or
    "average", for outputs of the same shape. Raises ValueError for another merge, and at build if shapes differ.

    >>> from xpcnn.layers import Conv2D
    >>> Branches([[Conv2D(8, 1)], [Conv2D(4, 3, padding="same")]]).connect((3, 6, 6))
    (12, 6, 6)
    """

    _fixed = frozenset({"branches", "merge"})

    def __init__(
        self,
        branches: Sequence[Sequence[Layer]],
        merge: str = "concatenate",
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        if isinstance(branches, str) or not isinstance(branches, Sequence) or len(branches) < 2:
            raise ValueError(f"Branches takes a list of at least two lists of layers. Received: {branches!r}.")
        self.branches = tuple(listed(branch, "Each branch must be a list of at least one layer") for branch in branches)
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}. Received: {merge!r}.")
        self.merge = merge
        self._merge = MERGES[merge]()
        self._merge.hidden = True

    def sublayers(self) -> Sequence[Layer]:
        """Return the layers of all branches, and what merges them."""
        return [*(layer for branch in self.branches for layer in branch), self._merge]

    def expand(self, graph: Graph, x: int) -> int:
        """Add all branches, and what merges them."""
        return graph.add(self._merge, *(graph.chain(branch, x) for branch in self.branches))

    def build(self, input_shape: Shape) -> Shape:
        """Build all branches."""
        shapes = []
        for branch in self.branches:
            shape = input_shape
            for layer in branch:
                shape = layer.connect(shape)
            shapes.append(shape)
        return self._merge.connect(*shapes)
