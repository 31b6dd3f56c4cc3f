"""What happens to a run whose disk is full, gone or read-only."""

import os
import resource
import shutil
import subprocess

import pytest

import xpcnn as package
from tests.faults.conftest import DIGITS, assert_whole, finish, resumed, start, wait_for, xpcnn
from xpcnn.training import checkpoints


def limited(size):
    """Let no file of a child grow beyond so many bytes, as a quota does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(
    ("size", "unwritten"),
    [
        pytest.param(100, "args.json", marks=pytest.mark.slow),
        pytest.param(5_000, "parts.csv", marks=pytest.mark.slow),
        pytest.param(25_000, ".safetensors", marks=pytest.mark.slow),
        (100_000, "checkpoint.safetensors"),
    ],
)
def test_a_file_that_cannot_be_written_ends_the_run_in_one_line(tmp_path, tally, expected, size, unwritten):
    run = tmp_path / "run"
    with tally.case("no room for " + unwritten) as case:
        done = xpcnn("train", *DIGITS, "--out", run, cwd=tmp_path, preexec_fn=limited(size))
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert "File too large" in done.err
        assert unwritten in done.err
        case.refused()
        run.mkdir(exist_ok=True)
        assert_whole(run)
        assert resumed(run) == expected


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB: room for the files of an epoch, and not for another checkpoint beside them."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here; limits on the size of files are tested all the same")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_there_and_the_run_can_go_on(tmp_path, small_disk, tally, expected):
    run = small_disk / "run"
    with tally.case("a full disk") as case:
        done = xpcnn("train", *DIGITS, "--out", run, cwd=tmp_path)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "No space left on device" in done.err
        assert str(run) in done.err
        case.refused()
        assert not [name for name in os.listdir(run) if name.endswith(".part")]
        assert_whole(run)
        shutil.copytree(run, tmp_path / "run")
        assert resumed(tmp_path / "run") == expected


def test_a_directory_beneath_a_file_is_refused_before_anything_is_done(tmp_path, tally):
    (tmp_path / "file").write_text("a file")
    with tally.case("a directory that cannot be made") as case:
        done = xpcnn("train", *DIGITS, "--out", "file/run", cwd=tmp_path)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "'file/run' cannot be created: Not a directory. Give another with --out" in done.err
        case.refused()
    assert os.listdir(tmp_path) == ["file"]


def test_a_directory_that_vanishes_ends_the_run_in_one_line(tmp_path, tally):
    run = tmp_path / "run"
    with tally.case("a directory that vanishes") as case:
        child = start("train", *DIGITS, "--epochs", "100000", "--out", run, cwd=tmp_path)
        wait_for(run / checkpoints.NAME, child)
        run.rename(tmp_path / "away")  # at once, as no removal of many files is
        done = finish(child)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "No such file or directory" in done.err
        assert str(run) in done.err
        case.refused()
    assert os.listdir(tmp_path) == ["away"]
    assert_whole(tmp_path / "away")


@pytest.mark.slow
def test_a_model_that_may_only_be_read_is_used_and_never_written(tmp_path, tally):
    assert xpcnn("train", *DIGITS, "--out", "run", cwd=tmp_path).code == 0
    model = tmp_path / "run" / "best.safetensors"
    model.chmod(0o444)
    before = model.read_bytes()
    with tally.case("a read-only model is used"):
        assert xpcnn("evaluate", model, "digits", cwd=tmp_path).code == 0
        assert xpcnn("train", "--epochs", "1", "--from", model, "--out", "again", cwd=tmp_path).code == 0
    with tally.case("a read-only model is not written") as case:
        with pytest.raises(PermissionError, match="read-only"):
            package.load(model).save(model)
        (tmp_path / "run" / "metrics.json").unlink()
        (tmp_path / "run" / checkpoints.NAME).unlink()
        done = xpcnn("train", "--resume", "run", cwd=tmp_path)
        assert (done.code, done.err) == (1, "xpcnn train: The file is read-only: 'run/best.safetensors'\n")
        case.refused()
    assert model.read_bytes() == before
