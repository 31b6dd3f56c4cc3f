"""The only module that imports OpenCV, and not before an image has to be decoded or resized."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

#: Images with more pixels are refused: a file of 2 KB can claim, and decode to, gigabytes. At this limit an image took
#: up to 2 GB (JPEG 2000) and 7 s (16-bit PNG).
MAX_PIXELS = 2**27


@functools.cache
def load_opencv() -> Any:
    """Import and return ``cv2``, limited to one thread of its own, since xpcnn decodes on several threads itself.

    Raises ImportError with installation advice if OpenCV is missing or cannot load its libraries.
    """
    # OpenCV reads both on import. What its decoders print is reported as an image's reason instead.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        raise ImportError(
            f"OpenCV, which decodes images, cannot be imported. Received: {error}. Install it with "
            "`pip install opencv-python`, or on a server without libGL with `pip uninstall opencv-python` "
            "and `pip install opencv-python-headless`."
        ) from error
    cv2.setNumThreads(1)
    return cv2
