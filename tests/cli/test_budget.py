"""``xpcnn train --minutes``: the epochs that fit, fixed before the first step."""

import json
import os
import re
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cli.conftest import FILES, in_every_step, names
from xpcnn import backend
from xpcnn.cli import budget
from xpcnn.cli.budget import Budget, Estimate, Times
from xpcnn.communicator import ALONE, Communicator
from xpcnn.data import Split
from xpcnn.training.features import FrozenPart

QUICK = ["--image-size", "8", "--model", "tiny", "--batch-size", "4"]
SHORT = ["--minutes", "0.02"]


def arguments_of(run):
    return json.loads((run / "args.json").read_text(encoding="utf-8"))


def same_results(one, other):
    for name in ("best.safetensors", "last.safetensors", "metrics.json", "parts.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture
def three(monkeypatch):
    """Let three epochs fit, whatever was timed; the list says how often that was asked."""
    asked = []
    monkeypatch.setattr(Estimate, "epochs", lambda estimate, seconds: asked.append(estimate) or 3)
    return asked


class TestRun:
    @pytest.mark.parametrize(
        "options", [[], ["--validation-fraction", "0", "--average"], ["--test-fraction", "0", "--patience", "50"]]
    )
    def test_it_is_the_run_of_the_epochs_that_it_prints_and_records(self, run, here, photos, options):
        done = run("train", photos, *QUICK, *options, *SHORT, "--out", "timed")
        assert (done.code, done.err) == (0, "")
        epochs = re.search(r"\nepochs that fit into 0\.02 minutes: .*; --epochs (\d+) in place of", done.out)[1]
        assert names(here / "timed") == FILES - ({"predictions.csv"} if "--test-fraction" in options else set())
        recorded = arguments_of(here / "timed")
        assert (recorded["minutes"], recorded["epochs"]) == (0.02, int(epochs))
        assert run("train", photos, *QUICK, *options, "--epochs", epochs, "--out", "repeated").code == 0
        same_results(here / "timed", here / "repeated")
        assert arguments_of(here / "repeated")["epochs"] == int(epochs)

    def test_so_is_one_that_starts_from_a_model(self, run, here, photos, model, three):
        options = ["--from", model, "--fine-tune", "all", "--batch-size", "4"]
        assert run("train", photos, *options, *SHORT, "--out", "timed").code == 0
        assert run("train", photos, *options, "--epochs", "3", "--out", "repeated").code == 0
        same_results(here / "timed", here / "repeated")

    def test_the_report_says_which_epochs_repeat_it(self, run, here, photos, three):
        assert run("train", photos, *QUICK, *SHORT, "--out", "timed").code == 0
        report = (here / "timed" / "report.html").read_text(encoding="utf-8")
        assert "<span>--epochs=3</span>" in report
        assert "<span>--minutes" not in report
        assert "<dt><bdi>minutes</bdi></dt>" in report

    def test_too_little_time_is_told_and_one_epoch_is_trained(self, run, here, photos):
        done = run("train", photos, *QUICK, "--minutes", "1e-9", "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert "epochs that fit into 1e-09 minutes: not even one of " in done.out
        assert "; --epochs 1 in place of --minutes repeats this run\n" in done.out
        assert arguments_of(here / "run")["epochs"] == 1

    def test_ctrl_c_while_epochs_are_timed_leaves_a_run_that_times_them_again(self, run, here, photos, monkeypatch):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with monkeypatch.context() as patch:
            in_every_step(patch, lambda step: os.kill(os.getpid(), signal.SIGINT))
            done = run("train", photos, *QUICK, *SHORT, "--out", "run")
        signal.signal(signal.SIGINT, before)
        assert (done.code, done.err) == (130, "xpcnn train: interrupted; to resume: xpcnn train --resume run\n")
        assert arguments_of(here / "run").get("epochs") is None
        assert not [path for path in (here / "run").iterdir() if path.is_dir()]
        assert run("train", "--resume", "run").code == 0
        assert arguments_of(here / "run")["epochs"] >= 1


class TestResumed:
    def test_it_keeps_the_epochs(self, run, here, photos, three, monkeypatch):
        with monkeypatch.context() as patch:
            in_every_step(patch, lambda step: 1 / 0 if three and step == 7 else None)  # in the second epoch
            assert run("train", photos, *QUICK, *SHORT, "--out", "run").code == 1
        monkeypatch.setattr(Budget, "epochs", lambda budget: pytest.fail("timed again"))
        done = run("train", "--resume", "run")
        assert done.code == 0
        assert "epoch 3/3" in done.out
        recorded = arguments_of(here / "run")
        assert (recorded["minutes"], recorded["epochs"]) == (0.02, 3)
        assert run("train", photos, *QUICK, "--epochs", "3", "--out", "whole").code == 0
        same_results(here / "run", here / "whole")

    def test_other_minutes_are_refused(self, run, refuses, photos, three):
        assert run("train", photos, *QUICK, *SHORT, "--out", "run").code == 0
        refuses("train", "--resume", "run", "--minutes", "5", words=["--minutes was 0.02, is 5.0"])


class TestRefusals:
    @pytest.mark.parametrize("wrong", ["0", "-1", "ten", "", "inf", "nan", "10m"])
    def test_what_is_no_number_above_0(self, refuses, wrong):
        refuses("train", f"--minutes={wrong}", code=2, words=["--minutes", "a number above 0", repr(wrong)])

    @pytest.mark.parametrize("options", [[], ["--resume", "run"]])
    def test_epochs_too(self, refuses, options):
        refuses("train", *options, "--minutes", "1", "--epochs", "2", code=2, words=["--minutes", "omit --epochs"])


def budget_of(rehearse, minutes=1.0, xps=(np,), at=10**9, communicator=ALONE, views=0, kept=True, test_augment=None):
    """A budget that began just now, for 1000 images, of a network that the last module computes from ``at`` on."""
    images, held = 1000, 100
    network = SimpleNamespace(for_run=lambda count, training: xps[0] if count < at else xps[-1])
    split = Split(np.arange(images), np.arange(held), np.arange(held))
    given = SimpleNamespace(minutes=minutes, batch_size=10, test_augment=test_augment)
    return Budget(given, time.monotonic(), network, split, rehearse, communicator, views, kept)


def rehearsed(step=0.1, image=0.0, save=0.0, start=0.0, features=0.0, measure=0.0, first=0.0, views=1, asked=None):
    """A function that gives the times of fits without fitting: of a step, of predicting an image, …"""

    def rehearse(xp, split, planned, to_the_end):
        if asked is not None:
            asked.append((xp.__name__, len(split.train), len(split.validation), to_the_end))
        once = np.array([first, 0.0, 0.0, 0.0])
        train = once + step * -(-len(split.train) // 10)
        validate = 0 * once + image * len(split.validation)
        computed = views * len(split.train) + len(split.validation)
        return Times(start + features * computed, train, validate, 0 * once + save, measure)

    return rehearse


class TestEstimates:
    """A minute leaves 55.2 s: 3 % are for the report, 5 % for what is not foreseen."""

    @pytest.mark.parametrize(
        ("times", "epochs"),
        [
            ({"step": 0.1}, 5),  # 100 steps: 10 s
            ({"step": 0.0103}, 53),
            ({"step": 0.01, "save": 1.0}, 27),  # 2 s
            ({"step": 0.01, "image": 0.02}, 17),  # 3 s, and 2 s for predictions at the end
            ({"step": 0.01, "measure": 9.7}, 45),
            ({"step": 0.01, "first": 5.0, "start": 4.7}, 45),
            ({"step": 0.1, "measure": 50.0}, 1),
        ],
    )  # fmt: skip
    def test_all_that_takes_time_is_counted(self, times, epochs, capsys):
        assert budget_of(rehearsed(**times)).epochs() == epochs
        assert f"--epochs {epochs} in place" in capsys.readouterr().out

    def test_the_time_that_has_passed_is_counted(self):
        whole = budget_of(rehearsed())
        half = Budget(**{**vars(whole), "started": time.monotonic() - 30})
        assert (whole.epochs(), half.epochs()) == (5, 2)

    def test_what_frozen_layers_compute_once_grows_with_the_images(self):
        asked = []
        times = rehearsed(step=0.01, features=0.01, asked=asked)  # 11 s for all, and 3.5 s for predictions at the end
        assert budget_of(times).epochs() == 47
        assert budget_of(times, views=1).epochs() == 40
        counts = [count for _, count, *_ in asked]
        assert counts[1] > 700
        assert counts[3] == 120  # 1.3 s for these, and 0.48 s of steps

    def test_what_is_computed_once_counts_if_a_single_batch_of_it_takes_long(self):
        asked = []
        times = rehearsed(step=0.01, features=0.16, asked=asked)  # 176 s in all, though an epoch takes 1 s
        assert budget_of(times, views=1).epochs() == 1
        assert [count for _, count, *_ in asked] == [10, 10]

    @pytest.mark.parametrize(
        ("minutes", "epochs"),
        [
            (1.0, 46),  # 8.1 s once, then 1 s an epoch, not 2
            (0.25, 6),  # 5.4 s would be left, and 8 epochs are needed
            (0.295, 7),  # in 8 epochs of 2 s all views would be computed once, for which 7.8 s would be left
        ],
    )
    def test_views_are_computed_once_if_there_are_as_many_epochs(self, minutes, epochs):
        def rehearse(xp, split, planned, to_the_end):
            anew, once = rehearsed(step=0.02), rehearsed(step=0.01, features=0.001, views=8)
            return (once if planned >= 8 else anew)(xp, split, planned, to_the_end)

        assert budget_of(rehearse, minutes, views=8).epochs() == epochs

    @pytest.mark.parametrize(
        ("views", "epochs"),
        [
            (1, 4),  # of 1 s, and 11 s for the features of all images, which those of a sample took once
            (8, 27),  # of 2 s, as in a fit of too few epochs
        ],
    )
    def test_features_that_do_not_fit_in_memory_take_time_in_every_epoch(self, views, epochs):
        def rehearse(xp, split, planned, to_the_end):
            anew, once = rehearsed(step=0.02), rehearsed(step=0.01, features=0.01, views=views)
            return (once if planned >= views else anew)(xp, split, planned, to_the_end)

        assert budget_of(rehearse, views=views, kept=False).epochs() == epochs

    def test_predictions_averaged_over_views_take_longer(self):
        times = rehearsed(step=0.1, image=0.01)
        assert budget_of(times).epochs() == 4  # 11 s, and 4 s in the end
        assert budget_of(times, test_augment=True).epochs() == 2  # 22 s

    def test_what_is_timed_takes_a_small_part_of_the_minutes(self):
        asked = []
        budget_of(rehearsed(step=0.1, asked=asked)).epochs()
        assert asked == [("numpy", 10, 10, False), ("numpy", 70, 10, True)]  # 4 epochs of 7 steps: 2.8 s

    def test_if_not_even_one_epoch_fits_no_more_is_timed(self, capsys):
        asked = []
        assert budget_of(rehearsed(step=1.0, asked=asked)).epochs() == 1
        assert [to_the_end for *_, to_the_end in asked] == [False]
        assert "not even one of 1e+02 s" in capsys.readouterr().out


class TestBackends:
    """The backend ``auto`` computes long runs by compiled kernels, so that is what times them."""

    COMPILED = SimpleNamespace(__name__="numba")

    def rehearse(self, numpy, numba):
        by = {"numpy": rehearsed(step=numpy), "numba": rehearsed(step=numba)}
        return lambda xp, *others: by[xp.__name__](xp, *others)

    @pytest.mark.parametrize(
        ("at", "epochs"),
        [
            (6000, 5),  # more than fit: NumPy's time
            (5000, 27),  # as many as fit: that of the kernels
            (500, 27),  # one epoch
        ],
    )
    def test_a_run_is_timed_on_the_one_that_will_compute_it(self, at, epochs):
        assert budget_of(self.rehearse(0.1, 0.02), xps=(np, self.COMPILED), at=at).epochs() == epochs

    def test_kernels_that_are_no_faster_shorten_the_run_to_one_that_numpy_computes(self):
        assert budget_of(self.rehearse(0.1, 0.2), xps=(np, self.COMPILED), at=5000).epochs() == 2


def test_all_ranks_do_what_the_first_one_finds():
    told = []

    class First(Communicator):
        def broadcast(self, value):
            told.append(value)
            return value

    class Second(Communicator):
        rank, size = 1, 2

        def broadcast(self, value):
            return told.pop(0)

    first = budget_of(rehearsed(step=0.1), communicator=First()).epochs()
    asked = []
    slow = budget_of(rehearsed(step=0.3, asked=asked), communicator=Second())
    assert slow.epochs() == first == 5
    assert asked[-1][1] == 70
    assert told == []


ON_THE_HOST = pytest.mark.skipif(not backend.is_host(backend.choose().xp), reason="a device's memory is its own")


@ON_THE_HOST
def test_steps_are_timed_on_the_features_of_as_many_views_as_the_run_will_have(run, here, photos, model, monkeypatch):
    computed, compute, fits, times = [], FrozenPart.compute, [], budget.Clock.times
    monkeypatch.setattr(Estimate, "epochs", lambda estimate, seconds: 9)
    monkeypatch.setattr(
        FrozenPart, "compute", lambda part, *given: computed.append(len(part.views)) or compute(part, *given)
    )
    monkeypatch.setattr(
        budget.Clock, "times", lambda clock, measure: fits.append(len(computed)) or times(clock, measure)
    )
    options = ["--from", model, "--fine-tune", "head", "--augment", "dihedral", "--batch-size", "4"]
    assert run("train", photos, *options, "--minutes", "10", "--out", "timed").code == 0
    assert fits == [1, 2]  # once for each timed fit, and again for the run
    assert computed == [8, 8, 8]
    assert len((here / "timed" / "history.csv").read_text(encoding="utf-8").splitlines()) == 1 + 9


@ON_THE_HOST
def test_the_clock_adds_up(run, photos, monkeypatch):
    found = []
    times = budget.Clock.times
    monkeypatch.setattr(budget.Clock, "times", lambda clock, measure: found.append(times(clock, measure)) or found[-1])
    begun = time.monotonic()
    assert run("train", photos, *QUICK, *SHORT, "--out", "run").code == 0
    elapsed = time.monotonic() - begun
    for one in found:
        assert all(len(each) == budget.TIMED and (each >= 0).all() for each in (one.train, one.validate, one.save))
    assert sum(t.start + t.train.sum() + t.validate.sum() + t.save.sum() + t.measure for t in found) < elapsed
