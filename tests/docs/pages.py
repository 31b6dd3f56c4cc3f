"""The pages, and the blocks of code in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Languages of blocks that show something and are no code to run.
SHOWN = ("text",)


@dataclass
class Block:
    """A block of code: its language, its text, the number of its first line, and why it is not run, if so."""

    language: str
    text: str
    line: int
    not_run: str | None


def blocks(text):
    """Return the blocks of a page; ValueError for one in a language that would escape the tests."""
    found = []
    for fence in re.finditer(r"^( *)```([^\n`]*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        language, line = fence[2].strip(), text[: fence.start(3)].count("\n") + 1
        if language.startswith("{") or language in SHOWN:
            continue
        marker = re.search(r"^<!-- not run: (.+) -->\n\n?\Z", text[: fence.start()], re.MULTILINE)
        if language not in ("python", "sh") and marker is None:
            raise ValueError(f"line {line - 1}: a block of {language!r}. Use python, sh, or {', '.join(SHOWN)}.")
        found.append(Block(language, fence[3], line, marker[1] if marker else None))
    return found
