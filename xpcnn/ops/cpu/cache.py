"""Where compiled kernels are kept between processes.

Numba's own cache lies beside the source, or wherever ``NUMBA_CACHE_DIR`` says, and is read with pickle, which executes
what it reads. Kernels are kept in the user's cache folder instead, and only while nobody else can write to it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import warnings
from pathlib import Path
from typing import Any

from numba.core import caching
from tqdm import tqdm

from xpcnn import files

#: The sources of all kernels: a change to any of them makes every kernel that is kept stale.
_SOURCES = Path(__file__).parent


@functools.cache
def folder() -> Path | None:
    """Return the folder for kernels, created if need be; None, with a warning, where it can't be used."""
    path = files.user_cache() / "kernels"
    try:
        files.make_private(path)
        files.refuse_shared(path)
        return path
    except OSError as error:
        trouble = error.strerror or error
    warnings.warn(f"Kernels are compiled in every process, since {str(path)!r} can't be used: {trouble}.", stacklevel=2)
    return None


@functools.cache
def _stamp() -> str:
    """Return a digest of the sources of all kernels."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(_SOURCES.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Locator(caching._CacheLocator):
    """Puts the kernels of this package into one folder."""

    def __init__(self, function: Any, path: Path) -> None:
        self._line, self._path = function.__code__.co_firstlineno, path

    @classmethod
    def from_function(cls, function: Any, source: str) -> _Locator | None:
        """Return the locator of a function, if there is a folder."""
        path = folder()
        return None if path is None else cls(function, path)

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(self._path)

    def get_source_stamp(self) -> str:
        """Return what changes with any source."""
        return _stamp()

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart."""
        return str(self._line)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache in a folder of our own: what can't be read is compiled again, what can't be written is left.

    While a kernel is compiled, a terminal shows how many were.
    """

    _impl_class = _Implementation
    _numbers = itertools.count(1)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return what was compiled for a signature before, or None."""
        try:
            found = super().load_overload(signature, context)
        except Exception:  # whatever a damaged pickle raises
            found = None
            with contextlib.suppress(OSError):
                self.flush()
        if found is None:
            text = f"Compiling kernels, once on this machine: {next(self._numbers)}"
            self._shown = tqdm(desc=text, bar_format="{desc}", leave=False, disable=None)
        return found

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep what was compiled for a signature."""
        self._shown.close()
        try:
            super().save_overload(signature, result)
        except OSError as error:
            warnings.warn(f"A kernel could not be kept in {self.cache_path!r}: {error.strerror}.", stacklevel=2)
