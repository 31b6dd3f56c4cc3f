"""The number of available processors."""

from __future__ import annotations

import os


def available_threads() -> int:
    """Return the number of processors that this process may use, which can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1
