"""The number of available processors."""

from __future__ import annotations

import os


def available_threads() -> int:
    """Return how many processors this process may use, which in a container can be fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1
