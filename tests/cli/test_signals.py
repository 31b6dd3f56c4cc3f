"""Ctrl-C and SIGTERM: what was learned is saved, and no file is left half written."""

import os
import signal
import subprocess
import sys

import pytest

import xpcnn
from tests.cli.conftest import from_here, in_every_step
from xpcnn.cli import datasets

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there"),
    pytest.mark.usefixtures("as_in_a_terminal"),
]

BOTH = pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)


def arriving(monkeypatch, numbers):
    """Let signals arrive, one a step, in the third and the following steps."""
    waiting = list(numbers)

    def kill(step):
        if step >= 3 and waiting:
            os.kill(os.getpid(), waiting.pop(0))

    in_every_step(monkeypatch, kill)


@BOTH
def test_a_process_that_trains_saves_and_ends(here, number, code, word):
    line, environment = from_here(["train", "digits", "--epochs", "100000"])
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        for out in child.stdout:
            if out.startswith("epoch 2/"):
                break
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (code, "")
    last = os.path.join("runs", "train", "last.safetensors")
    assert out.splitlines()[-1] == f"stopped by {number.name}; to resume: xpcnn train --resume {os.path.dirname(last)}"
    assert xpcnn.load(last).epochs >= 2
    assert xpcnn.load(os.path.join("runs", "train", "best.safetensors")).epochs >= 1
    assert not os.path.exists(os.path.join("runs", "train", "metrics.json"))


def test_a_process_whose_output_nobody_reads_any_more_says_how_to_go_on(here):
    line, environment = from_here(["train", "digits", "--epochs", "100000"])
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not child.stdout.readline().startswith("epoch 1/"):
            pass
        child.stdout.close()
        code, err = child.wait(timeout=60), child.stderr.read()
    run = os.path.join("runs", "train")
    expected = f"nothing reads the output any more, so the run has stopped; to resume: xpcnn train --resume {run}"
    assert (code, err) == (1, f"xpcnn train: {expected}\n")


@BOTH
def test_the_first_epoch_is_enough_to_have_a_model(run, monkeypatch, number, code, word):
    arriving(monkeypatch, [number])
    done = run("train", "--model", "tiny", "--out", "run")
    assert (done.code, done.err) == (code, "")
    last, best = (xpcnn.load(f"run/{name}.safetensors") for name in ("last", "best"))
    assert last.epochs == best.epochs == 0
    start = xpcnn.load("run/last.safetensors").build().host_values()
    assert any((start[name] != weight).any() for name, weight in last.get_weights().items())


@BOTH
def test_a_second_one_does_not_wait(run, monkeypatch, number, code, word):
    def twice(step):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        raise AssertionError("the step went on")

    in_every_step(monkeypatch, twice)
    done = run("train", "--model", "tiny", "--out", "run")
    assert (done.code, done.err) == (code, f"xpcnn train: {word}; to resume: xpcnn train --resume run\n")
    assert xpcnn.load("run/last.safetensors").epochs == 0


def test_another_one_after_ctrl_c_does_not_wait_either(run, monkeypatch):
    def both(step):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the step went on")

    in_every_step(monkeypatch, both)
    done = run("train", "--model", "tiny", "--out", "my run")
    assert (done.code, done.err) == (143, "xpcnn train: terminated; to resume: xpcnn train --resume 'my run'\n")


@BOTH
def test_a_run_that_is_stopped_while_it_is_measured_can_go_on(run, monkeypatch, number, code, word):
    with monkeypatch.context() as patch:
        patch.setattr(xpcnn.Sequential, "calibrate", lambda *arguments, **_: os.kill(os.getpid(), number))
        done = run("train", "--model", "tiny", "--epochs", "1", "--out", "run")
    assert (done.code, done.err) == (code, f"xpcnn train: {word}; to resume: xpcnn train --resume run\n")
    assert "test accuracy" in run("train", "--resume", "run").out


@BOTH
def test_a_run_that_is_stopped_while_it_is_resumed_can_go_on(run, monkeypatch, number, code, word):
    arriving(monkeypatch, [number])
    assert run("train", "--model", "tiny", "--out", "run").code == code
    monkeypatch.setattr(datasets, "load_data", lambda *arguments, **_: os.kill(os.getpid(), number))
    done = run("train", "--resume", "run")
    assert (done.code, done.err) == (code, f"xpcnn train: {word}; to resume: xpcnn train --resume run\n")


@BOTH
def test_before_the_first_step_nothing_is_left(run, here, monkeypatch, number, code, word):
    def load_data(*arguments, **_):
        os.kill(os.getpid(), number)
        raise AssertionError("the command went on")

    monkeypatch.setattr(datasets, "load_data", load_data)
    done = run("train", "--model", "tiny", "--out", os.path.join("a", "run"))
    assert (done.code, done.out, done.err) == (code, "", f"xpcnn train: {word}\n")
    assert not list(here.iterdir())


@BOTH
def test_a_prediction_leaves_the_earlier_answers(run, here, model, monkeypatch, number, code, word):
    (here / "answers.csv").write_text("earlier")
    monkeypatch.setattr("xpcnn.model.prediction.read_images", lambda *arguments, **_: os.kill(os.getpid(), number))
    done = run("predict", model, "1.png", "-o", "answers.csv")
    assert (done.code, done.err) == (code, f"xpcnn predict: {word}\n")
    assert [path.name for path in here.iterdir()] == ["answers.csv"]
    assert (here / "answers.csv").read_text() == "earlier"


def test_afterwards_signals_do_what_they_did_before(run, monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run("train", "--model", "tiny", "--epochs", "1", "--out", "whole").code == 0
    arriving(monkeypatch, [signal.SIGINT])
    assert run("train", "--model", "tiny", "--out", "stopped").code == 130
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
