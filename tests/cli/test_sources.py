"""What can be given to ``xpcnn predict``: files, folders, lists of names, standard input."""

import json
import os
import subprocess

import pytest

from tests.cli.conftest import from_here, names
from xpcnn.cli import sources


@pytest.fixture
def folder(here, photos):
    """A folder of two images, one more in a folder in it, and other files."""
    image = (photos / "left" / "left 0.png").read_bytes()
    for name in ("10.png", "9.png", "inner/1.png", ".hidden/2.png"):
        (here / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "new" / name).write_bytes(image)
    (here / "new" / "notes.txt").write_text("a note")
    (here / "new" / "inner" / "raw.czi").write_text("raw")
    (here / "new" / ".DS_Store").write_text("the system's")
    return here / "new"


def found(words, recursive=False):
    return [path.replace(os.sep, "/") for path in sources.find([str(word) for word in words], recursive)]


class TestFolders:
    def test_their_images_come_in_natural_order_and_others_are_counted(self, folder, capsys):
        assert found(["new"]) == ["new/9.png", "new/10.png"]
        assert capsys.readouterr().err == "xpcnn predict: not images: 1 .txt\n"

    def test_recursive_takes_the_folders_in_them(self, folder, capsys):
        assert found(["new"], recursive=True) == ["new/9.png", "new/10.png", "new/inner/1.png"]
        assert capsys.readouterr().err == "xpcnn predict: not images: 1 .czi, 1 .txt\n"

    def test_one_without_images_cannot_be_read(self, run, here, model, folder):
        (here / "empty").mkdir()
        done = run("predict", model, "empty", "new", "--format", "json")
        first, *others = json.loads(done.out)
        assert (first["path"], first["error"]) == (
            "empty",
            "it is a folder without images directly in it (--recursive includes its subfolders)",
        )
        assert [row["error"] for row in others] == [None, None]


class TestLists:
    @pytest.mark.parametrize(
        "content",
        [
            b"new/9.png\nb.png\n",
            b"new/9.png\r\nb.png",
            b"\xef\xbb\xbfnew/9.png\n\n  \nb.png\n\n",
            b"new/9.png\0b.png\0",
        ],
        ids=["lines", "CRLF", "BOM and blank lines", "null bytes"],
    )
    def test_a_list_names_a_file_a_line(self, here, content):
        (here / "list.txt").write_bytes(content)
        assert found(["@list.txt", "c.png"]) == ["new/9.png", "b.png", "c.png"]

    def test_names_in_a_list_are_names_whatever_they_begin_with(self, here):
        (here / "list.txt").write_text("@x.png\n-\n")
        assert found(["@list.txt"]) == ["@x.png", "-"]

    def test_a_file_that_is_called_so_is_given_with_its_folder(self, run, model, folder):
        (folder.parent / "@x.png").write_bytes((folder / "9.png").read_bytes())
        assert json.loads(run("predict", model, "./@x.png", "--format", "json").out)[0]["error"] is None

    def test_names_that_are_no_utf8_are_kept(self, here):
        (here / "list.txt").write_bytes(b"\xff.png\n")
        assert sources.find(["@list.txt"], False) == [os.fsdecode(b"\xff.png")]

    def test_one_that_is_not_there_or_empty_is_one_line(self, refuses, here, model):
        refuses("predict", model, "@nowhere.txt", words=["nowhere.txt"])
        (here / "empty.txt").write_text("\n")
        refuses("predict", model, "@empty.txt", words=["There is no name in @empty.txt"])

    def test_a_closed_standard_input_is_one_line(self, refuses, model, monkeypatch):
        monkeypatch.setattr("sys.stdin", None)
        refuses("predict", model, "-", words=["standard input, which is closed"])

    def test_one_that_is_too_large_is_refused(self, refuses, here, model, monkeypatch):
        monkeypatch.setattr(sources, "MOST_BYTES", 5)
        (here / "list.txt").write_text("a.png\nb.png\n")
        refuses("predict", model, "@list.txt", words=["larger than 5 bytes"])

    def test_standard_input_names_files(self, here, model, folder):
        line, environment = from_here(["predict", model, "-", "--format", "jsonl"])
        done = subprocess.run(
            line, env=environment, input=b"new/9.png\nnew/10.png\n", capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert [json.loads(row)["path"] for row in done.stdout.splitlines()] == ["new/9.png", "new/10.png"]
        assert names(here) == {"new"}
