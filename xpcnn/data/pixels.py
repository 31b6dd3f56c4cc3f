"""What a reader returns for an image's file, before resizing and choosing channels; and its refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

Kind: TypeAlias = Literal["grey", "rgb", "channels"]
#: A page of a stack, by number, or a projection of all pages.
Page: TypeAlias = int | Literal["max", "mean"]


class Refusal(ValueError):  # noqa: N818 (it says why, not that something failed)
    """Why content cannot be read as an image, phrased to follow "cannot be read as an image: "."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """One image as stored in its file, upright.

    values: (height, width, samples) of uint8, uint16, uint32, int16, int32 or float32; fewer than 8 bits are scaled to
    0..255, other depths are kept. kind: whether the samples are one grey value, red, green and blue, or separate
    channels, such as those of a fluorescence microscope. alpha: whether they are followed by transparency. pages: the
    number of pages or frames in the file, of which one was read, or all of them for a projection.
    """

    values: NDArray[Any]
    kind: Kind
    alpha: bool = False
    pages: int = 1
