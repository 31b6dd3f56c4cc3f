"""Atomic writes, and safetensors files of named arrays with a description."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import secrets
import stat
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

PathLike: TypeAlias = str | os.PathLike[str]
HostArray: TypeAlias = np.ndarray[Any, Any]

#: The key of the description, as JSON, in a file's metadata.
DESCRIPTION = "xpcnn"
#: The field of a description for the checksum of its file, and its placeholder during computation.
_CHECKSUM, _NONE = "crc32", b"0" * 8
#: The name of a file while it is being written; one that remains was left by a killed process.
_PART = re.compile(r"\.[0-9a-f]{16}\.part")
#: Seconds after which such a file in a cache is removed.
_ABANDONED = 24 * 3600
#: Larger files are refused without reading them.
MOST_BYTES = 4 * 2**30
#: So are larger headers, which contain the description: parsing one takes up to a hundred times its size in memory.
MOST_HEADER_BYTES = 2**23
#: The most characters of an error that a message quotes.
_MOST_CHARACTERS = 1000


@contextmanager
def atomic_write(path: PathLike) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only once it is completely written to disk.

    The bytes go to a temporary file in the same folder, are flushed to disk, and are then renamed, replacing an
    existing file; for a link, the file it points to is replaced. If anything fails, the temporary file is removed and
    an existing file remains. A device or a pipe is written directly. Raises OSError naming ``path``, and
    PermissionError for an existing read-only file.
    """
    named = Path(path)
    if named.exists() and not named.is_file():
        with named.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not mode & 0o222:  # renaming would only check the folder's permissions
        raise PermissionError(errno.EACCES, "The file is read-only", os.fspath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    with _naming(path):
        file = temporary.open("xb")
    try:
        with _naming(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:  # keep the permissions of the replaced file
            temporary.chmod(stat.S_IMODE(mode))
        with _naming(path):
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_text(path: PathLike, text: str) -> None:
    """Write a text file atomically, as UTF-8; undecodable file names are written as their original bytes."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", errors="surrogateescape"))


def write_json(path: PathLike, value: Any) -> None:
    """Write a JSON file atomically; undecodable file names are written as JSON escapes, ``\\udcff``."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace"))


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    r"""Return rows as CSV, each ending in ``\n``.

    >>> csv_text([("path", "n"), ("a,b", 1)])
    'path,n\n"a,b",1\n'
    """
    lines = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)  # the line terminator determines what is quoted
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def write_csv(path: PathLike, rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file atomically."""
    write_text(path, csv_text(rows))


def save_tensors(path: PathLike, tensors: Mapping[str, HostArray], description: Any) -> None:
    """Write named arrays and a JSON-serialisable description to a safetensors file, atomically."""
    from safetensors.numpy import save

    # safetensors silently writes the memory of an array that is not C-contiguous in the wrong order
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # in ASCII: the name of a class may be undecodable
    text = json.dumps({_CHECKSUM: _NONE.decode(), **description} if isinstance(description, dict) else description)
    content = memoryview(save(contiguous, {DESCRIPTION: text}))
    start = 8 + int.from_bytes(content[:8], "little")
    if start > MOST_HEADER_BYTES:
        raise ValueError(
            f"{str(path)!r} would have a header of {start} bytes, and at most {MOST_HEADER_BYTES} can be read. "
            "Use fewer layers or names, or shorter ones."
        )
    header = bytes(content[:start])
    header = header.replace(_NONE, _checksum(header, content[start:]), 1)
    with atomic_write(path) as file:
        file.write(header)
        file.write(content[start:])


def load_tensors(path: PathLike, advice: str = "Give a file that xpcnn wrote.") -> tuple[dict[str, HostArray], Any]:
    """Return the named arrays and the description from a file that :func:`save_tensors` wrote.

    Raises FileNotFoundError, or ValueError, ending with the advice, if the file is not one of xpcnn's, is truncated or
    is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = read_safetensors(path)
        length = int.from_bytes(content[:8], "little")
        tensors = load(content)
        header = json.loads(content[8 : 8 + length])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is not a model file, or is damaged ({shortened(error)}). {advice}") from error
    text = header.get("__metadata__", {}).get(DESCRIPTION)
    if text is None:
        raise ValueError(f"{str(path)!r} contains tensors but no xpcnn model. {advice}")
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} has a description that cannot be read ({error}). {advice}") from error
    if isinstance(description, dict) and _CHECKSUM in description:
        named = str(description.pop(_CHECKSUM)).encode()
        if named != _checksum(content[: 8 + length].replace(named, _NONE, 1), memoryview(content)[8 + length :]):
            raise ValueError(f"{str(path)!r} is damaged: its content does not match its checksum. {advice}")
    return tensors, description


def read_bounded(path: PathLike) -> bytes:
    """Return the bytes of a file; raise ValueError before reading if it is too large."""
    if os.path.getsize(path) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes, the limit for a model file")
    return Path(path).read_bytes()


def read_safetensors(path: PathLike) -> bytes:
    """Return the bytes of a safetensors file; raise ValueError before reading if it or its header is too large."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes, and the limit is {MOST_HEADER_BYTES}")
    return read_bounded(path)


def _checksum(header: bytes, data: memoryview) -> bytes:
    """Return the CRC-32 of a file without a checksum yet, in hexadecimal."""
    return b"%08x" % zlib.crc32(data, zlib.crc32(header))


def shortened(error: Exception) -> str:
    """Return the text of an error, shortened if it quotes too much of a file."""
    text = str(error)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"


def reason_of(error: Exception) -> str:
    """Return what is wrong with a file, from the error that its content raised."""
    return f"{shortened(error)} is missing" if isinstance(error, KeyError) else shortened(error)


@contextmanager
def _naming(path: PathLike) -> Iterator[None]:
    """Make errors of the temporary file, or of writing, name the file to be written; keep other errors."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and not is_part(Path(error.filename))):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def user_cache() -> Path:
    """Return the folder of all caches: ``$XDG_CACHE_HOME/xpcnn``, or the platform's folder for a user's caches."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the XDG specification says to ignore relative paths
        return Path(chosen, "xpcnn")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "xpcnn", "Cache")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "xpcnn"
    return Path.home() / ".cache" / "xpcnn"


def make_private(folder: Path) -> None:
    """Create a folder, and those above it, for this user alone; remove what killed processes left there unfinished."""
    for path in (*reversed(folder.parents), folder):
        path.mkdir(mode=0o700, exist_ok=True)
    for path in filter(is_part, folder.iterdir()):
        with suppress(FileNotFoundError):  # another process has just completed it
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def refuse_shared(folder: Path) -> None:
    """Raise PermissionError for a folder in which others may have put something, or that can't be written to."""
    status = folder.stat()
    if os.name == "posix" and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        why = f"others own it or can write to it; run `chmod go-w {folder}`, or remove it"
        raise PermissionError(errno.EACCES, why, str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only", str(folder))


def is_part(path: Path) -> bool:
    """Whether a file is the temporary one of an unfinished :func:`atomic_write`."""
    return _PART.fullmatch(path.name) is not None


def sync_folder(folder: Path) -> None:
    """Flush a folder's new names to disk; Windows can't open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:  # some network file systems only sync files
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)
