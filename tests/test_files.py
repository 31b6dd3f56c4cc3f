import json
import os
import stat
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xpcnn import files


@pytest.fixture
def umask():
    """Set a umask, and take it back at the end."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


# Atomic writes


def test_a_file_appears_whole(tmp_path):
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"half ")
        assert not (tmp_path / "a").exists()
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"half whole"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")

    def fail():
        with files.atomic_write(tmp_path / "a") as file:
            file.write(b"new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_write_that_cannot_reach_the_disk_fails(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        files.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_that_may_only_be_read_stays_even_where_its_folder_may_be_written(tmp_path):
    files.write_text(tmp_path / "a", "old")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(PermissionError, match="read-only") as caught:
        files.write_text(tmp_path / "a", "new")
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_of_writing_names_the_file_and_one_that_names_another_stays(tmp_path):
    for error, named in ((OSError(28, "No space left"), tmp_path / "a"), (OSError(2, "None", "other"), "other")):
        with pytest.raises(OSError, match=error.strerror) as caught, files.atomic_write(tmp_path / "a"):
            raise error
        assert caught.value.filename == str(named)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_who_may_read_a_file_may_read_what_replaces_it(tmp_path):
    files.write_text(tmp_path / "a", "old")
    (tmp_path / "a").chmod(0o600)
    files.write_text(tmp_path / "a", "new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_put_on_the_disk_is_no_error(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"


def test_a_description_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"a' would have a header of \d+ bytes, and at most 8388608 can be read"):
        files.save_tensors(tmp_path / "a", {}, {"long": "x" * files.MOST_HEADER_BYTES})
    assert os.listdir(tmp_path) == []


def test_a_file_that_was_begun_is_known_by_its_name(tmp_path):
    with files.atomic_write(tmp_path / "a"):
        (begun,) = tmp_path.iterdir()
        assert files.is_part(begun)
    assert not any(map(files.is_part, [tmp_path / "a", tmp_path / ".part", tmp_path / "x.0123456789abcdef.part"]))


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_private_folder_and_those_made_above_it_are_for_this_user_alone(tmp_path):
    (tmp_path / "a").mkdir(mode=0o755)
    files.make_private(tmp_path / "a" / "b" / "c")
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b", "a/b/c")]
    assert modes == [0o755, 0o700, 0o700]
    files.make_private(tmp_path / "a" / "b" / "c")


def test_what_a_killed_process_left_in_a_private_folder_is_removed_a_day_later(tmp_path):
    old, young, other = (tmp_path / name for name in (f".{'a' * 16}.part", f".{'b' * 16}.part", "other"))
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (1e9, 1e9))
    files.make_private(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([young, other])


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path, mode):
    files.refuse_shared(tmp_path)
    tmp_path.chmod(mode)
    with pytest.raises(PermissionError, match="others own it or can write to it; run `chmod go-w "):
        files.refuse_shared(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mask, mode):
    umask(mask)
    files.write_text(tmp_path / "a", "x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_folder_that_cannot_be_written_is_named_and_not_the_temporary_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "a", tmp_path / "missing" / "a"):
        with pytest.raises(OSError, match=r"[Nn]o.* directory") as caught:
            files.write_text(path, "x")
        assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"[Ii]s a directory|[Pp]ermission") as caught:
        files.write_text(tmp_path / "folder", "x")
    assert caught.value.filename == str(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_the_longest_name_can_be_written(tmp_path):
    files.write_text(tmp_path / ("a" * 255), "x")
    assert (tmp_path / ("a" * 255)).read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    files.write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    files.write_text(tmp_path / "pipe", "x")
    reader.join()
    assert received == ["x"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_json_and_csv(tmp_path):
    files.write_json(tmp_path / "a.json", {"zellen": "größe", "n": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"zellen": "größe", "n": [1, None]}
    files.write_csv(tmp_path / "a.csv", [("name", "n"), ('a, "b"', 1)])
    assert (tmp_path / "a.csv").read_bytes() == b'name,n\n"a, ""b""",1\n'


def test_file_names_that_are_no_text_can_be_written(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    files.write_text(tmp_path / "a", name)
    assert (tmp_path / "a").read_bytes() == b"caf\xe9"
    files.write_json(tmp_path / "b", [name])
    assert json.loads((tmp_path / "b").read_text(encoding="utf-8")) == [name]
    files.save_tensors(tmp_path / "c", {}, [name])
    assert files.load_tensors(tmp_path / "c") == ({}, [name])


# Tensors


@given(
    arrays.arrays(
        st.sampled_from(["<f4", "<f8", ">f4", "<i8", "u1", "?", "<f2"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.sampled_from(["as it is", "transposed", "reversed", "every other", "Fortran"]),
)
def test_arrays_come_back_as_they_were(tmp_path_factory, array, layout):
    if layout == "transposed":
        array = array.T
    elif layout == "Fortran":
        array = np.asfortranarray(array)
    elif array.ndim:
        array = {"reversed": array[::-1], "every other": array[..., ::2]}.get(layout, array)
    path = tmp_path_factory.getbasetemp() / "tensors"
    files.save_tensors(path, {"a": array, "b": np.ones(2, np.float32)}, {"of": layout})
    tensors, description = files.load_tensors(path)
    np.testing.assert_array_equal(tensors["a"], array)
    assert tensors["a"].shape == array.shape
    assert tensors["a"].dtype == array.dtype.newbyteorder("=")
    assert description == {"of": layout}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.safetensors"
    files.save_tensors(path, {"weight": np.arange(6, dtype=np.float32)}, {"format": 1})
    return path


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40, -25, -24, -1])
def test_a_file_that_is_cut_off_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"saved.safetensors' is not a model file, or is damaged \(.*Give a file"):
        files.load_tensors(saved)


def test_every_byte_that_is_lost_is_noticed(saved):
    whole = saved.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        saved.write_bytes(damaged)
        try:
            tensors, description = files.load_tensors(saved)
        except ValueError:
            continue
        assert tensors["weight"].tolist() == [0, 1, 2, 3, 4, 5]
        assert description["format"] == 1
        assert "crc32" in whole[place - 5 : place + 5].decode()  # a file can do without the checksum's own name


def header(fields, content=b""):
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text + content


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"junk" * 100,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04\x95" + bytes(100),
        b"\xff" * 100,
        header(b"{" * 50),
        header(b"[]"),
        header(b'{"a": ' * 50_000 + b"1" + b"}" * 50_000),
        header({"a": {**TENSOR, "shape": [10**12]}}, bytes(4)),
        header({"a": {**TENSOR, "data_offsets": [0, 400]}}, bytes(4)),
        header({"a": {**TENSOR, "dtype": "F33"}}, bytes(4)),
        header({"a": {**TENSOR, "dtype": "F8_E5M2", "data_offsets": [0, 1]}}, bytes(1)),
        header({"a": {**TENSOR, "dtype": "BF16", "data_offsets": [0, 2]}}, bytes(2)),
        header({"a": TENSOR, "__metadata__": {"xpcnn": {"format": 1}}}, bytes(4)),
        header({"a": TENSOR, "__metadata__": "xpcnn"}, bytes(4)),
    ],
)
def test_junk_is_refused(tmp_path, content):
    (tmp_path / "junk").write_bytes(content)
    with pytest.raises(ValueError, match=r"junk' (is not a model file, or is damaged|contains tensors but)"):
        files.load_tensors(tmp_path / "junk")


def test_the_tensors_of_others_are_refused(tmp_path):
    for metadata in ({}, {"__metadata__": {"format": "pt"}}):
        (tmp_path / "other").write_bytes(header({"a": TENSOR, **metadata}, bytes(4)))
        with pytest.raises(ValueError, match=r"other' contains tensors but no xpcnn model. Give a file"):
            files.load_tensors(tmp_path / "other")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": ' * 100_000, "1" * 5000])
def test_a_description_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "odd").write_bytes(header({"a": TENSOR, "__metadata__": {"xpcnn": text}}, bytes(4)))
    with pytest.raises(ValueError, match="odd' has a description that cannot be read"):
        files.load_tensors(tmp_path / "odd")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(saved, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="is larger than 100 bytes"):
        files.load_tensors(saved)


def test_a_header_that_is_too_long_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "long", "wb") as file:
        file.write((files.MOST_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(2**31)  # which takes no place on the disk
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"long' is not a model file, or is damaged \(its header has 8388609 bytes"):
        files.load_tensors(tmp_path / "long")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_refusal_does_not_repeat_a_long_header_whole(tmp_path):
    (tmp_path / "long").write_bytes(header({"a": {**TENSOR, "dtype": "F" * 100_000}}, bytes(4)))
    with pytest.raises(ValueError, match="is not a model file, or is damaged") as caught:
        files.load_tensors(tmp_path / "long")
    assert len(str(caught.value)) < 1500


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.load_tensors(tmp_path / "none")


def test_a_description_that_json_cannot_hold_leaves_the_old_file(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        files.save_tensors(saved, {}, {"format": object()})
    assert saved.read_bytes() == before
