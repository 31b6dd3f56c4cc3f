"""Decoded images cached on disk: the same images as without, decoded once, and again if a file has changed."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import xpcnn
from tests.data.conftest import picture, save
from xpcnn import data, files
from xpcnn.data import Decoding, UndecodableImage, cache, cache_file, decode, load_folder, reading
from xpcnn.data.decode import read_picture
from xpcnn.data.picture import Facts

TINY = Decoding(height=6, width=6, channels=1)


@pytest.fixture(autouse=True)
def _files_are_settled(monkeypatch):
    """Let the times of files just made count as they do for older ones."""
    monkeypatch.setattr(cache, "_CLOCK_STEP", 0)


@pytest.fixture
def kept(tmp_path):
    """The folder of the cache."""
    return tmp_path / "kept"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are read, as they are."""
    names = []

    def read(path, decoding, raw=False):
        names.append(path.name)
        return read_picture(path, decoding, raw)

    monkeypatch.setattr(reading, "read_picture", read)
    return names


@pytest.fixture
def odd(tmp_path):
    """A folder of mixed formats with what goes wrong in such folders, and names that are hard to write down."""
    root = tmp_path / "odd"
    for number, (name, shape) in enumerate(
        {"train/a/2.png": (20, 30), "train/a/10.jpg": (5, 5), "train/b/x/y.bmp": (64, 3), "val/a/1.tiff": (9, 9),
         "val/b/line\nbreak.png": (8, 8), "test/b/🙂 \\u0041.png": (7, 7), "train/ü/ü.png": (6, 6)}.items()
    ):  # fmt: skip
        save(root / name, picture(*shape, seed=number))
    if sys.platform == "linux":  # elsewhere names are text
        os.link(root / "train/a/2.png", os.fsencode(root / "train/b") + b"/\xff\xfe.png")
    (root / "train/a/linked.png").symlink_to(root / "train/b/x/y.bmp")
    (root / "train/a/broken.png").write_bytes(b"no image")
    (root / "train/b/empty.jpg").touch()
    (root / "val/a/gone.png").symlink_to(root / "nowhere.png")
    return root


@pytest.fixture
def small(class_folders):
    """Five grey images in two classes, of the values 1 to 5."""
    return class_folders({"a/1.png": 1, "a/2.png": 2, "a/3.png": 3, "b/4.png": 4, "b/5.png": 5})


def the_file(kept):
    (file,) = kept.iterdir()
    return file


def values(images):
    """The first byte of every image."""
    return images.x[:, 0, 0, 0].tolist()


def counts(images):
    return images.cache.reused, images.cache.read


def assert_same(images, others):
    assert images.x.dtype == others.x.dtype
    np.testing.assert_array_equal(images.x, others.x)
    np.testing.assert_array_equal(images.y, others.y)
    assert images.classes == others.classes
    assert images.paths == others.paths
    assert images.skipped == others.skipped
    if others.parts is None:
        assert images.parts is None
    else:
        assert images.parts.tolist() == others.parts.tolist()


def rewrite(path, value):
    """Write another picture and return what the status was; the clock of a disk ticks some hundred times a second."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        save(path, np.full((6, 6), value, dtype=np.uint8))
    return before


class TestTheSameImages:
    @pytest.mark.parametrize("decoding", [TINY, Decoding(9, 7, 3)], ids=["grey", "colour"])
    def test_as_without_a_cache_the_first_time_and_the_second(self, odd, kept, decoding, decoded):
        plain = load_folder(odd, decoding)
        assert len(plain.skipped) == 3
        assert plain.cache is None
        first = load_folder(odd, decoding, cache=kept)
        assert counts(first) == (0, len(plain.y) + 3)
        assert_same(first, plain)
        decoded.clear()
        written = the_file(kept).stat()
        second = load_folder(str(odd), decoding, cache=str(kept))
        assert the_file(kept).stat().st_ino == written.st_ino
        assert counts(second) == (len(plain.y), 0)
        assert decoded == []
        assert_same(second, plain)

    def test_without_parts(self, small, kept):
        for _ in range(2):
            assert_same(load_folder(small, TINY, cache=kept), load_folder(small, TINY))

    def test_a_folder_without_any_image_that_can_be_read_is_refused_each_time(self, class_folders, kept):
        root = class_folders({"a/1.png": 1, "b/1.png": 2})
        for path in root.glob("*/*"):
            path.write_bytes(b"no image")
        for _ in range(2):
            with pytest.raises(ValueError, match="None of the 2 image files could be read"):
                load_folder(root, TINY, cache=kept)

    def test_a_folder_is_the_same_by_whatever_path_and_another_one_is_not(self, small, kept, monkeypatch, tmp_path):
        load_folder(small, TINY, cache=kept)
        monkeypatch.chdir(small.parent)
        assert counts(load_folder("set", TINY, cache=kept)) == (5, 0)
        monkeypatch.chdir(small)
        assert counts(load_folder(".", TINY, cache=kept)) == (5, 0)
        (tmp_path / "link").symlink_to(small)
        assert counts(load_folder(tmp_path / "link", TINY, cache=kept)) == (5, 0)
        shutil.copytree(small, tmp_path / "copy")
        assert counts(load_folder(tmp_path / "copy", TINY, cache=kept)) == (0, 5)

    def test_each_decoding_has_a_file_of_its_own(self, small, kept):
        for decoding in (TINY, Decoding(6, 6, 3), Decoding(6, 7, 1)):
            assert counts(load_folder(small, decoding, cache=kept)) == (0, 5)
        assert len(list(kept.iterdir())) == 3
        assert counts(load_folder(small, TINY, cache=kept)) == (5, 0)


class TestChanges:
    def after(self, root, kept, decoded):
        """What a folder gives with a cache, which is what it gives without; and which files were read for it."""
        decoded.clear()
        images = load_folder(root, TINY, cache=kept)
        read = [*decoded]
        assert_same(images, load_folder(root, TINY))
        assert counts(load_folder(root, TINY, cache=kept)) == (len(images.y), 0)
        return images, read

    def test_a_changed_file_alone_is_read_anew(self, small, kept, decoded):
        load_folder(small, TINY, cache=kept)
        rewrite(small / "a/2.png", 20)
        images, read = self.after(small, kept, decoded)
        assert values(images) == [1, 20, 3, 4, 5]
        assert read == ["2.png"]
        assert counts(images) == (4, 1)

    def test_other_content_of_the_same_size_and_time_is_seen(self, class_folders, kept, decoded):
        root = class_folders({"a/1.bmp": 1, "b/2.bmp": 2})
        load_folder(root, TINY, cache=kept)
        before = rewrite(root / "b/2.bmp", 20)
        os.utime(root / "b/2.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
        after = (root / "b/2.bmp").stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        assert values(self.after(root, kept, decoded)[0]) == [1, 20]

    def test_files_that_are_new_gone_or_of_another_class(self, small, kept, decoded):
        load_folder(small, TINY, cache=kept)
        (small / "a/1.png").unlink()
        (small / "b/5.png").rename(small / "a/5.png")
        save(small / "b/0.png", np.full((6, 6), 9, dtype=np.uint8))
        images, read = self.after(small, kept, decoded)
        assert values(images) == [2, 3, 5, 9, 4]
        assert images.y.tolist() == [0, 0, 0, 1, 1]
        assert read == ["5.png", "0.png"]

    def test_a_file_that_is_gone_and_nothing_else(self, small, kept, decoded):
        load_folder(small, TINY, cache=kept)
        (small / "a/2.png").unlink()
        images, read = self.after(small, kept, decoded)
        assert (values(images), read) == ([1, 3, 4, 5], [])

    def test_a_link_that_leads_elsewhere_now(self, small, kept, decoded):
        (small / "b/6.png").symlink_to(small / "a/1.png")
        load_folder(small, TINY, cache=kept)
        (small / "b/6.png").unlink()
        (small / "b/6.png").symlink_to(small / "a/2.png")
        assert values(self.after(small, kept, decoded)[0]) == [1, 2, 3, 4, 5, 2]

    def test_bad_images_are_remembered_until_they_change(self, small, kept, decoded):
        (small / "a/2.png").write_bytes(b"no image")
        assert [path.name for path, _ in load_folder(small, TINY, cache=kept).skipped] == ["2.png"]
        images, read = self.after(small, kept, decoded)
        assert (values(images), read) == ([1, 3, 4, 5], [])
        rewrite(small / "a/2.png", 20)
        images, read = self.after(small, kept, decoded)
        assert (values(images), read) == ([1, 20, 3, 4, 5], ["2.png"])

    def test_a_file_that_goes_bad(self, small, kept, decoded):
        load_folder(small, TINY, cache=kept)
        (small / "a/2.png").write_bytes(b"no image")
        assert values(self.after(small, kept, decoded)[0]) == [1, 3, 4, 5]

    @pytest.mark.parametrize("change", ["another OpenCV", "another format"])
    def test_another_way_of_decoding_reads_everything_anew(self, small, kept, monkeypatch, change):
        load_folder(small, TINY, cache=kept)
        if change == "another OpenCV":
            monkeypatch.setattr(data.opencv.load_opencv(), "__version__", "99")
        else:
            monkeypatch.setattr(cache, "_FORMAT", 99)
        assert counts(load_folder(small, TINY, cache=kept)) == (0, 5)
        assert counts(load_folder(small, TINY, cache=kept)) == (5, 0)

    @pytest.mark.parametrize("hindrance", [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "I/O")])
    def test_what_hindered_the_reading_alone_is_not_remembered(self, small, kept, monkeypatch, hindrance):
        with monkeypatch.context() as patched:

            def fail_once(path, mode, **options):
                if path.name == "2.png":
                    raise hindrance
                return open(path, mode, **options)

            patched.setattr(decode, "open", fail_once, raising=False)
            assert values(load_folder(small, TINY, cache=kept)) == [1, 3, 4, 5]
        assert values(load_folder(small, TINY, cache=kept)) == [1, 2, 3, 4, 5]

    def test_what_this_user_may_not_read_is_remembered(self, small, kept, monkeypatch, decoded):
        def refuse(path, mode, **options):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(decode, "open", refuse, raising=False)
        for read in (5, 0):
            decoded.clear()
            with pytest.raises(ValueError, match="Permission denied"):
                load_folder(small, TINY, cache=kept)
            assert len(decoded) == read

    def test_memory_that_was_short_is_not_remembered(self, small, kept, monkeypatch):
        cv2 = data.opencv.load_opencv()
        with monkeypatch.context() as patched:

            def fail(encoded, flags):
                error = cv2.error("short")
                error.err, error.code = "Insufficient memory", cv2.Error.StsNoMem
                raise error

            patched.setattr(cv2, "imdecode", fail)
            with pytest.raises(ValueError, match="Insufficient memory"):
                load_folder(small, TINY, cache=kept)
        assert values(load_folder(small, TINY, cache=kept)) == [1, 2, 3, 4, 5]

    def test_a_file_that_changes_while_it_is_read_is_read_again(self, small, kept, monkeypatch):
        read = read_picture

        def read_and_change(path, decoding, raw=False):
            image = read(path, decoding, raw)
            if path.name == "2.png":
                rewrite(path, 20)
            return image

        with monkeypatch.context() as patched:
            patched.setattr(reading, "read_picture", read_and_change)
            assert values(load_folder(small, TINY, cache=kept)) == [1, 2, 3, 4, 5]
        images = load_folder(small, TINY, cache=kept)
        assert counts(images) == (4, 1)
        assert values(images) == [1, 20, 3, 4, 5]

    def test_a_file_too_young_for_its_times_to_tell_is_read_again(self, small, kept, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(cache, "_CLOCK_STEP", 10**12)
            assert counts(load_folder(small, TINY, cache=kept)) == (0, 5)
            assert counts(load_folder(small, TINY, cache=kept)) == (0, 5)
        assert counts(load_folder(small, TINY, cache=kept)) == (0, 5)
        assert counts(load_folder(small, TINY, cache=kept)) == (5, 0)


class TestStrict:
    def test_it_stops_at_the_first_bad_image_cached_or_not(self, small, kept):
        for name in ("a/2.png", "b/4.png"):
            (small / name).write_bytes(b"no image")
        for strict in (True, False, True):
            if not strict:
                load_folder(small, TINY, cache=kept)
                continue
            with pytest.raises(UndecodableImage, match=r"2\.png cannot be read as an image") as caught:
                load_folder(small, TINY, cache=kept, strict=True)
            assert caught.value.path == small / "a/2.png"

    def test_a_bad_image_that_is_new_comes_before_a_later_one_that_is_known(self, small, kept):
        (small / "b/4.png").write_bytes(b"no image")
        load_folder(small, TINY, cache=kept)
        (small / "a/2.png").write_bytes(b"no image")
        with pytest.raises(UndecodableImage, match=r"2\.png"):
            load_folder(small, TINY, cache=kept, strict=True)

    def test_stopped_it_leaves_nothing_half_written_and_no_thread(self, small, kept):
        (small / "b/4.png").write_bytes(b"no image")
        before = threading.active_count()
        with pytest.raises(UndecodableImage) as caught:
            load_folder(small, TINY, cache=kept, strict=True)
        assert caught.value.path == small / "b/4.png"
        assert threading.active_count() == before
        assert list(kept.iterdir()) == []


class TestTheFile:
    def test_it_is_safetensors_with_an_index(self, small, kept):
        (small / "a/2.png").write_bytes(b"no image")
        images = load_folder(small, TINY, cache=kept)
        tensors = load_file(the_file(kept))
        np.testing.assert_array_equal(tensors["images"], images.x)
        index = json.loads(tensors["index"].tobytes())
        assert index["origin"]["folder"] == os.path.realpath(small)
        assert index["origin"]["decoding"] == TINY.to_json()
        status = (small / "a/1.png").stat()
        name, seen, reason, facts = index["files"][0]
        assert (name, seen) == ("a/1.png", [status.st_size, status.st_mtime_ns, status.st_ctime_ns])
        assert (reason, Facts.from_json(facts)) == (None, images.facts[0])
        assert images.cache.path == the_file(kept)
        assert images.cache.bytes == the_file(kept).stat().st_size

    def test_its_folder_is_for_this_user_alone(self, small, tmp_path):
        load_folder(small, TINY, cache=tmp_path / "above" / "kept")
        assert stat.S_IMODE((tmp_path / "above" / "kept").stat().st_mode) == 0o700

    def test_the_images_are_mapped_and_cannot_be_written(self, small, kept):
        for _ in range(2):
            x = load_folder(small, TINY, cache=kept).x
            assert isinstance(x.base, np.memmap)
            assert not x.flags.writeable

    def test_the_images_of_an_earlier_load_stay_when_the_file_is_replaced(self, small, kept):
        before = load_folder(small, TINY, cache=kept)
        rewrite(small / "a/1.png", 100)
        assert values(load_folder(small, TINY, cache=kept)) == [100, 2, 3, 4, 5]
        assert values(before) == [1, 2, 3, 4, 5]


class TestDamage:
    @pytest.fixture
    def whole(self, small, kept):
        load_folder(small, TINY, cache=kept)
        return the_file(kept)

    def assert_rebuilt(self, small, kept):
        images = load_folder(small, TINY, cache=kept)
        assert counts(images) == (0, 5)
        assert values(images) == [1, 2, 3, 4, 5]
        assert counts(load_folder(small, TINY, cache=kept)) == (5, 0)

    @pytest.mark.parametrize("length", [0, 7, 8, 4095, 4096, 4100, -1])
    def test_a_file_cut_off_is_rebuilt(self, small, kept, whole, length):
        whole.write_bytes(whole.read_bytes()[:length])
        self.assert_rebuilt(small, kept)

    def test_a_file_with_more_behind_it_is_rebuilt(self, small, kept, whole):
        whole.write_bytes(whole.read_bytes() + b"\0")
        self.assert_rebuilt(small, kept)

    def test_random_bytes_are_rebuilt(self, small, kept, whole):
        whole.write_bytes(np.random.default_rng(0).bytes(10000))
        self.assert_rebuilt(small, kept)

    @pytest.mark.parametrize("first", ["true", "5.0", "-1", '"5"', "null", "1e999", "9" * 3000, "[5]"])
    def test_a_header_that_lies_is_rebuilt(self, small, kept, whole, first):
        content = whole.read_bytes()
        header = content[8:4096].replace(b"[5, 1, 6, 6]", f"[{first}, 1, 6, 6]".encode()).strip().ljust(4088)
        whole.write_bytes(content[:8] + header + content[4096:])
        self.assert_rebuilt(small, kept)

    @pytest.mark.parametrize(
        "header", [b"[]", b"null", b"{", b"\xff", b"[" * 4000, b'{"images": 1}', b'{"images": {"shape": []}}', None]
    )
    def test_a_header_of_another_form_is_rebuilt(self, small, kept, whole, header):
        content = whole.read_bytes()
        header = header or content[8:4096].replace(b'"U8"', b'"I8"')
        whole.write_bytes(content[:8] + header.ljust(4088) + content[4096:])
        self.assert_rebuilt(small, kept)

    def test_a_header_whose_number_is_a_text_is_not_multiplied(self, tmp_path):
        shape = (3, 2**14, 2**14)
        header = {"images": {"shape": ["9" * 3000, *shape]}, "index": {"shape": [0]}}
        (tmp_path / "file").write_bytes(bytes(8) + json.dumps(header).encode().ljust(4088))
        assert cache_file.Stored(tmp_path / "file", {}, shape).entries == []

    @pytest.mark.parametrize(
        "change",
        [
            lambda index: [],
            lambda index: None,
            lambda index: {"origin": index["origin"]},
            lambda index: {**index, "files": None},
            lambda index: {**index, "files": [1, 2, 3, 4, 5]},
            lambda index: {**index, "files": index["files"][1:]},
            lambda index: {**index, "files": [*index["files"], *index["files"]]},
            lambda index: {**index, "files": [index["files"][0]] * 5},
            lambda index: {**index, "files": [[*entry[:2], "why"] for entry in index["files"]]},
            lambda index: {**index, "files": [[*entry[:2], 3] for entry in index["files"]]},
            lambda index: {**index, "files": [[*entry, None] for entry in index["files"]]},
            lambda index: {**index, "files": [[3, *entry[1:]] for entry in index["files"]]},
            lambda index: {**index, "files": [[entry[0], "123", None] for entry in index["files"]]},
            lambda index: {**index, "files": [[entry[0], [[]], None] for entry in index["files"]]},
            lambda index: {**index, "origin": {**index["origin"], "format": 0}},
            lambda index: {**index, "origin": {**index["origin"], "folder": "/elsewhere"}},
        ],
    )
    def test_an_index_that_lies_is_rebuilt(self, small, kept, whole, change):
        self.change_index(whole, change)
        self.assert_rebuilt(small, kept)

    def test_a_reason_that_is_no_text_is_not_shown(self, small, kept):
        (small / "a/2.png").write_bytes(b"no image")
        load_folder(small, TINY, cache=kept)
        self.change_index(
            the_file(kept),
            lambda index: {**index, "files": [[*entry[:2], entry[2] and 3] for entry in index["files"]]},
        )
        ((_, reason),) = load_folder(small, TINY, cache=kept).skipped
        assert "its format is not one that xpcnn reads" in reason

    def change_index(self, file, change):
        """Write another index into a cache file that is right in all else."""
        content = file.read_bytes()
        header = json.loads(content[8:4096])
        start, end = header["index"]["data_offsets"]
        text = json.dumps(change(json.loads(content[4096 + start : 4096 + end]))).encode()
        header["index"] = {"dtype": "U8", "shape": [len(text)], "data_offsets": [start, start + len(text)]}
        file.write_bytes(content[:8] + json.dumps(header).encode().ljust(4088) + content[4096 : 4096 + start] + text)
        assert len(load_file(file)) == 2

    def test_an_index_larger_than_any_is_not_read(self, small, kept, whole, monkeypatch):
        monkeypatch.setattr(cache_file, "_MOST_INDEX_BYTES", 10)
        assert (
            cache_file.Stored(whole, json.loads(load_file(whole)["index"].tobytes())["origin"], (1, 6, 6)).entries == []
        )

    def test_an_index_nested_without_end_is_rebuilt(self, small, kept, whole):
        content = whole.read_bytes()
        length = len(content) - 4096 - 180
        whole.write_bytes(content[: 4096 + 180] + b"[" * length)
        self.assert_rebuilt(small, kept)


class TestFailures:
    def refuses(self, root, kept, *words):
        with pytest.raises(OSError, match="Leave --cache out, or set XDG_CACHE_HOME") as caught:
            load_folder(root, TINY, cache=kept)
        message = str(caught.value)
        assert "\n" not in message
        for word in (str(kept), *words):
            assert word in message

    @pytest.mark.parametrize("beneath", ["", "deeper/still"])
    def test_a_folder_that_cannot_be_made(self, small, tmp_path, beneath):
        (tmp_path / "file").touch()
        self.refuses(small, tmp_path / "file" / beneath)

    @pytest.mark.parametrize("make", [Path.mkdir, getattr(os, "mkfifo", Path.mkdir)], ids=["a folder", "a pipe"])
    def test_something_else_in_its_place(self, small, kept, make):
        load_folder(small, TINY, cache=kept)
        file = the_file(kept)
        file.unlink()
        make(file)
        self.refuses(small, kept, "it is not a file")

    @pytest.mark.parametrize("before", [False, True], ids=["at first", "later"])
    def test_a_disk_without_room_keeps_what_was_there(self, small, kept, before):
        resource = pytest.importorskip("resource", reason="only here files can be held to a size")
        if before:
            load_folder(small, TINY, cache=kept)
            rewrite(small / "a/1.png", 100)
        there = {path: path.read_bytes() for path in kept.glob("*")}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4200, limits[1]))
        try:
            self.refuses(small, kept, os.strerror(errno.EFBIG))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path: path.read_bytes() for path in kept.iterdir()} == there

    def test_what_a_killed_process_has_left_is_removed_a_day_later(self, small, kept):
        kept.mkdir()
        old, young, other = (kept / name for name in (f".{'a' * 16}.part", f".{'b' * 16}.part", "other"))
        for path in (old, young, other):
            path.write_bytes(b"half")
        for path in (old, other):
            os.utime(path, (time.time() - 100_000,) * 2)
        load_folder(small, TINY, cache=kept)
        assert (old.exists(), young.exists(), other.exists()) == (False, True, True)

    def test_of_two_processes_that_write_at_once_one_whole_file_stays(self, small, kept):
        code = (
            "import sys; from xpcnn.data import Decoding, load_folder\n"
            "images = load_folder(sys.argv[1], Decoding(6, 6, 1), cache=sys.argv[2])\n"
            "print(images.x[:, 0, 0, 0].tolist())"
        )
        surroundings = {**os.environ, "PYTHONPATH": str(Path(xpcnn.__file__).parents[1])}
        line = [sys.executable, "-c", code, str(small), str(kept)]
        both = [subprocess.Popen(line, env=surroundings, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=60)[0] for process in both] == ["[1, 2, 3, 4, 5]\n"] * 2
        the_file(kept)
        assert values(load_folder(small, TINY, cache=kept)) == [1, 2, 3, 4, 5]

    def test_a_file_that_another_process_has_replaced_by_other_images_is_not_taken(self, small, kept, monkeypatch):
        write = cache_file.write

        def write_and_drop(*arguments):
            return write(*arguments)[1:]

        monkeypatch.setattr(cache_file, "write", write_and_drop)
        self.refuses(small, kept, "another process has changed it")


class TestItsPlace:
    @pytest.fixture(autouse=True)
    def _home(self, monkeypatch, tmp_path):
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("LOCALAPPDATA", raising=False)

    @pytest.mark.parametrize(
        ("platform", "place"),
        [("linux", ".cache/xpcnn"), ("darwin", "Library/Caches/xpcnn"), ("win32", "AppData/Local/xpcnn/Cache")],
    )
    def test_it_is_where_the_system_keeps_caches(self, monkeypatch, tmp_path, platform, place):
        monkeypatch.setattr(sys, "platform", platform)
        assert files.user_cache() == tmp_path / place

    def test_windows_may_have_moved_it(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
        assert files.user_cache() == tmp_path / "local" / "xpcnn" / "Cache"

    def test_the_user_may_have_moved_it_but_not_to_a_relative_path(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        assert files.user_cache() == tmp_path / "elsewhere" / "xpcnn"
        monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
        assert files.user_cache() == tmp_path / ".cache" / "xpcnn"

    def test_true_asks_for_it_and_false_for_none(self, small, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        assert load_folder(small, TINY, cache=False).cache is None
        assert not (tmp_path / "elsewhere").exists()
        assert load_folder(small, TINY, cache=True).cache.path.parent == tmp_path / "elsewhere" / "xpcnn"
