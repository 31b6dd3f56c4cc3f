"""The commands of README.md work when they are pasted, in order, into a fresh shell in a clone."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, blocks

README = ROOT / "README.md"
#: What a clone has that the installation needs.
CLONE = ("xpcnn", "docs", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests")


def commands():
    """Return the blocks to paste."""
    found = blocks(README.read_text(encoding="utf-8"))
    return [block.text for block in found if block.language == "sh" and block.not_run is None]


def test_what_is_not_pasted_are_choices_the_tests_and_another_shell():
    reasons = [block.not_run for block in blocks(README.read_text(encoding="utf-8")) if block.not_run is not None]
    assert reasons == ["it is for PowerShell", "these are choices", "it runs the tests"]
    assert [text.split()[0] for text in commands()] == ["python3", "xpcnn", "xpcnn", "xpcnn", "xpcnn"]


@pytest.mark.slow  # it installs xpcnn and what it depends on, from where pip finds them
@pytest.mark.skipif(os.name == "nt", reason="the blocks need a shell")
def test_the_commands_work_in_a_fresh_shell(tmp_path, examples):
    clone = tmp_path / "clone"
    shutil.copytree(examples, clone)
    for name in CLONE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "XPCNN", "VIRTUAL"))
    }
    environment["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-euo", "pipefail", "-c", "".join(commands())],
        cwd=clone, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("train/report.html", "cells/best.safetensors", "plain/best.safetensors"):
        assert (clone / "runs" / name).is_file()
    for name in ("sorted", "cells.html", "comparison.html", ".venv/bin/xpcnn"):
        assert (clone / name).exists()
