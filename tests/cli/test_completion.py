"""``xpcnn completion``: what a shell completes."""

import shutil
import subprocess
import sys

import pytest

from xpcnn.extras import install_line


def completed(script, line, here):
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    ask = f"""
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
        COMP_CWORD={len(words) - 1}
        $(complete -p xpcnn | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True, check=True, cwd=here)
    return done.stdout.split()


@pytest.fixture
def script(run):
    pytest.importorskip("shtab")
    done = run("completion", "bash")
    assert (done.code, done.err) == (0, "")
    return done.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_choices_and_files(script, here):
    (here / "cells").mkdir()
    (here / "cell.png").write_bytes(b"")
    assert completed(script, "xpcnn tr", here) == ["train"]
    assert completed(script, "xpcnn train --batch", here) == ["--batch-size"]
    assert completed(script, "xpcnn train --augment micro", here) == ["microscopy"]
    assert completed(script, "xpcnn train cel", here) == ["cells"]
    assert completed(script, "xpcnn compare cells cel", here) == ["cells"]
    assert "cell.png" in completed(script, "xpcnn predict m cel", here)


def test_without_shtab_it_says_what_to_install(refuses, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    refuses("completion", "bash", words=[install_line("completion")])
