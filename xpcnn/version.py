"""The version of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the installed version, or that of a source tree that is not installed."""
    try:
        return version("xpcnn")
    except PackageNotFoundError:
        return "0.2.0+source"


__version__ = installed_version()
