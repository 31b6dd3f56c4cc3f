"""File names and class names cannot affect a terminal."""

import io
import os
import sys

import pytest

from xpcnn.cli.text import accept_any_text, printable


@pytest.mark.parametrize("text", ["cat 1.png", "Zelle-ä/細胞.png", "", "a'b\"c"])
def test_what_can_be_read_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\tb\r", r"a\tb\r"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        (os.fsdecode(b"\xff.jpg"), r"\udcff.jpg"),
    ],
)
def test_what_moves_the_cursor_or_is_no_text_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("utf-8", "ä\udcff", b"\xc3\xa4\xff"),
        ("ascii", "ä", rb"\xe4"),
        ("ascii", "\udcff", b"\xff"),
        ("ascii", "ä\udcff", rb"\xe4\udcff"),
        ("utf-8", "\ud800", rb"\ud800"),
    ],
)
def test_stdout_takes_every_text(monkeypatch, encoding, text, written):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    accept_any_text()
    print(text, end="", flush=True)
    assert stream.buffer.getvalue() == written


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_stdout_that_encodes_nothing_is_left_alone(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    accept_any_text()
    assert sys.stdout is stream
