"""CSV as spreadsheets write it is read, and anything else is refused in one line."""

import csv
import os

import pytest

from xpcnn.data import tables
from xpcnn.data.tables import read_table


@pytest.fixture
def table(tmp_path):
    """A function that reads a table of this content: where each row stands, path, label, group."""

    def read(content):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [(where, *values) for where, values in read_table(path, ("path", "label"), ("group",))]

    return read


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("begins", ["", "\ufeff"], ids=["plain", "with a mark"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_all_that_spreadsheets_write(table, delimiter, begins, ends):
    lines = ["Label,note, PATH ", 'cat,"a, b",1.png', ",,", '"black dog",,2.png', ""]
    content = ends.join(line.replace(",", delimiter) for line in lines)
    assert table(begins + content) == [("line 2", "1.png", "cat", None), ("line 4", "2.png", "black dog", None)]


def test_a_short_line_lacks_what_is_not_there(table):
    assert table("path,label,group\n1.png,cat\n") == [("line 2", "1.png", "cat", None)]


def test_a_line_break_in_quotes_is_part_of_the_value(table):
    assert table('path,label\n"1\n.png",cat\n2.png,dog')[1] == ("line 4", "2.png", "dog", None)


@pytest.mark.skipif(os.name == "nt", reason="paths are text there")
def test_a_path_may_have_any_bytes_and_a_label_may_not(table):
    assert table(b"path,label\n\xff.png,cat\n")[0][1] == os.fsdecode(b"\xff.png")
    with pytest.raises(ValueError, match=r"table\.csv' contains text in line 2 that is not UTF-8\. Save it as UTF-8"):
        table("path,label\n1.png,é\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has the columns none. Expected: path and label, optionally group, each once"),
        ("file,label\n1.png,cat", "has the columns file, label. Expected"),
        ("path,label,path\n1.png,cat,2.png", "has the columns path, label, path. Expected"),
        ("path,label\na,b.png,cat", "has 3 fields in line 2 and 2 columns. Put quotes around a value that"),
        ('path,label\n"1.png,cat', "is not a table: unexpected end of data in line 2"),
        ("path,label\n1.png,cat".encode("utf-16"), "is not text in UTF-8"),
        (f"path,label\n{'a' * (csv.field_size_limit() + 1)},cat", "is not a table: field larger than field limit"),
    ],
)
def test_what_is_no_such_table_is_refused(table, content, told):
    with pytest.raises(ValueError, match="'") as caught:
        table(content)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_too_large_is_not_read(table, monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        table("path,label\n")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no table '.*nowhere\.csv'"):
        next(read_table(tmp_path / "nowhere.csv", ("path",)))
    with pytest.raises(IsADirectoryError, match="is a folder"):
        next(read_table(tmp_path, ("path",)))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(ValueError, match="not a regular file"):
            next(read_table(tmp_path / "pipe.csv", ("path",)))
