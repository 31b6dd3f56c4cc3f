"""Selecting one of a file's pages, or projecting all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Page, Refusal


def require_page(page: Page, pages: int) -> None:
    """Raise Refusal for a page that does not exist; pages count from 0."""
    if not isinstance(page, str) and not 0 <= page < pages:
        held = "1 page" if pages == 1 else f"{pages} pages"
        raise Refusal(f"it holds {held}, counted from 0, and page {page} is asked for")


def project(frames: Sequence[NDArray[Any]], page: Page) -> NDArray[Any]:
    """Return the maximum or the rounded mean of uint8 or uint16 frames of one shape, or the frame of that number."""
    if not isinstance(page, str):
        return frames[page]
    total = frames[0].astype(np.uint32)  # enough for 65,536 16-bit frames
    for frame in frames[1:]:
        (np.maximum if page == "max" else np.add)(total, frame, out=total)
    if page == "mean":
        total = (total + len(frames) // 2) // len(frames)
    return total.astype(frames[0].dtype)
