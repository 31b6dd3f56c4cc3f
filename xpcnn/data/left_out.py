"""What a decoding leaves out of images: further pages, further channels."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.data.decoding import Decoding
from xpcnn.data.picture import Facts


def left_out(facts: Sequence[Facts], decoding: Decoding) -> list[str]:
    """Return a line for each kind of data that is left out of some images.

    >>> stack = Facts(8, 8, 1, "grey", "uint8", 5, (), (), "00" * 8)
    >>> print(*left_out([stack], Decoding(8, 8, 1)))
    left out: all pages except page 0 of 1 image with up to 5 pages
    """
    lines = []
    stacks = [one.pages for one in facts if one.pages > 1]
    if stacks and decoding.page not in ("max", "mean"):
        lines.append(
            f"left out: all pages except page {decoding.page} of {_images(len(stacks))} with up to {max(stacks)} pages"
        )
    more = [one.samples for one in facts if one.samples > decoding.channels]
    if decoding.as_channels and more:
        kept = decoding.channels
        lines.append(f"left out: channels beyond the first {kept} of {_images(len(more))} with up to {max(more)}")
    return lines


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
