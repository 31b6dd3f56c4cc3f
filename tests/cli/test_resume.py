"""``xpcnn train --resume``: an interrupted run ends as if it never had been, or is refused with the reason."""

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import FILES, fill, in_every_step, names, picture, same_run, save
from xpcnn import presets
from xpcnn.cli import main, resume
from xpcnn.cli.run_directory import about
from xpcnn.data import folders

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there"),
    pytest.mark.usefixtures("as_in_a_terminal"),
]

ANY_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="names that look alike are one there")
QUICK = ["--epochs", "3", "--batch-size", "4", "--image-size", "16", "--model", "blood"]
#: 21 images to train on: 6 steps an epoch.
STEPS = 18


@contextmanager
def interrupted(after):
    """Let Ctrl-C come in the step that is then the last."""

    def kill(step):
        if step == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        in_every_step(patched, kill)
        yield


@pytest.fixture
def broken_off(run, here):
    """A function that trains and is interrupted after so many steps, in the directory ``run``."""

    def command(*arguments, after=7):
        with interrupted(after):
            done = run("train", *arguments, "--out", "run")
        assert done.code == 130
        assert done.out.endswith("stopped by SIGINT; to resume: xpcnn train --resume run\n")
        return here / "run"

    return command


@pytest.fixture
def cells(here, photos):
    """A copy of the photos, to be changed."""
    shutil.copytree(photos, here / "cells")
    return here / "cells"


@pytest.fixture(scope="session")
def whole(tmp_path_factory, photos):
    """A run on the photos that nothing breaks off."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", str(photos), *QUICK, "--out", str(run)]) == 0
    return run


class TestTheSameEnd:
    @pytest.mark.parametrize("after", range(1, STEPS + 1))
    def test_after_any_step(self, run, here, photos, whole, broken_off, after):
        broken_off(photos, *QUICK, after=after)
        done = run("train", "--resume", "run")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"resuming run after step {after}\n")
        same_run(here / "run", whole)

    @pytest.mark.parametrize(
        "options",
        [
            ["--augment", "microscopy", "--seed", "3", "--gray"],
            ["--validation-fraction", "0", "--test-fraction", "0.3"],
            ["--patience", "1", "--lr", "1e-12", "--epochs", "30"],
            ["--shards", "2", "--lr", "0.01", "--no-plots"],
        ],
        ids=lambda options: options[0],
    )
    def test_whatever_was_asked_for(self, run, here, photos, broken_off, options):
        broken_off(photos, *QUICK, *options)
        assert run("train", "--resume", "run").code == 0
        assert run("train", photos, *QUICK, *options, "--out", "whole").code == 0
        same_run(here / "run", here / "whole")

    def test_one_that_was_resumed_can_be_broken_off_again(self, run, here, photos, whole, broken_off):
        broken_off(photos, *QUICK, after=2)
        for after in (5, 10):
            with interrupted(after):
                assert run("train", "--resume", "run").code == 130
        assert run("train", "--resume", "run").code == 0
        same_run(here / "run", whole)

    def test_the_model_it_began_with_may_be_gone(self, run, here, photos, model, broken_off):
        shutil.copy(model, here / "first.safetensors")
        options = [photos, "--from", "first.safetensors", "--epochs", "3", "--batch-size", "4"]
        assert run("train", *options, "--out", "whole").code == 0
        broken_off(*options)
        (here / "first.safetensors").unlink()
        assert run("train", "--resume", "run").code == 0
        same_run(here / "run", here / "whole")

    def test_from_another_directory_and_with_the_images_elsewhere(self, run, here, cells, broken_off, monkeypatch):
        assert run("train", "cells", *QUICK, "--out", "whole").code == 0
        broken_off("cells", *QUICK)
        (here / "away").mkdir()
        monkeypatch.chdir(here / "away")
        shutil.copytree(here / "run", here / "copy")
        assert run("train", "--resume", "../run").code == 0
        same_run(here / "run", here / "whole", moved=True)
        shutil.move(here / "cells", here / "away" / "moved")
        assert run("train", "moved", "--resume", "../copy").code == 0
        same_run(here / "copy", here / "whole", moved=True)
        monkeypatch.chdir(here)
        assert run("report", "copy").code == 0
        assert "no longer where they were" not in (here / "copy" / "report.html").read_text(encoding="utf-8")

    def test_the_bundled_digits(self, run, here, broken_off):
        options = ["--epochs", "1"]
        broken_off(*options, after=20)
        assert run("train", "--resume", "run", "--threads", "2").code == 0
        assert run("train", *options, "--out", "whole").code == 0
        same_run(here / "run", here / "whole")

    def test_names_that_are_no_utf8(self, run, here, broken_off):
        fill(here / "set", each=6)
        os.rename(here / "set" / "left", os.fsencode(here / "set") + b"/l\xff")
        save(here / "odd.png", np.zeros((9, 9), np.uint8)).rename(os.fsdecode(b"set/right/\xfe\n,.png"))
        broken_off("set", *QUICK, after=3)
        assert run("train", "--resume", "run").code == 0
        assert run("train", "set", *QUICK, "--out", "whole").code == 0
        same_run(here / "run", here / "whole")

    @ANY_BYTES
    def test_names_of_macos_on_another_system(self, run, here, cells, broken_off):
        composed, decomposed = "\u00e9.png", "e\u0301.png"
        (cells / "left").rename(cells / f"left {composed}")
        (cells / "right" / "right 0.png").rename(cells / "right" / f"right 0 {composed}")
        broken_off("cells", *QUICK)
        (cells / f"left {composed}").rename(cells / f"left {decomposed}")
        (cells / "right" / f"right 0 {composed}").rename(cells / "right" / f"right 0 {decomposed}")
        done = run("train", "--resume", "run")
        assert (done.code, done.err) == (0, "")

    def test_a_network_that_its_preset_no_longer_gives(self, run, here, photos, whole, broken_off, monkeypatch):
        broken_off(photos, *QUICK)
        monkeypatch.setitem(presets.PRESETS, "blood", presets.get("tiny"))
        done = run("train", "--resume", "run")
        assert (done.code, done.err) == (0, "")
        same_run(here / "run", whole)

    @ANY_BYTES
    def test_one_that_was_begun_when_classes_were_called_as_their_folders(
        self, run, here, cells, broken_off, monkeypatch
    ):
        (cells / "left").rename(cells / "de\u0301ja\u0300")
        with monkeypatch.context() as before:
            before.setattr(folders, "nfc", lambda name: name)
            broken_off("cells", *QUICK)
        done = run("train", "--resume", "run")
        assert (done.code, done.err) == (0, "")
        assert run("report", "run").code == 0
        report = (here / "run" / "report.html").read_text(encoding="utf-8")
        assert "no longer where they were" not in report


class TestWhenItIsWritten:
    @pytest.mark.parametrize(("every", "kept"), [(["--checkpoint-every", "2"], 8), ([], 6)])
    def test_a_crash_costs_the_steps_since(self, run, here, photos, whole, monkeypatch, every, kept):
        def crash(step):
            if step == 9:
                raise MemoryError

        with monkeypatch.context() as patched:
            in_every_step(patched, crash)
            assert run("train", photos, *QUICK, *every, "--out", "run").code == 1
        done = run("train", "--resume", "run")
        assert done.out.startswith(f"resuming run after step {kept}\n")
        same_run(here / "run", whole)

    @pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "5s", "m", "", "0m", "1e3"])
    def test_steps_or_minutes_and_nothing_else(self, run, here, wrong):
        done = run("train", f"--checkpoint-every={wrong}")
        assert done.code == 2
        assert "expected steps, such as 500, or minutes, such as 10m" in done.err
        assert not list(here.iterdir())

    def test_minutes_are_taken(self, run, here):
        assert run("train", "--epochs", "1", "--checkpoint-every", "5m", "--out", "run").code == 0


class TestFinished:
    def test_a_finished_run_says_so_and_stays_as_it_is(self, run, here, whole):
        shutil.copytree(whole, here / "run")
        before = {path: path.stat().st_mtime_ns for path in (here / "run").iterdir()}
        done = run("train", "--resume", "run")
        figures = os.path.join("run", "metrics.json")
        assert (done.code, done.out, done.err) == (0, f"the run is finished; its metrics: {figures}\n", "")
        assert before == {path: path.stat().st_mtime_ns for path in (here / "run").iterdir()}

    def test_a_finished_run_without_its_checkpoint_is_finished_too(self, run, here, whole):
        shutil.copytree(whole, here / "run")
        (here / "run" / "checkpoint.safetensors").unlink()
        assert run("train", "--resume", "run").out.startswith("the run is finished")

    def test_one_that_was_not_measured_yet_is_measured(self, run, here, whole):
        shutil.copytree(whole, here / "run")
        (here / "run" / "metrics.json").unlink()
        (here / "run" / "best.safetensors").touch()
        assert run("train", "--resume", "run").code == 0
        same_run(here / "run", whole)

    def test_one_without_a_checkpoint_begins_again(self, run, here, whole):
        shutil.copytree(whole, here / "run")
        for name in FILES - {"args.json"}:
            (here / "run" / name).unlink()
        done = run("train", "--resume", "run")
        assert done.code == 0
        assert "going on" not in done.out
        same_run(here / "run", whole)


@pytest.fixture
def refused(refuses, cells, broken_off):
    """A function that asserts that a run on ``cells`` is not resumed, for a reason that is told in one line."""
    broken_off("cells", *QUICK)

    def command(*arguments, words):
        return refuses("train", *arguments, "--resume", "run", words=words)

    return command


class TestWhereThingsAre:
    def test_images_that_were_given_elsewhere_are_found_there_again(self, run, here, cells, broken_off):
        assert run("train", "cells", *QUICK, "--out", "whole").code == 0
        broken_off("cells", *QUICK, after=3)
        (here / "cells").rename(here / "moved")
        with interrupted(after=9):
            assert run("train", "moved", "--resume", "run").code == 130
        assert run("train", "--resume", "run").code == 0
        same_run(here / "run", here / "whole", moved=True)

    def test_a_project_may_move_as_a_whole(self, run, here, cells, broken_off, monkeypatch):
        assert run("train", "cells", *QUICK, "--out", "whole").code == 0
        broken_off("cells", *QUICK)
        (here / "new").mkdir()
        for name in ("cells", "run"):
            (here / name).rename(here / "new" / name)
        monkeypatch.chdir(here / "new")
        assert run("train", "--resume", "run").code == 0
        same_run(here / "new" / "run", here / "whole")

    def test_a_run_does_not_lie_among_the_images(self, refuses, cells):
        refuses("train", "cells", "--out", os.path.join("cells", "run"), words=["is inside the images'", "--out"])


class TestWhatDiffers:
    def test_arguments(self, refused):
        words = ["'run' has other arguments: ", "--epochs was 3, is 4", "--lr was 0.004, is 0.1"]
        refused("--epochs", "4", "--lr", "0.1", words=words)
        refused("--color", "--augment", "light", words=["--color was None, is True", "--augment was shift, is light"])
        refused("--from", "x", words=["--from was None, is x"])

    def test_the_same_arguments_and_those_that_change_nothing_may_be_given(self, run, refused):
        free = ["--threads", "1", "--backend", "numpy", "--checkpoint-every", "3", "--no-plots"]
        assert run("train", "cells", *QUICK, *free, "--resume", "run").code == 0

    def test_images_that_are_gone(self, refused, cells):
        (cells / "left" / "left 0.png").unlink()
        refused(words=["The images are not those of the run 'run': 1 missing, the first 'left/left 0.png'. Restore"])

    def test_images_that_are_new(self, refused, cells):
        save(cells / "left" / "new.png", picture("left", 20, 20, False, 3))
        refused(words=["1 new, the first 'left/new.png'"])

    def test_images_that_have_changed(self, refused, cells):
        save(cells / "left" / "left 0.png", picture("left", 18, 30, True, 99))
        refused(words=["1 changed, the first 'left/left 0.png'."])

    def test_images_that_can_no_longer_be_read(self, refused, cells):
        (cells / "left" / "left 0.png").write_bytes(b"")
        refused(words=["1 missing, the first 'left/left 0.png'"])

    def test_a_class_that_has_another_name(self, refused, cells):
        (cells / "left").rename(cells / "links")
        refused(words=["10 missing, the first 'left/left", "10 new, the first 'links/left"])

    def test_other_data(self, refused, here):
        fill(here / "others", classes=("left", "right"), first_seed=500)
        refused("others", words=["10 missing, the first 'centre/centre", "20 changed"])
        refused("digits", words=["30 missing", "1797 new"])
        refused("nowhere", words=["There is no folder nowhere"])

    def test_a_directory_of_its_own(self, run, here):
        done = run("train", "--resume", "run", "--out", "other")
        assert done.code == 2
        assert "--out has no effect" in done.err


class TestWhatIsNoRun:
    def test_a_folder_without_a_run(self, refuses, here):
        (here / "empty").mkdir()
        (here / "file").write_bytes(b"")
        refuses("train", "--resume", "empty", words=["'empty' does not contain a run to resume. Give one"])
        for name in ("nowhere", "file"):
            refuses("train", "--resume", name, words=[f"{name!r} is not a run's directory"])

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[1]", b"{}", b"\xff", b"[" * 100_000, b'{"working_directory": 3}']
    )
    def test_arguments_that_cannot_be_read(self, refuses, here, content):
        (here / "run").mkdir()
        (here / "run" / "args.json").write_bytes(content)
        refuses("train", "--resume", "run", words=["args.json' ", "Start a new run, without --resume."])

    @pytest.mark.parametrize(
        "values",
        [
            {"help": True},
            {"epochs": -1},
            {"epochs": "many"},
            {"lr": "nan"},
            {"model": "huge"},
            {"exec": "rm"},
            {"seed": [1]},
        ],
        ids=str,
    )
    def test_arguments_that_nobody_can_have_given(self, refuses, here, values):
        (here / "run").mkdir()
        content = {"data": "digits", "epochs": 1, "working_directory": str(here)} | values
        (here / "run" / "args.json").write_text(json.dumps(content))
        refuses("train", "--resume", "run", words=["args.json' does not contain a run's arguments", "Start a new run"])

    @pytest.mark.parametrize("content", [b"", b"half of it"])
    def test_a_damaged_checkpoint(self, refuses, here, photos, broken_off, content):
        run = broken_off(photos, *QUICK)
        whole = (run / "checkpoint.safetensors").read_bytes()
        (run / "checkpoint.safetensors").write_bytes(content and whole[: len(whole) // 2])
        refuses("train", "--resume", "run", words=["checkpoint.safetensors' is no", "damaged", "Remove it"])
        (run / "checkpoint.safetensors").unlink()
        assert main(["train", "--resume", "run"]) == 0

    def test_a_model_in_its_place(self, refuses, here, photos, broken_off):
        run = broken_off(photos, *QUICK)
        shutil.copy(run / "last.safetensors", run / "checkpoint.safetensors")
        refuses("train", "--resume", "run", words=["checkpoint.safetensors' is a model, not a checkpoint"])

    def test_one_that_another_process_writes_into(self, refuses, here, photos, broken_off):
        fcntl = pytest.importorskip("fcntl")
        run = broken_off(photos, *QUICK)
        descriptor = os.open(run, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        refuses("train", "--resume", "run", words=["Another process is writing to the run's directory 'run'"])
        os.close(descriptor)


def test_an_interrupted_run_has_models_all_the_same(photos, broken_off):
    run = broken_off(photos, *QUICK, after=3)
    assert xpcnn.load(run / "last.safetensors").epochs == xpcnn.load(run / "best.safetensors").epochs == 0
    assert names(run) == FILES - {"metrics.json", "history.csv", "predictions.csv", "report.html"}


def test_what_args_json_says_beside_the_arguments_is_no_option_of_a_run_that_is_resumed(model):
    assert {"command", *about(xpcnn.load(model), images=1)} == resume.ABOUT
