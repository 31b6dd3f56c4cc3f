"""Images may be listed in a table instead of being in class folders."""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from xpcnn.data import Decoding, from_table, load, scan

TINY = Decoding(height=6, width=6, channels=1)
ROWS = [("1.png", "cat"), ("2.png", "dog")]


class Frame:
    """What pandas and polars have in common: names of columns, and columns by name."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self._values = columns

    def __getitem__(self, name):
        return np.array(self._values[name], dtype=object)


@pytest.fixture
def root(class_folders):
    """A folder of three pictures."""
    return class_folders({"1.png": 10, "2.png": 20, "10.png": 30})


def listed(found):
    return [(path.name, found.classes[label]) for path, label in zip(found.paths, found.labels, strict=True)]


class TestRows:
    @pytest.mark.parametrize(
        "rows",
        [
            ROWS,
            [list(row) for row in ROWS],
            iter([{"path": path, "label": label, "note": 1} for path, label in ROWS]),
            [(Path(path), label) for path, label in ROWS],
            {"path": ["1.png", "2.png"], "label": ["cat", "dog"]},
            Frame(label=["cat", "dog"], path=["1.png", "2.png"], age=[1, 2]),
        ],
        ids=["pairs", "lists", "mappings", "paths", "columns", "frame"],
    )
    def test_they_come_in_many_forms(self, root, rows):
        found = from_table(rows, root)
        assert listed(found) == ROWS
        assert (found.root, found.parts, found.groups) == (root, None, None)

    def test_a_data_frame(self, root):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"path": ["1.png", "2.png"], "label": [3, 10], "group": ["x", None]})
        assert listed(from_table(frame[["path", "label"]], root)) == [("1.png", "3"), ("2.png", "10")]
        with pytest.raises(ValueError, match="1 of the 2 rows have no group while others do, the first: Row 1"):
            from_table(frame, root)
        frame["label"] = pandas.array([3, pandas.NA], dtype="Int64")
        with pytest.raises(ValueError, match=r"Row 1, gives '2\.png' no label\. Received: <NA>"):
            from_table(frame, root)

    def test_a_csv_file(self, root):
        (root / "labels.csv").write_text(
            "path;label;part;group\n2.png;dog;train;x\n1.png;cat;train;y\n10.png;cat;Val;x\n"
        )
        found = from_table(root / "labels.csv", root)
        assert listed(found) == [*ROWS, ("10.png", "cat")]
        assert found.parts.tolist() == ["train", "train", "validation"]
        assert found.groups == ["y", "x", "x"]

    @pytest.mark.parametrize("row", ["ab", 3, ("1.png", "cat", "train"), None])
    def test_others_are_refused(self, root, row):
        with pytest.raises(ValueError, match="Row 1 is neither a mapping nor a \\(path, label\\) pair"):
            from_table([ROWS[0], row], root)

    def test_a_missing_column_is_refused_with_those_that_are_there(self, root):
        with pytest.raises(ValueError, match=r"The table has the columns file, label\. Expected: path and label"):
            from_table(Frame(file=["1.png"], label=["cat"]), root)
        with pytest.raises(ValueError, match=r"Row 0 has the columns file, label\."):
            from_table([{"file": "1.png", "label": "cat"}], root)


class TestOrder:
    def test_classes_and_files_are_in_natural_order_whatever_that_of_the_rows(self, root):
        found = from_table([("10.png", 10), ("2.png", 9), ("1.png", 10)], root)
        assert found.classes == ("9", "10")
        assert listed(found) == [("2.png", "9"), ("1.png", "10"), ("10.png", "10")]

    def test_a_table_of_class_folders_is_what_a_scan_finds(self, class_folders):
        names = [f"{part}/{kind}/{i}.png" for part in ("train", "test") for kind in ("c10", "C2") for i in (10, 9)]
        root = class_folders(dict.fromkeys(names, 0))
        scanned = scan(root)
        rows = [{"path": name, "label": name.split("/")[1], "part": name.split("/")[0]} for name in names]
        found = from_table(rows, root)
        assert (found.classes, found.paths) == (scanned.classes, scanned.paths)
        assert found.labels.tolist() == scanned.labels.tolist()
        assert found.parts.tolist() == scanned.parts.tolist()


class TestPaths:
    def test_they_count_from_the_root_or_from_nowhere(self, root, monkeypatch):
        monkeypatch.chdir(root)
        assert from_table(ROWS).paths == [Path("1.png"), Path("2.png")]
        monkeypatch.chdir(root.parent)
        rows = [(str(root / "1.png"), "cat"), ("2.png", "dog")]
        for cache in (None, root.parent / "cache"):
            images = load(from_table(rows, root.name), TINY, cache=cache)
            assert images.x[:, 0, 0, 0].tolist() == [10, 20]

    @pytest.mark.skipif(sys.platform != "linux", reason="names that look alike are one there")
    @pytest.mark.parametrize(("written", "called"), [("\u00e9", "e\u0301"), ("e\u0301", "\u00e9")])
    def test_they_are_found_however_their_letters_are_encoded(self, class_folders, written, called):
        root = class_folders({f"{called}/{called}.png": 0, f"{called}/1.png": 0})
        found = from_table([(f"{written}/{written}.png", "cat"), (f"{called}/1.png", "dog")], root)
        assert found.paths == [root / called / f"{called}.png", root / called / "1.png"]

    @pytest.mark.skipif(os.sep != "/", reason="that is how they are written there")
    def test_those_of_windows_are_found(self, class_folders):
        root = class_folders({"a/1.png": 0, "a/2.png": 0})
        assert from_table([("a\\1.png", "cat"), ("a/2.png", "dog")], root).paths == [root / "a/1.png", root / "a/2.png"]

    def test_files_that_do_not_exist_are_skipped_as_those_that_cannot_be_read(self, root):
        images = load(from_table([*ROWS, ("gone.png", "dog")], root), TINY)
        assert [path.name for path in images.paths] == ["1.png", "2.png"]
        assert [(path.name, reason) for path, reason in images.skipped] == [("gone.png", "No such file or directory")]

    def test_unless_none_exists(self, root):
        with pytest.raises(FileNotFoundError, match=r"None of the 2 files .*: .*1\.png\. Paths are relative to"):
            from_table(ROWS, root.parent)

    def test_a_root_that_is_no_folder_is_refused(self, root):
        with pytest.raises(FileNotFoundError, match="There is no folder nowhere"):
            from_table(ROWS, "nowhere")
        with pytest.raises(NotADirectoryError, match=r"1\.png is not a folder"):
            from_table(ROWS, root / "1.png")

    @pytest.mark.parametrize("path", ["", None, 3, float("nan"), "a\0.png"])
    def test_what_is_none_is_refused(self, root, path):
        with pytest.raises(ValueError, match="Row 2, has no path"):
            from_table([*ROWS, (path, "dog")], root)


class TestAgain:
    def test_a_path_listed_twice_is_taken_once_and_that_is_said(self, root):
        with pytest.warns(UserWarning, match=r"1 of the rows list a file again, the first '\./1\.png' \(Row 2\)"):
            found = from_table([*ROWS, ("./1.png", "cat")], root)
        assert listed(found) == ROWS

    def test_with_two_labels_it_is_refused(self, root):
        told = r"Row 2, gives '\./1\.png' the label 'dog', and Row 0 the label 'cat'"
        with pytest.raises(ValueError, match=told):
            from_table([*ROWS, ("./1.png", "dog")], root)

    def test_so_are_two_parts_and_two_groups(self, root):
        for what in ("part", "group"):
            rows = [{"path": path, "label": label, what: "train"} for path, label in ROWS]
            with pytest.raises(ValueError, match=f"the {what} 'test', and Row 0 the {what} 'train'"):
                from_table([*rows, {**rows[0], what: "test"}], root)


class TestValues:
    @pytest.mark.parametrize(("label", "name"), [(3, "3"), (True, "True"), (np.int64(7), "7"), (" e\u0301 ", "\u00e9")])
    def test_labels_become_text(self, root, label, name):
        assert name in from_table([("1.png", label), ("2.png", "dog")], root).classes

    @pytest.mark.parametrize("label", [None, float("nan"), np.float32("nan"), "", "  "])
    def test_a_missing_label_is_refused_with_its_row(self, root, label):
        with pytest.raises(ValueError, match=r"Row 1, gives '2\.png' no label"):
            from_table([ROWS[0], ("2.png", label)], root)

    def test_an_unknown_part_is_refused(self, root):
        with pytest.raises(ValueError, match=r"Row 0, has the unknown part 'dev'\. Expected one of: train, val,"):
            from_table([{"path": "1.png", "label": "cat", "part": "dev"}], root)

    def test_a_class_without_images_to_train_on_is_refused(self, root):
        rows = {"path": ["1.png", "2.png"], "label": ["cat", "dog"], "part": ["train", "test"]}
        with pytest.raises(ValueError, match=r"class 'dog' in the part test \(Row 1\) but none to train on"):
            from_table(rows, root)

    def test_columns_may_be_there_and_empty(self, root):
        found = from_table({"path": ["1.png", "2.png"], "label": ["cat", "dog"], "part": ["", None]}, root)
        assert found.parts is None

    def test_two_classes_are_needed(self, root):
        with pytest.raises(ValueError, match="lists only one class, 'cat'"):
            from_table(ROWS[:1], root)
        with pytest.raises(ValueError, match="lists no image"):
            from_table([], root)


class TestSeveralLabels:
    """A column of lists, or a column for each class, in place of a column of one label."""

    EXPECTED = (("cat", "dog"), [[1, 1], [0, 0], [0, 1]])

    @pytest.mark.parametrize(
        "text",
        [
            "path,labels\n1.png,cat;dog\n2.png,\n10.png,dog\n",
            "path,labels,part\n1.png, dog ; cat;,\n2.png,,\n10.png,dog;dog,\n",
            'path;Labels\n1.png;"cat;dog"\n2.png;\n10.png;dog\n',
            "path,dog,cat\n1.png,1,1\n2.png,0,0\n10.png,1,0\n",
            "path,cat,dog,group\n1.png,1.0,TRUE,\n2.png,0.0,false,\n10.png,0,1,\n",
        ],
    )
    def test_a_csv_file_in_any_of_these_forms(self, root, text):
        (root / "labels.csv").write_text(text)
        found = from_table(root / "labels.csv", root)
        assert (found.classes, found.labels.tolist()) == self.EXPECTED
        assert [path.name for path in found.paths] == ["1.png", "2.png", "10.png"]

    @pytest.mark.parametrize(
        "rows",
        [
            Frame(path=["10.png", "1.png", "2.png"], labels=["dog", "cat;dog", None]),
            Frame(path=["10.png", "1.png", "2.png"], labels=[["dog"], ("cat", "dog"), []]),
            {"path": ["10.png", "1.png", "2.png"], "cat": [False, True, False], "dog": [1, 1.0, np.int64(0)]},
            iter([{"path": "10.png", "labels": "dog"}, {"path": "1.png", "labels": {"cat", "dog"}},
                  {"path": "2.png", "labels": float("nan")}]),
        ],
        ids=["text", "lists", "columns", "mappings"],
    )  # fmt: skip
    def test_rows_in_any_of_these_forms(self, root, rows):
        found = from_table(rows, root)
        assert (found.classes, found.labels.tolist()) == self.EXPECTED

    def test_images_are_loaded_with_them(self, root):
        images = load(from_table({"path": ["1.png", "2.png", "9.png"], "labels": ["a;b", "", "b"]}, root), TINY)
        assert images.y.tolist() == [[1, 1], [0, 0]]
        assert images.take(np.array([1])).y.tolist() == [[0, 0]]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("path,label\n1.png,cat;dog\n2.png,dog\n", "line 2, gives '1.png' the label 'cat;dog'. If these are sev"),
            ("path,label,labels\n1.png,cat,cat\n", "has a column label and a column labels"),
            ("path,labels\n1.png,cat|dog\n2.png,dog\n", "'cat|dog' in the column labels, and no ';' in any row"),
            ("path,labels\n1.png,cat\n2.png,\n", "lists only one class, 'cat'"),
            ("path,labels\n1.png,\n2.png,\n", "lists no label"),
            ("path,defect\n1.png,1\n2.png,0\n", "has one column beside the paths, 'defect'"),
            ("path,class\n1.png,cat\n2.png,dog\n", "has one column beside the paths, 'class'"),
            ("path,cat,age\n1.png,1,34\n2.png,0,3\n", "line 2, has '34' in the column 'age'. Without a column label"),
            ("path,cat,dog\n1.png,1,\n2.png,0,1\n", "line 2, has '' in the column 'dog'"),
            ("path,cat,dog\n1.png,1,-1\n2.png,0,1\n", "line 2, has '-1' in the column 'dog'"),
            ("path,cat,dog\n1.png,1,0\n2.png,0,0\n", "lists no image with the label 'dog'. Remove its column"),
            ("path,cat,cat\n1.png,1,0\n2.png,0,0\n", "each once"),
            ('path,"a;b",c\n1.png,1,0\n2.png,0,1\n', "has a column 'a;b'. The name of a class needs"),
            ("path,labels\n1.png,cat;dog\n1.png,dog\n", "the label 'dog', and .* the label 'cat;dog'. Keep"),
            ("path,label\n1.png,cat\n1.png,dog\n", "Keep one of them, or list several labels in one row, in a column"),
            ("path,labels,part\n1.png,cat,train\n2.png,dog,test\n", "'dog' in the part test .* none to train on"),
            ("file,labels\n1.png,cat;dog\n", "has the columns file, labels. Expected: path and label"),
        ],
    )  # fmt: skip
    def test_what_could_be_meant_otherwise_is_refused_in_one_line(self, root, text, told):
        (root / "labels.csv").write_text(text)
        with pytest.raises(ValueError, match=told.replace("|", r"\|").replace("(", r"\(")) as caught:
            from_table(root / "labels.csv", root)
        assert "\n" not in str(caught.value)

    def test_a_table_to_evaluate_with_has_a_column_for_each_class_of_the_model(self, root):
        table = {"path": ["1.png"], "cat": [1], "dog": [0]}
        assert from_table(table, root, training=False, known=("dog", "cat")).classes == ("cat", "dog")
        with pytest.raises(ValueError, match="no column for the class 'cow' of the model"):
            from_table(table, root, training=False, known=("cat", "dog", "cow"))
        listed = {"path": ["1.png"], "labels": ["cat"]}
        assert from_table(listed, root, training=False, known=("cat", "dog")).classes == ("cat",)

    def test_the_same_row_again_is_used_once_with_a_warning(self, root):
        with pytest.warns(UserWarning, match="1 of the rows list a file again"):
            found = from_table({"path": ["1.png", "1.png", "2.png"], "labels": ["a;b", "b;a", ""]}, root)
        assert found.labels.tolist() == [[1, 1], [0, 0]]


def test_a_good_table_gives_no_warning(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_table(ROWS, root)
