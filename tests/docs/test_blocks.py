"""The blocks of code in README.md and docs/ run as shown.

A page's blocks run in order, in a separate folder for each page: ``python`` blocks in one namespace, ``sh`` blocks in a
shell in which ``xpcnn`` is the one under test. Commands that install something are skipped. A block that can't run
follows a line that says why: ``<!-- not run: it needs a GPU -->``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import xpcnn
from tests.docs.pages import PAGES, ROOT, blocks

#: Commands that set something up; a line that begins with one is passed over.
SETTING_UP = ("python3 -m venv", "pip install", "nox", "source ")
#: Pages that are also read elsewhere and can't say it themselves, and why a block of theirs is not run.
NOT_RUN = {("docs/gpu.md", "PYTHONPATH=. XPCNN_BACKEND=cupy"): "it runs all tests on an NVIDIA card"}
#: What pages need beside xpcnn and matplotlib.
PACKAGES = {
    "docs/how-to/onnx.md": ["onnx", "onnxruntime"],
    "docs/how-to/pytorch.md": ["torch"],
    "docs/how-to/scikit-learn.md": ["sklearn"],
    "docs/how-to/tune.md": ["optuna"],
}


class Reader:
    """Somebody who does what a page says, in a folder of his own."""

    def __init__(self, folder, page):
        self.page = page
        self.namespace = {"__name__": "__main__"}
        self.folder = folder / "work"
        self.folder.mkdir()
        commands = folder / "bin"
        commands.mkdir()
        for name, arguments in (("xpcnn", "-m xpcnn "), ("python", "")):
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
            script.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(xpcnn.__file__).parents[1]),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def read(self, block):
        """Do what a block says; an exception, or AssertionError with what was printed, if that fails."""
        if block.language == "python":
            # Empty lines before it, so that a trace shows the page's own lines.
            exec(compile("\n" * (block.line - 1) + block.text, str(self.page), "exec"), self.namespace)
            return
        lines = [line for line in block.text.splitlines() if not line.startswith(SETTING_UP)]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.page}:{block.line}\n{block.text}\n{done.stdout}{done.stderr}"


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Make the reader of a page, who works in its folder."""

    def new(page):
        found = Reader(tmp_path, page)
        monkeypatch.chdir(found.folder)
        monkeypatch.setenv("XDG_CACHE_HOME", found.environment["XDG_CACHE_HOME"])
        return found

    with mock.patch.dict(os.environ):  # what a page sets is of that page alone
        yield new


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests")
@pytest.mark.skipif(os.name == "nt", reason="sh blocks need a shell")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, reader, examples):
    name = page.relative_to(ROOT).as_posix()
    for package in PACKAGES.get(name, []):
        pytest.importorskip(package)
    reader = reader(page)
    shutil.copytree(examples, reader.folder, dirs_exist_ok=True)
    for block in blocks(page.read_text(encoding="utf-8")):
        listed = any(name == where and block.text.startswith(start) for where, start in NOT_RUN)
        if block.not_run is None and not listed:
            reader.read(block)


# The test itself

PAGE = """\
# A page

```python
number = 1
```

```text
no code
```

```sh
pip install nothing-of-this-name
xpcnn --version
```

<!-- not run: it would fail -->
```python
1 / 0
```

```python
assert number == 1
```
"""


def test_the_blocks_of_a_page_are_found():
    found = blocks(PAGE)
    assert [(block.language, block.line) for block in found] == [
        ("python", 4),
        ("sh", 12),
        ("python", 18),
        ("python", 22),
    ]
    assert [block.not_run for block in found] == [None, None, "it would fail", None]


def test_a_language_that_nobody_runs_is_refused_unless_the_page_says_why():
    with pytest.raises(ValueError, match="line 1: a block of 'bash'"):
        blocks("```bash\nxpcnn train\n```\n")
    (block,) = blocks("<!-- not run: it needs Windows -->\n```powershell\nxpcnn train\n```\n")
    assert block.not_run == "it needs Windows"


def test_a_reader_does_what_blocks_say(reader):
    reader = reader(Path("page.md"))
    for block in blocks(PAGE):
        if block.not_run is None:
            reader.read(block)
    assert reader.namespace["number"] == 1


@pytest.mark.parametrize(
    ("block", "error"),
    [("```python\n1 / 0\n```\n", ZeroDivisionError), ("```sh\nxpcnn evaluate nothing\ntrue\n```\n", AssertionError)],
)
def test_a_block_that_fails_is_noticed(block, error, reader):
    with pytest.raises(error):
        reader(Path("page.md")).read(*blocks(block))


def test_whatever_is_not_run_is_still_there():
    for name, start in NOT_RUN:
        page = ROOT / name
        if page.exists():
            assert any(block.text.startswith(start) for block in blocks(page.read_text(encoding="utf-8"))), name
