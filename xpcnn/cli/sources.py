"""Finding the images that command-line arguments stand for: files, folders, lists of names."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from xpcnn.cli import datasets
from xpcnn.cli.text import printable

#: The most bytes of a list of names, which anyone may have written.
MOST_BYTES = 2**26


def find(words: Sequence[str], recursive: bool) -> list[str]:
    """Return the paths that arguments stand for, in their order.

    A folder stands for its images in natural order, including its subfolders if ``recursive``; ``@FILE`` for the names
    in a file, one per line, ``-`` for those on standard input; anything else is the path of an image, including
    ``./@x`` and a folder without images, which cannot be read. Other files in folders are counted in a line on stderr.

    Raises ValueError if lists contain no names, and OSError for a list that cannot be read.
    """
    passed_over: Counter[str] = Counter()
    paths: list[str] = []
    for word in words:
        paths += _meant(word, recursive, passed_over)
    if passed_over:
        print(f"xpcnn predict: {datasets.describe_passed_over(passed_over)}", file=sys.stderr)
    if not paths:
        raise ValueError(f"There is no name in {', '.join(map(printable, words))}. Give one image per line.")
    return paths


def _meant(word: str, recursive: bool, passed_over: Counter[str]) -> Iterator[str]:
    if word == "-":
        if sys.stdin is None:
            raise ValueError("Names are to be read from standard input, which is closed. Give them by a pipe.")
        yield from _names(sys.stdin.buffer.read(MOST_BYTES + 1), "standard input")
    elif word.startswith("@") and not os.path.exists(word):
        with open(word[1:], "rb") as file:
            yield from _names(file.read(MOST_BYTES + 1), word[1:])
    elif os.path.isdir(word):
        yield from _images_of(Path(word), recursive, passed_over)
    else:
        yield word


def _names(content: bytes, source: str) -> list[str]:
    if len(content) > MOST_BYTES:
        raise ValueError(f"The list of names in {printable(source)} is larger than {MOST_BYTES} bytes. Split it.")
    content = content.removeprefix(b"\xef\xbb\xbf")
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()  # `find -print0` writes null bytes
    return [os.fsdecode(line) for line in lines if line.strip()]


def _images_of(folder: Path, recursive: bool, passed_over: Counter[str]) -> list[str]:
    from xpcnn.data.listing import class_files

    found, others = class_files(folder, recursive)
    passed_over += others
    return [str(path) for path in found] or [str(folder)]
