"""What a reader makes of a picture's file, before size and channels are chosen; and its refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

Kind: TypeAlias = Literal["grey", "rgb", "channels"]
#: Which page of a stack: its number, or what is made of all of them.
Page: TypeAlias = int | Literal["max", "mean"]


class Refusal(ValueError):  # noqa: N818 (it says why, not that something failed)
    """Why content cannot be read as a picture, in words that follow "cannot be read as an image: "."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """One picture as its file holds it, upright.

    values: (height, width, samples) of uint8, uint16, uint32, int16, int32 or float32; fewer than 8 bits are spread
    over 0 to 255, other depths are as they were written. kind: whether the samples are one grey value, red, green and
    blue, or channels of their own, as of a fluorescence microscope. alpha: whether a last sample, transparency, follows
    those. pages: how many pages or frames the file holds, of which one was taken, or all together.
    """

    values: NDArray[Any]
    kind: Kind
    alpha: bool = False
    pages: int = 1
