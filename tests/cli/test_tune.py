"""``xpcnn tune``: trials within a time, chosen by validation images, and the best of them tested once."""

import json
import math
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from itertools import count

import pytest

import xpcnn
from tests.cli.conftest import FILES, fill, from_here, in_every_step, names, same_run
from xpcnn.cli import main
from xpcnn.cli.study import Study, score
from xpcnn.extras import install_line

optuna = pytest.importorskip("optuna")

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there"),
    pytest.mark.usefixtures("as_in_a_terminal"),
]

QUICK = ["--epochs", "2", "--batch-size", "4", "--image-size", "16", "--validation-fraction", "0.25", "--no-plots"]
#: Leaves the width to search, of which there are four.
WIDTHS = [*QUICK, "--model", "tiny", "--lr", "0.02", "--augment", "none", "--minutes", "10"]
#: Leaves the learning rate and the augmentation.
RATES = [*QUICK, "--model", "blood", "--minutes", "10"]
#: What the directory of a search holds, besides its best trial.
LISTED = {"args.json", "skipped.csv", "trials.sqlite3", "tune.html"}
#: Of a trial: 18 images to train on, in 5 steps an epoch.
STEPS = 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory, photos):
    """A search for a width that nothing interrupts."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["tune", str(photos), *WIDTHS, "--out", str(run)]) == 0
    return run


@pytest.fixture
def six(monkeypatch):
    """Let a search of learning rates end after six trials, none of which is stopped early."""
    monkeypatch.setattr(Study, "is_exhausted", lambda study: len(study.ended()) == 6)
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: False)


@contextmanager
def interrupted(after, number=signal.SIGINT):
    """Let a signal come in the step that is then the last, counted over all trials."""
    steps = count(1)
    with pytest.MonkeyPatch.context() as patched:
        in_every_step(patched, lambda _: next(steps) == after and os.kill(os.getpid(), number))
        yield


def trials(run):
    """The settings, value and state of each trial."""
    study = Study(run / "trials.sqlite3", 0)
    return [(one.user_attrs["settings"], one.value, one.state.name) for one in study.trials]


def best_of(run):
    (best,) = (path for path in run.iterdir() if path.is_dir())
    return best


def same_search(one, other):
    assert trials(one) == trials(other)
    assert (
        names(one) == names(other) == {"args.json", "skipped.csv", "trials.sqlite3", "tune.html", best_of(other).name}
    )
    same_run(best_of(one), best_of(other))


class TestSearch:
    def test_it_tries_every_width_once_and_keeps_the_best(self, whole):
        found = trials(whole)
        assert found[0][0] == {"width": 1.0}
        assert sorted(settings["width"] for settings, _, _ in found) == [0.5, 1.0, 1.5, 2.0]
        best = max(range(4), key=lambda number: found[number][1])
        assert best_of(whole).name == f"trial-{best + 1}"
        assert names(best_of(whole)) == FILES

    def test_its_last_line_repeats_the_best_trial(self, process, here, photos):
        done = process("tune", photos, *WIDTHS, "--out", "run", XPCNN_BACKEND="numpy")
        assert (done.code, done.err) == (0, "")
        *_, told, command = done.out.splitlines()
        assert told == "to repeat the best one:"
        program, *words = shlex.split(command)
        assert program == "xpcnn"
        assert process(*words, "--out", "again", XPCNN_BACKEND="numpy").code == 0
        same_run(here / "again", best_of(here / "run"))

    def test_it_says_what_it_tries_and_finds(self, run, photos):
        lines = run("tune", photos, *WIDTHS, "--out", "run").out.splitlines()
        assert lines[0].startswith(f"30 images in 3 classes, 1 skipped ({os.path.join('run', 'skipped.csv')}): ")
        assert "half.jpg" in xpcnn.files.Path("run", "skipped.csv").read_text(encoding="utf-8")
        assert "trials of 2 epochs, which vary width 0.5, 1, 1.5 or 2" in lines
        assert sum(line.startswith("trial ") for line in lines) == 4
        best = best_of(xpcnn.files.Path("run"))
        accuracy = json.loads((best / "metrics.json").read_text())["test"]["accuracy"]
        assert lines[-6].startswith(f"the best of 4 is trial {best.name[6:]}, width ")
        assert lines[-5].startswith(f"test accuracy {accuracy:.4f} (95 %: ")
        assert lines[-4] == f"model: {best / 'best.safetensors'}"

    def test_the_test_part_is_evaluated_once(self, run, photos, monkeypatch):
        evaluated = []
        evaluate = xpcnn.Sequential.evaluate
        monkeypatch.setattr(
            xpcnn.Sequential,
            "evaluate",
            lambda model, x, *others, **more: evaluated.append(len(x)) or evaluate(model, x, *others, **more),
        )
        assert run("tune", photos, *WIDTHS, "--out", "run").code == 0
        assert evaluated == [6, 6]  # the validation part and the test part of the best

    def test_its_trials_are_what_the_seed_and_the_results_determine(self, run, here, photos, six):
        for out, seed in (("one", 0), ("two", 0), ("other", 1)):
            assert run("tune", photos, *RATES, "--seed", seed, "--out", out).code == 0
        assert trials(here / "one") == trials(here / "two")
        assert [one[0] for one in trials(here / "one")] != [one[0] for one in trials(here / "other")]
        assert trials(here / "one")[0][0] == {"lr": 0.004, "augment": "shift"}

    def test_a_trial_that_diverges_is_one_of_many(self, run, here, photos):
        steps = count(1)

        def diverge(_):
            if next(steps) == STEPS + 3:
                raise FloatingPointError("Step 3: the loss is NaN.")

        with pytest.MonkeyPatch.context() as patched:
            in_every_step(patched, diverge)
            done = run("tune", photos, *WIDTHS, "--out", "run")
        assert (done.code, done.err) == (0, "")
        (line,) = (line for line in done.out.splitlines() if line.startswith("trial 2: width "))
        assert line.endswith(": stopped, its loss became infinite")
        assert [state for _, _, state in trials(here / "run")].count("PRUNED") == 1

    def test_if_all_diverge_it_says_what_to_do(self, run, photos, monkeypatch):
        def diverge(_):
            raise FloatingPointError("Step 3: the loss is NaN.")

        in_every_step(monkeypatch, diverge)
        done = run("tune", photos, *WIDTHS, "--out", "run")
        assert done.code == 1
        assert done.err.startswith("xpcnn tune: None of 4 trials was completed, since their losses became infinite.")
        assert done.err.count("\n") == 1

    def test_a_trial_that_is_worse_than_others_is_stopped(self, run, here, photos, monkeypatch):
        monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 2)
        done = run("tune", photos, *WIDTHS, "--out", "run")
        assert done.code == 0
        (line,) = (line for line in done.out.splitlines() if line.startswith("trial 3"))
        assert line.endswith("stopped, worse than others after epoch 1 of 2")
        assert [state for _, _, state in trials(here / "run")] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]

    def test_it_ends_when_the_time_is_up(self, run, here, photos):
        done = run("tune", photos, *WIDTHS[:-1], "1e-9", "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert len(trials(here / "run")) == 1

    def test_a_trial_that_the_time_runs_out_for_is_stopped(self, run, here, photos, monkeypatch):
        monkeypatch.setattr(Study, "seconds", property(lambda study: 1e6 if len(study.trials) > 2 else 0.0))
        done = run("tune", photos, *WIDTHS, "--out", "run")
        assert done.code == 0
        assert ": stopped, the time is up after epoch 1 of 2\nthe best of 3 is" in done.out

    def test_few_epochs_are_what_little_time_allows(self, run, here, photos):
        options = [*WIDTHS[2:-1], "0.002", "--out", "run"]
        assert run("tune", photos, *options).code == 0
        assert Study(here / "run" / "trials.sqlite3", 0).plan["epochs"] < 120

    def test_pretrained_weights_are_tuned_too(self, run, here, photos, model):
        options = ["--from", model, "--fine-tune", "head", "--epochs", "1", "--lr", "0.01", "--image-size", "16"]
        done = run("tune", photos, *options, "--validation-fraction", "0.25", "--minutes", "10", "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert {settings["augment"] for settings, _, _ in trials(here / "run")} == {"none", "flip", "dihedral"}

    def test_its_page_shows_all_trials(self, whole):
        page = (whole / "tune.html").read_text(encoding="utf-8")
        assert page.count('<th scope="row"') == 4
        assert page.count("<b>best</b>") == 1
        assert "<b>Finished</b>" in page
        assert f"<span>--width={trials(whole)[int(best_of(whole).name[6:]) - 1][0]['width']}</span>" in page


class TestInterrupted:
    @pytest.mark.parametrize("after", [3, STEPS, STEPS + 4, 3 * STEPS + 7])
    def test_it_goes_on_as_if_nothing_had_happened(self, run, here, photos, whole, after):
        with interrupted(after):
            done = run("tune", photos, *WIDTHS, "--out", "run")
        assert (done.code, done.err) == (130, "")
        assert done.out.endswith("stopped by SIGINT; to resume: xpcnn tune --resume run\n")
        assert "<b>Not finished</b>" in (here / "run" / "tune.html").read_text(encoding="utf-8")
        assert run("tune", "--resume", "run").code == 0
        same_search(here / "run", whole)

    def test_it_proposes_what_it_would_have_proposed(self, run, here, photos, six):
        assert run("tune", photos, *RATES, "--out", "whole").code == 0
        for after, options in ((2 * STEPS + 1, [photos, "--out", "run"]), (2 * STEPS, ["--resume", "run"])):
            with interrupted(after):
                assert run("tune", *options, *RATES).code == 130
        assert run("tune", "--resume", "run").code == 0
        assert trials(here / "run") == trials(here / "whole")

    def test_while_an_epoch_is_timed_nothing_is_left(self, run, here, photos):
        with interrupted(1, signal.SIGTERM):
            done = run("tune", photos, *WIDTHS[2:], "--out", "run")
        assert (done.code, done.err) == (143, "xpcnn tune: terminated\n")
        assert names(here) == set()

    def test_after_a_kill(self, here, run, photos, whole):
        line, environment = from_here(["tune", photos, *WIDTHS, "--out", "run"])
        with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as child:
            for out in child.stdout:
                if out.startswith("trial 2"):
                    break
            child.kill()
        assert run("tune", "--resume", "run").code == 0
        same_search(here / "run", whole)

    def test_while_the_best_is_evaluated(self, run, here, photos, whole, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(xpcnn.Sequential, "calibrate", lambda *arguments, **_: os.kill(os.getpid(), signal.SIGINT))
            done = run("tune", photos, *WIDTHS, "--out", "run")
        assert (done.code, done.err) == (130, "xpcnn tune: interrupted; to resume: xpcnn tune --resume run\n")
        assert run("tune", "--resume", "run").code == 0
        same_search(here / "run", whole)

    def test_a_finished_one_only_says_what_it_found(self, run, here, whole):
        shutil.copytree(whole, here / "run")
        done = run("tune", "--resume", "run")
        assert done.code == 0
        assert "\ntrial " not in done.out
        assert "\ntest accuracy" in done.out
        same_search(here / "run", whole)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ([], "--minutes is needed"),
            (["--minutes", "0"], "expected a number above 0, received '0'"),
            (["--minutes", "-1"], "expected a number above 0, received '-1'"),
            (["--minutes", "ten"], "expected a number above 0, received 'ten'"),
            (["--minutes", "1", "--validation-fraction", "0"], "compared on validation images"),
            (["--minutes", "1", "--folds", "3"], "unrecognized arguments: --folds"),
            (["--minutes", "1", "--distributed"], "unrecognized arguments: --distributed"),
            (["--minutes", "1", "--width", "2", "--model", "lenet"], "--width is for small, medium, tiny"),
            (["--resume", "run", "--out", "other"], "--out has no effect"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage(self, refuses, photos, options, word):
        refuses("tune", photos, *options, words=[word], code=2)

    def test_nothing_to_search(self, run, here, photos):
        done = run("tune", photos, *WIDTHS, "--width", "1", "--out", "run")
        assert done.code == 2
        assert "all settings that a search varies are given" in done.err
        assert names(here) == set()

    @pytest.mark.parametrize(
        ("count", "rank"), [("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")]
    )
    def test_several_processes(self, refuses, run, photos, monkeypatch, count, rank):
        monkeypatch.setenv(count, "4")
        monkeypatch.setenv(rank, "0")
        refuses("tune", photos, "--minutes", "1", words=["for one process, received 4; omit mpiexec"], code=2)
        monkeypatch.setenv(rank, "1")
        assert vars(run("tune", photos, "--minutes", "1")) == {"code": 2, "out": "", "err": ""}

    def test_one_class(self, run, here):
        fill(here / "set", classes=["left"])
        done = run("tune", "set", *WIDTHS)
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert done.err.startswith("xpcnn tune: ")
        assert names(here) == {"set"}

    def test_too_few_images_to_validate(self, run, here):
        fill(here / "set", each=2)
        done = run("tune", "set", "--minutes", "1", "--validation-fraction", "0.01")
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert done.err.startswith("xpcnn tune: ")
        assert names(here) == {"set"}

    def test_no_optuna(self, refuses, photos, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        refuses("tune", photos, "--minutes", "1", words=["needs optuna", install_line("tune")])

    def test_a_run_of_another_command(self, run, whole, trained):
        for command, place in (("tune", trained), ("train", whole)):
            done = run(command, "--resume", place)
            assert done.code == 1
            assert done.err.count("\n") == 1
            other = "train" if command == "tune" else "tune"
            assert f"is a run of `xpcnn {other}`. Resume it: xpcnn {other} --resume " in done.err
        for done in (run("report", whole), run("compare", whole, trained)):
            assert done.code == 1
            assert f"has the trials of `xpcnn tune`. Give the best one, such as {str(best_of(whole))!r}." in done.err

    def test_no_run_at_all(self, refuses, here):
        refuses("tune", "--resume", "run", words=["'run' is not a run's directory", "`xpcnn tune`"])

    def test_other_arguments_on_resuming(self, run, whole):
        done = run("tune", "--resume", whole, "--minutes", "20")
        assert done.code == 1
        assert "--minutes was 10.0, is 20.0" in done.err

    @pytest.mark.parametrize("begun", [True, False])
    def test_other_images_on_resuming(self, run, here, photos, begun):
        shutil.copytree(photos, here / "cells")
        with interrupted(STEPS + 3):
            assert run("tune", "cells", *WIDTHS, "--out", "run").code == 130
        if not begun:  # as if it had ended between two trials
            shutil.rmtree(here / "run" / "trial-2")
        shutil.copy(here / "cells" / "left" / "left 0.png", here / "cells" / "right" / "more.png")
        done = run("tune", "--resume", "run")
        assert done.code == 1
        assert done.err.count("\n") == 1
        run_of_it = os.path.join("run", "trial-2")
        expected = f"of the run {run_of_it!r}: 1 new, the first" if begun else "that the run 'run' began with."
        assert f"The images are not those {expected}" in done.err

    @pytest.mark.parametrize(
        "how", ["cut off", "overwritten", "empty", "of something else", "without a plan", "of zeros"]
    )
    def test_a_damaged_file_of_trials(self, run, here, whole, how):
        shutil.copytree(whole, here / "run")
        path = here / "run" / "trials.sqlite3"
        content = path.read_bytes()
        if how in ("of something else", "without a plan"):
            if how == "of something else":
                path.unlink()
            with sqlite3.connect(path) as connection:
                connection.execute(
                    "CREATE TABLE a (b)" if how == "of something else" else "DELETE FROM study_user_attributes"
                )
        else:
            path.write_bytes(
                {
                    "cut off": content[: len(content) // 2],
                    "overwritten": b"no " * 9999,
                    "of zeros": content[:-4096] + bytes(4096),
                    "empty": b"",
                }[how]
            )
        done = run("tune", "--resume", "run")
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert done.err.startswith(f"xpcnn tune: '{os.path.join('run', 'trials.sqlite3')}' cannot be used (")
        assert done.err.endswith("Start a new run, without --resume.\n")


def test_the_score_counts_images_first():
    assert score(0.9, 5.0, 10) > score(0.8, 0.0, 10)
    assert score(0.8, 0.1, 10) > score(0.8, 0.2, 10) > score(0.8, math.inf, 10) > score(0.7, 0.0, 10)
