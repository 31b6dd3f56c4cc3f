"""The versions of the libraries that read images, since another version may decode differently."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

from xpcnn.data.opencv import load_opencv
from xpcnn.extras import install_line


def versions() -> dict[str, str | None]:
    """Return the version of each reader, None for one that is not installed."""
    return {"opencv": str(load_opencv().__version__)} | extra_readers()


def extra_readers() -> dict[str, str | None]:
    """Return the version of each reader except OpenCV."""
    return {name: _version(name) for name in ("tifffile", "imagecodecs", "pillow-heif")}


@functools.cache  # each of thousands of files may ask
def remedy() -> str:
    """Return the command that installs the readers for rare formats."""
    return f"`{install_line('microscopy')}`"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
