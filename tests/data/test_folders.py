"""A folder of class folders becomes labelled images, whatever else is in it."""

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import picture, save
from xpcnn.data import Decoding, UndecodableImage, folders, load, load_folder, scan

#: "été" as most systems write it, and as macOS does.
NFC, NFD = "\u00e9t\u00e9", "e\u0301te\u0301"
ANY_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="names that look alike are one there")

TINY = Decoding(height=6, width=6, channels=1)


def names(image_folder, root):
    return [path.relative_to(root).as_posix() for path in image_folder.paths]


def break_file(path):
    path.write_bytes(b"no image")


class TestScan:
    def test_class_folders_and_files_come_in_natural_order(self, class_folders):
        root = class_folders({"cell10/1.png": 0, "Cell2/10.png": 0, "Cell2/9.png": 0, "cell1/a.png": 0})
        found = scan(root)
        assert found.classes == ("cell1", "Cell2", "cell10")
        assert names(found, root) == ["cell1/a.png", "Cell2/9.png", "Cell2/10.png", "cell10/1.png"]
        assert found.labels.tolist() == [0, 1, 1, 2]
        assert found.labels.dtype == np.int64
        assert found.parts is None

    def test_names_may_hold_any_characters(self, class_folders):
        root = class_folders({"éosinophile/细胞.png": 0, "a b/ü.png": 0})
        assert scan(str(root)).classes == ("a b", "éosinophile")

    def test_foreign_files_are_no_images_and_no_errors(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.PNG": 0})
        for name in (".DS_Store", "Thumbs.db", "notes.txt", "1.json", "noextension", ".png"):
            (root / "a" / name).touch()
        (root / "readme.txt").touch()
        found = scan(root)
        assert names(found, root) == ["a/1.png", "b/1.PNG"]
        assert found.passed_over == {".txt": 2, ".json": 1, "": 1}

    def test_files_below_a_class_folder_are_passed_over_by_their_ending_in_lower_case(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.png": 0, ".hidden/1.png": 0, "__MACOSX/1.png": 0})
        (root / "a" / "slides").mkdir()
        for name in ("a/1.XCF", "a/slides/2.xcf", "a/slides/._2.xcf", "b/desktop.ini", ".hidden/x.md", "__MACOSX/x.md"):
            (root / name).touch()
        assert scan(root).passed_over == {".xcf": 2}

    def test_images_beside_the_class_folders_are_passed_over_too(self, class_folders):
        parts = ["train/a/1.png", "train/b/1.png", "train/left.png", "test/b/1.png", "test/left.jpg"]
        assert scan(class_folders(dict.fromkeys(parts, 0))).passed_over == {".png": 1, ".jpg": 1}

    @ANY_BYTES
    def test_folders_that_differ_in_unicode_form_alone_are_one_class(self, class_folders):
        root = class_folders({f"{NFD}/1.png": 0, f"{NFC}/2.png": 0, "fin/1.png": 0})
        found = scan(root)
        assert found.classes == (NFC, "fin")
        assert names(found, root) == [f"{NFD}/1.png", f"{NFC}/2.png", "fin/1.png"]
        assert found.labels.tolist() == [0, 0, 1]

    @ANY_BYTES
    def test_parts_may_write_a_class_in_different_unicode_forms(self, class_folders):
        root = class_folders({f"train/{NFC}/1.png": 0, "train/a/1.png": 0, f"test/{NFD}/2.png": 0})
        found = scan(root)
        assert (found.classes, found.labels.tolist()) == (("a", NFC), [0, 1, 1])

    def test_a_hidden_file_named_like_an_image_is_one(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.png": 0})
        (root / "a" / ".DS_169665.jpg").touch()
        assert names(scan(root), root) == ["a/1.png", "a/.DS_169665.jpg", "b/1.png"]

    def test_hidden_folders_are_no_classes(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.png": 0, ".cache/1.png": 0, "__MACOSX/1.png": 0, "a/.trash/1.png": 0})
        assert names(scan(root), root) == ["a/1.png", "b/1.png"]

    def test_images_in_folders_below_a_class_belong_to_it(self, class_folders):
        root = class_folders({"a/patient1/1.png": 0, "a/2.png": 0, "b/1.png": 0})
        found = scan(root)
        assert names(found, root) == ["a/2.png", "a/patient1/1.png", "b/1.png"]
        assert found.labels.tolist() == [0, 0, 1]

    def test_a_directory_named_like_an_image_is_not_a_file(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.png": 0})
        (root / "a" / "x.jpg").mkdir()
        assert names(scan(root), root) == ["a/1.png", "b/1.png"]

    def test_a_link_to_a_class_folder_elsewhere_is_a_class(self, class_folders):
        elsewhere = class_folders({"c/1.png": 0}, name="elsewhere")
        root = class_folders({"a/1.png": 0})
        (root / "b").symlink_to(elsewhere / "c")
        assert scan(root).classes == ("a", "b")

    def test_links_that_go_in_circles_do_no_harm(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.png": 0})
        (root / "a" / "up").symlink_to(root)
        (root / "up").symlink_to(root)
        (root / "further").symlink_to(root.parent)
        (root / "itself").symlink_to(root / "itself")
        assert names(scan(root), root) == ["a/1.png", "b/1.png"]


class TestParts:
    @pytest.mark.parametrize("validation", ["val", "valid", "validation", "VAL"])
    def test_a_folder_may_have_parts_of_its_own(self, class_folders, validation):
        files = {
            "test/a/1.png": 0,
            f"{validation}/b/1.png": 0,
            "train/a/1.png": 0,
            "train/b/1.png": 0,
            "notes/1.png": 0,
        }
        root = class_folders(files)
        found = scan(root)
        assert found.classes == ("a", "b")
        assert names(found, root) == [
            "train/a/1.png",
            "train/b/1.png",
            f"{validation}/b/1.png",
            "test/a/1.png",
        ]
        assert found.parts.tolist() == ["train", "train", "validation", "test"]
        assert found.labels.tolist() == [0, 1, 1, 0]

    @pytest.mark.parametrize("other", ["val", "test"])
    def test_one_part_beside_the_training_part_is_enough(self, class_folders, other):
        root = class_folders({"train/a/1.png": 0, "train/b/1.png": 0, f"{other}/a/1.png": 0})
        assert set(scan(root).parts) == {"train", {"val": "validation"}.get(other, other)}

    def test_without_a_training_part_they_are_classes(self, class_folders):
        assert scan(class_folders({"val/1.png": 0, "test/1.png": 0})).classes == ("test", "val")

    def test_a_training_part_alone_is_one_class(self, class_folders):
        with pytest.raises(ValueError, match="only one class folder, 'train'"):
            scan(class_folders({"train/a/1.png": 0, "train/b/1.png": 0}))

    def test_two_validation_parts_are_refused(self, class_folders):
        with pytest.raises(ValueError, match=r"more than one folder for the validation part: val, valid"):
            scan(class_folders({"train/a/1.png": 0, "val/a/1.png": 0, "valid/a/1.png": 0}))

    def test_a_class_that_cannot_be_trained_is_refused(self, class_folders):
        with pytest.raises(ValueError, match=r"test.c has no counterpart in .*, which has a, b"):
            scan(class_folders({"train/a/1.png": 0, "train/b/1.png": 0, "test/c/1.png": 0}))

    def test_a_class_may_be_empty_in_the_other_parts_but_not_in_training(self, class_folders):
        root = class_folders({"train/a/1.png": 0, "train/b/1.png": 0, "test/a/1.png": 0})
        (root / "test" / "b").mkdir()
        assert len(scan(root).paths) == 3
        (root / "train" / "c").mkdir()
        with pytest.raises(ValueError, match="c contains no image"):
            scan(root)


class TestImpossibleFolders:
    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
            scan(tmp_path / "nowhere")

    def test_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match="file is not a folder"):
            scan(tmp_path / "file")

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match="no class folder"):
            scan(tmp_path)

    def test_images_without_class_folders(self, class_folders):
        with pytest.raises(ValueError, match="no class folder"):
            scan(class_folders({"1.png": 0, "2.png": 0}))

    def test_one_class(self, class_folders):
        with pytest.raises(ValueError, match="only one class folder, 'a'"):
            scan(class_folders({"a/1.png": 0}))

    def test_a_class_without_images(self, class_folders):
        root = class_folders({"a/1.png": 0, "b/1.png": 0})
        (root / "c").mkdir()
        (root / "c" / "notes.txt").touch()
        with pytest.raises(ValueError, match=r"class folder .*c contains no image"):
            scan(root)

    def test_a_class_folder_that_cannot_be_listed(self, class_folders, monkeypatch):
        def refuse(path, *arguments):
            raise PermissionError(13, "Permission denied", path)

        root = class_folders({"a/1.png": 0, "b/1.png": 0})
        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(PermissionError, match="Permission denied"):
            folders.class_files(root / "a")


class TestLoad:
    def test_images_labels_and_paths_belong_together(self, class_folders):
        root = class_folders({"a/2.png": 20, "a/10.png": 100, "b/1.png": 7})
        images = load_folder(root, TINY)
        assert images.x.shape == (3, 1, 6, 6)
        assert images.x.dtype == np.uint8
        assert images.x[:, 0, 0, 0].tolist() == [20, 100, 7]
        assert images.y.tolist() == [0, 0, 1]
        assert images.y.dtype == np.int64
        assert images.classes == ("a", "b")
        assert [path.name for path in images.paths] == ["2.png", "10.png", "1.png"]
        assert images.skipped == []
        assert images.parts is None
        assert images.groups is None

    def test_sizes_and_channels_may_be_mixed(self, tmp_path):
        save(tmp_path / "a/1.png", picture(20, 30))
        save(tmp_path / "a/2.jpg", picture(5, 5, channels=1))
        save(tmp_path / "b/1.png", np.dstack([picture(), picture(channels=1)]))
        save(tmp_path / "b/2.tiff", picture(dtype=np.uint16))
        assert load_folder(tmp_path, Decoding(9, 7, 3)).x.shape == (4, 3, 9, 7)

    def test_bad_images_are_left_out_and_listed(self, class_folders):
        root = class_folders({"a/1.png": 1, "a/2.png": 2, "a/3.png": 3, "b/1.png": 4})
        break_file(root / "a/2.png")
        (root / "b/0.jpg").touch()
        (root / "b/gone.jpg").symlink_to(root / "nowhere.jpg")
        images = load_folder(root, TINY)
        assert images.x[:, 0, 0, 0].tolist() == [1, 3, 4]
        assert images.y.tolist() == [0, 0, 1]
        assert [path.name for path in images.paths] == ["1.png", "3.png", "1.png"]
        assert [path.name for path, _ in images.skipped] == ["2.png", "0.jpg", "gone.jpg"]
        assert [reason.split()[-1] for _, reason in images.skipped] == ["65)", "empty", "directory"]

    def test_parts_lose_the_bad_images_too(self, class_folders):
        root = class_folders({"train/a/1.png": 1, "train/a/2.png": 2, "train/b/1.png": 3, "test/a/1.png": 4})
        break_file(root / "train/a/1.png")
        images = load_folder(root, TINY)
        assert images.parts.tolist() == ["train", "train", "test"]

    def test_groups_lose_the_bad_images_and_what_was_passed_over_is_kept(self, class_folders):
        root = class_folders({"a/1.png": 1, "a/2.png": 2, "b/1.png": 3})
        break_file(root / "a/1.png")
        (root / "a" / "notes.txt").touch()
        images = load(replace(scan(root), groups=["x", "y", "z"]), TINY)
        assert images.groups == ["y", "z"]
        assert images.passed_over == {".txt": 1}

    def test_strict_stops_at_the_first_bad_image(self, class_folders):
        root = class_folders({"a/1.png": 1, "a/2.png": 2, "b/1.png": 4})
        break_file(root / "a/2.png")
        break_file(root / "b/1.png")
        before = threading.active_count()
        with pytest.raises(UndecodableImage, match=r"2\.png cannot be read as an image") as caught:
            load_folder(root, TINY, strict=True)
        assert caught.value.path == root / "a/2.png"
        assert threading.active_count() == before

    def test_a_class_that_lost_all_its_images_is_named(self, class_folders):
        root = class_folders({"a/1.png": 1, "b/1.png": 2, "c/1.png": 2})
        break_file(root / "b/1.png")
        with pytest.raises(ValueError, match=r"training images of the class 'b' .*The first: .*1\.png"):
            load_folder(root, TINY)

    def test_a_class_that_only_the_test_part_still_has_is_named(self, class_folders):
        root = class_folders({"train/a/1.png": 1, "train/b/1.png": 2, "test/b/1.png": 2})
        break_file(root / "train/b/1.png")
        with pytest.raises(ValueError, match="training images of the class 'b'"):
            load_folder(root, TINY)

    def test_no_image_that_can_be_read_is_one_error(self, class_folders):
        root = class_folders({"a/1.png": 1, "b/1.png": 2})
        break_file(root / "a/1.png")
        break_file(root / "b/1.png")
        with pytest.raises(ValueError, match="None of the 2 image files could be read"):
            load_folder(root, TINY)

    def test_no_threads_are_refused(self, class_folders):
        with pytest.raises(ValueError, match="Received: threads=0"):
            load_folder(class_folders({"a/1.png": 1, "b/1.png": 2}), TINY, threads=0)

    def test_images_that_do_not_fit_the_memory_are_one_error(self):
        huge = folders.ImageFolder(("a", "b"), [Path("x.png")] * 2**20, np.zeros(2**20, np.int64), None, Path("."))
        with pytest.raises(MemoryError, match="Received: 1048576 images of 3 x 8192 x 16384 values"):
            load(huge, Decoding(2**13, 2**14, 3))


class TestProgress:
    def load(self, class_folders, monkeypatch, progress, terminal):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        load_folder(class_folders({"a/1.png": 1, "b/1.png": 2}), TINY, progress=progress)

    def test_a_bar_is_shown_on_a_terminal(self, class_folders, monkeypatch, capsys):
        self.load(class_folders, monkeypatch, progress=True, terminal=True)
        printed = capsys.readouterr()
        assert "2/2" in printed.err
        assert printed.out == ""

    @pytest.mark.parametrize(("progress", "terminal"), [(True, False), (False, True)])
    def test_otherwise_nothing_is_printed(self, class_folders, monkeypatch, capsys, progress, terminal):
        self.load(class_folders, monkeypatch, progress, terminal)
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", "")


class TestRealImages:
    @pytest.mark.slow
    def test_the_blood_cells_load_as_eight_classes(self, real_data):
        images = load_folder(real_data("blood"), Decoding(16, 16, 1))
        assert images.x.shape == (13586, 1, 16, 16)
        assert len(images.classes) == 8
        assert images.skipped == []

    def test_the_undecodable_original_is_skipped_and_listed(self, real_data):
        images = load_folder(real_data("blood_originals"), Decoding(64, 64, 3))
        assert images.x.shape == (320, 3, 64, 64)
        assert [path.name for path, _ in images.skipped] == [".DS_169665.jpg"]
