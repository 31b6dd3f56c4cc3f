"""``xpcnn train --folds K``: K runs, which together test every image once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import FILES, fill, from_here, in_every_step, names, picture, rows, same_run, save
from xpcnn import metrics
from xpcnn.cli import datasets, folds, main
from xpcnn.cli.parts import split_data
from xpcnn.data import Normalized, load_folder, reading
from xpcnn.model import file

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there"),
    pytest.mark.usefixtures("as_in_a_terminal"),
]

QUICK = ["--epochs", "2", "--batch-size", "4", "--image-size", "16", "--model", "blood"]
FOLDS = ["fold-1", "fold-2", "fold-3"]
#: What is written when all folds are finished.
TOGETHER = ["folds.json", "ensemble.safetensors"]
#: Of a fold: 18 images to train on at most, in 5 steps an epoch.
STEPS = 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory, photos):
    """Three folds of the photos that nothing interrupts."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", str(photos), *QUICK, "--folds", "3", "--out", str(run)]) == 0
    return run


@contextmanager
def interrupted(after):
    """Let Ctrl-C come in the step that is then the last, counted over all folds."""
    steps = count(1)

    def kill(_):
        if next(steps) == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        in_every_step(patched, kill)
        yield


@pytest.fixture
def broken_off(run, here, photos):
    """A function that starts three folds and interrupts them after so many steps, in the directory ``run``."""

    def command(after):
        with interrupted(after):
            done = run("train", photos, *QUICK, "--folds", "3", "--out", "run")
        assert done.code == 130
        assert done.out.endswith("stopped by SIGINT; to resume: xpcnn train --resume run\n")
        assert not (here / "run" / "folds.json").exists()

    return command


def same_folds(one, other):
    assert names(one) == names(other) == {"args.json", *TOGETHER, *FOLDS}
    for name in TOGETHER:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    for fold in FOLDS:
        same_run(one / fold, other / fold)


class TestWhatTheyFind:
    def test_every_image_is_tested_in_one_fold(self, whole):
        assert [names(whole / fold) for fold in FOLDS] == [FILES] * 3
        parts = [rows(whole / fold / "parts.csv") for fold in FOLDS]
        tested = [row["image"] for part in parts for row in part if row["part"] == "test"]
        assert len(tested) == 30
        assert set(tested) == {row["image"] for row in parts[0]} == {row["image"] for row in parts[2]}
        for part in parts:
            assert {row["class"] for row in part if row["part"] == "test"} == {"centre", "left", "right"}

    def test_all_predictions_together(self, whole):
        predictions = [row for fold in FOLDS for row in rows(whole / fold / "predictions.csv")]
        right = sum(row["class"] == row["predicted"] for row in predictions)
        found = json.loads((whole / "folds.json").read_text())
        assert (found["folds"], found["images"]) == (3, 30)
        assert found["accuracy"] == right / 30
        assert found["accuracy_95"] == list(metrics.wilson_interval(right, 30))

    def test_the_mean_and_the_range_of_the_folds(self, whole):
        accuracies = [json.loads((whole / fold / "metrics.json").read_text())["test"]["accuracy"] for fold in FOLDS]
        found = json.loads((whole / "folds.json").read_text())
        assert found["accuracies"] == accuracies
        assert found["mean_accuracy"] == pytest.approx(sum(accuracies) / 3)
        assert found["range"] == [min(accuracies), max(accuracies)]

    def test_one_line_says_so_at_the_end(self, process, here, photos, whole):
        done = process("train", photos, *QUICK, "--folds", "3", "--out", "run", "--backend", "numpy")
        assert done.code == 0
        assert [line for line in done.out.splitlines() if line.startswith("fold ")] == [
            f"fold {number} of 3: {os.path.join('run', f'fold-{number}')}" for number in (1, 2, 3)
        ]
        found = json.loads((here / "run" / "folds.json").read_text())
        low, high = found["range"]
        start, end = found["accuracy_95"]
        assert done.out.splitlines()[-2] == (
            f"3 folds: mean accuracy {found['mean_accuracy']:.4f} (lowest and highest: {low:.4f} to {high:.4f}); "
            f"all 30 images: {found['accuracy']:.4f} (95 %: {start:.4f} to {end:.4f})"
        )

    def test_a_group_is_tested_whole(self, run, here, photos):
        done = run("train", photos, *QUICK, "--folds", "2", "--group-by", r"([0-9]|half)[.]", "--out", "run")
        assert done.code == 0
        tested = [
            {row["image"][-5] for row in rows(here / "run" / fold / "parts.csv") if row["part"] == "test"}
            for fold in ("fold-1", "fold-2")
        ]
        assert sorted(map(len, tested)) == [5, 5]
        assert not set.intersection(*tested)

    def test_copies_are_tested_together(self, run, here):
        fill(here / "set", each=6)
        for number in range(4):
            shutil.copy(here / "set" / "left" / "left 0.png", here / "set" / "left" / f"copy {number}.png")
        assert run("train", "set", *QUICK, "--folds", "2", "--out", "run").code == 0
        parts = {
            row["part"]
            for row in rows(here / "run" / "fold-1" / "parts.csv")
            if os.path.basename(row["image"]) == "left 0.png" or "copy" in row["image"]
        }
        assert len(parts) == 1

    def test_the_minutes_are_shared(self):
        assert folds.of_fold({"minutes": 3.0}, 2, 4) == {"minutes": 0.75, "folds": 4, "fold": 2}


def probabilities(path):
    """The probabilities in a table that predict wrote, without those of unreadable images."""
    readable = (row for row in rows(path) if not row["error"])
    return np.array([[float(value) for name, value in row.items() if name.startswith("p:")] for row in readable])


class TestEnsemble:
    """The model of all folds together, wherever models are taken."""

    def test_predict_gives_the_mean_of_the_folds(self, run, here, photos, whole):
        found = []
        for place in [*FOLDS, "."]:
            model = whole / place / ("ensemble" if place == "." else "best")
            done = run("predict", f"{model}.safetensors", photos / "left", "--format", "csv", "-o", "answers.csv")
            assert done.code == 0
            found.append(probabilities(here / "answers.csv"))
        *folds, together = found
        assert len({each.tobytes() for each in folds}) == 3
        np.testing.assert_allclose(together, np.mean(folds, axis=0), atol=1.1e-6)  # of six digits each

    def test_all_folds_are_calibrated_and_normalise_in_their_own_way(self, whole):
        models = [xpcnn.load(whole / fold / "best.safetensors", xp="numpy") for fold in FOLDS]
        assert len({model.temperature for model in models} | {1.0}) == 4
        assert len({model.preprocessing.mean for model in models}) == 3

    def test_its_onnx_file_gives_the_same(self, run, here, photos, whole):
        pytest.importorskip("onnx")
        runtime = pytest.importorskip("onnxruntime")
        assert run("export", whole / "ensemble.safetensors", "ensemble.onnx").code == 0
        model = xpcnn.load(whole / "ensemble.safetensors", xp="numpy")
        images = load_folder(str(photos / "left" / ".."), model.preprocessing.decoding).x
        session = runtime.InferenceSession(here / "ensemble.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": images.astype(np.float32)})
        expected = model.predict(Normalized(images, np.arange(len(images)), model.preprocessing))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_every_other_command_takes_it(self, run, here, photos, whole):
        model = whole / "ensemble.safetensors"
        done = run("evaluate", model, photos)
        assert done.code == 0
        assert "was trained or selected with 30 of these 30 images" in done.err
        assert run("export", model, "page.html").code == 0
        assert "model_3.temperature" in run("info", model).out
        quick = ["--epochs", "1", "--batch-size", "4", "--no-plots"]
        assert run("train", photos, "--from", model, *quick, "--out", "more").code == 0
        assert run("predict", "more/best.safetensors", photos / "right").code == 0

    def test_what_it_cannot_do_is_said_in_one_line(self, run, here, photos, whole):
        model = whole / "ensemble.safetensors"
        fill(here / "set", classes=["left", "right"])
        os.rename(here / "set" / "left", here / "set" / "other")
        for data, options in ((photos, ["--fine-tune", "head"]), ("set", []), (photos, ["--freeze", "1"])):
            done = run("train", data, "--from", model, *options)
            assert done.code == 1
            assert done.err.count("\n") == 1
        assert "inside a block" in run("train", photos, "--from", model, "--fine-tune", "head").err

    def test_the_last_line_says_where_it_is_and_what_to_expect(self, run, whole):
        last = run("train", "--resume", whole).out.splitlines()[-1]
        assert last.startswith(f"model: {whole / 'ensemble.safetensors'}, which averages ")
        assert last.endswith("has trained 2 of its 3 members, so expect at least the mean accuracy of the folds")

    def test_what_would_be_too_large_to_load_is_not_left(self, run, here, whole, monkeypatch):
        shutil.copytree(whole, here / "run")
        monkeypatch.setattr(file, "MOST_LAYERS", 20)
        last = run("train", "--resume", "run").out.splitlines()[-1]
        assert last.startswith("no model of all folds together, since ")
        assert last.endswith("; use that of a fold")
        assert not (here / "run" / "ensemble.safetensors").exists()

    def test_folds_with_other_ranges_of_values_have_none(self, run, here):
        for number, kind in enumerate(("left", "right")):
            for i in range(8):
                image = picture(kind, 16, 16, False, 100 * number + i).astype(np.uint16) * (200 + i)
                save(here / "set" / kind / f"{i}.png", image)
        assert run("train", "set", *QUICK, "--folds", "2", "--out", "run").code == 0
        tested = [row for fold in FOLDS[:2] for row in rows(here / "run" / fold / "predictions.csv")]
        assert len({row["image"] for row in tested}) == 16
        last = run("train", "--resume", "run").out.splitlines()[-1]
        assert last.startswith("no model of all folds together, since model 2 maps other values to black and white")
        assert not (here / "run" / "ensemble.safetensors").exists()
        given = ["--range", "0", "65535"]
        assert run("train", "set", *QUICK, *given, "--folds", "2", "--out", "given").code == 0
        assert (here / "given" / "ensemble.safetensors").exists()


class TestAFoldIsAnOrdinaryRun:
    def test_report_compare_and_predict_take_it(self, run, photos, whole):
        assert run("report", whole / "fold-2").code == 0
        done = run("compare", whole / "fold-1", whole / "fold-2")
        assert done.code == 0
        assert "share no test images" in done.out
        assert run("predict", whole / "fold-3" / "best.safetensors", photos / "right").code == 0

    @pytest.mark.parametrize("depth", [8, 16])
    def test_files_are_read_once_and_each_fold_is_as_if_it_were_alone(self, run, here, monkeypatch, depth):
        for kind in ("left", "right"):
            for number in range(6):
                image = picture(kind, 16, 16, False, number).astype(f"uint{depth}") * (depth // 8)
                save(here / "set" / kind / f"{number}.png", image)
        times, read = Counter(), reading.read_picture

        def count_them(path, *given):
            times[path] += 1
            return read(path, *given)

        with monkeypatch.context() as patched:
            patched.setattr(reading, "read_picture", count_them)
            assert run("train", "set", *QUICK, "--folds", "2", "--out", "run").code == 0
        assert sorted(times.values()) == [1] * 12
        for fold in ("1", "2"):
            alone = ["--folds", "2", "--fold", fold, "--out", f"alone-{fold}"]
            assert run("train", "set", *QUICK, *alone).code == 0
            same_run(here / f"alone-{fold}", here / "run" / f"fold-{fold}")

    def test_a_cache_is_told_of_once(self, run, here, photos):
        done = run("train", photos, *QUICK, "--cache", "--folds", "2", "--out", "run")
        assert done.code == 0
        assert done.out.count("images from the cache") == 1

    def test_its_report_has_the_command_that_repeats_it(self, run, here, photos, whole):
        assert "<span>--folds=3</span> <span>--fold=2</span>" in (whole / "fold-2" / "report.html").read_text(
            encoding="utf-8"
        )
        assert run("train", photos, *QUICK, "--folds", "3", "--fold", "2", "--out", "again").code == 0
        same_run(here / "again", whole / "fold-2")

    @pytest.mark.parametrize("command", ["report", "compare"])
    def test_the_directory_of_all_is_none(self, run, whole, command):
        done = run(command, whole, *([whole / "fold-1"] if command == "compare" else []))
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert f"has a run for each fold. Give one of them, such as {str(whole / 'fold-1')!r}" in done.err


class TestResuming:
    @pytest.mark.parametrize("after", [3, STEPS + 4, 2 * STEPS + 1])
    def test_the_same_end_whichever_fold_was_interrupted(self, run, here, whole, broken_off, after):
        broken_off(after)
        done = run("train", "--resume", "run")
        assert (done.code, done.err) == (0, "")
        same_folds(here / "run", whole)

    def test_between_two_folds(self, run, here, photos, whole, monkeypatch):
        times = count(1)

        def interrupt(*arguments, **named):
            if next(times) == 2:
                raise KeyboardInterrupt
            return split_data(*arguments, **named)

        with monkeypatch.context() as patched:
            patched.setattr("xpcnn.cli.parts.split_data", interrupt)
            done = run("train", photos, *QUICK, "--folds", "3", "--out", "run")
        assert done.code == 130
        assert done.err.endswith("xpcnn train: interrupted; to resume: xpcnn train --resume run\n")
        assert names(here / "run") == {"args.json", "fold-1"}
        assert run("train", "--resume", "run").code == 0
        same_folds(here / "run", whole)

    def test_a_signal_outside_the_fit_says_once_how_to_go_on(self, run, broken_off, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        broken_off(3)
        monkeypatch.setattr(datasets, "load_data", interrupt)
        done = run("train", "--resume", "run")
        assert (done.code, done.err) == (130, "xpcnn train: interrupted; to resume: xpcnn train --resume run\n")

    def test_finished_folds_are_kept(self, run, here, photos, whole):
        shutil.copytree(whole, here / "run")
        shutil.rmtree(here / "run" / "fold-3")
        kept = here / "run" / "fold-1" / "best.safetensors"
        before = os.stat(kept).st_mtime_ns
        done = run("train", photos, *QUICK, "--resume", "run")
        assert done.code == 0
        assert done.out.count("the run is finished") == 2
        assert os.stat(kept).st_mtime_ns == before
        same_folds(here / "run", whole)

    def test_after_a_kill(self, here, run, photos, whole):
        line, environment = from_here(["train", photos, *QUICK, "--folds", "3", "--out", "run"])
        with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as child:
            for out in child.stdout:
                if out.startswith("fold 2"):
                    break
            child.kill()
        assert run("train", "--resume", "run").code == 0
        same_folds(here / "run", whole)

    def test_one_fold_alone(self, run, here, whole, broken_off):
        broken_off(STEPS + 4)
        assert run("train", "--resume", "run/fold-2").code == 0
        same_run(here / "run" / "fold-2", whole / "fold-2")
        assert names(here / "run") == {"args.json", "fold-1", "fold-2"}
        assert run("train", "--resume", "run").code == 0
        same_folds(here / "run", whole)

    def test_from_another_directory(self, run, here, photos, broken_off, monkeypatch):
        shutil.copytree(photos, here / "cells")
        with interrupted(3):
            assert run("train", "cells", *QUICK, "--folds", "2", "--out", "run").code == 130
        (here / "away").mkdir()
        monkeypatch.chdir(here / "away")
        assert run("train", "--resume", "../run").code == 0
        assert names(here / "run") == {"args.json", *TOGETHER, "fold-1", "fold-2"}

    def test_with_minutes(self, run, here, photos):
        quick = [photos, "--model", "blood", "--image-size", "16", "--minutes", "0.02", "--folds", "2"]
        with interrupted(10**9):
            assert run("train", *quick, "--out", "run").code == 0
        assert json.loads((here / "run" / "fold-1" / "args.json").read_text())["minutes"] == 0.01
        shutil.rmtree(here / "run" / "fold-2")
        assert run("train", *quick, "--resume", "run").code == 0
        assert json.loads((here / "run" / "fold-2" / "args.json").read_text())["minutes"] == 0.01

    def test_with_other_images_is_refused_before_the_next_fold(self, run, here, photos, monkeypatch):
        shutil.copytree(photos, here / "cells")
        with interrupted(STEPS + 4):
            assert run("train", "cells", *QUICK, "--folds", "3", "--out", "run").code == 130
        assert run("train", "--resume", "run/fold-2").code == 0
        added = shutil.copy(here / "cells" / "left" / "left 0.png", here / "cells" / "left" / "more.png")
        done = run("train", "--resume", "run")
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith(
            f"xpcnn train: The images are not those of the run {os.path.join('run', 'fold-1')!r}: 1 new, the first "
            "'left/more.png'."
        )
        assert names(here / "run") == {"args.json", "fold-1", "fold-2"}
        os.remove(added)
        assert run("train", "--resume", "run").code == 0

    def test_folds_of_other_images_are_not_summed_up(self, run, here, whole):
        shutil.copytree(whole, here / "run")
        with open(here / "run" / "fold-2" / "parts.csv", "a") as parts:
            parts.write("more.png,left,train\n")
        done = run("train", "--resume", "run")
        assert done.code == 1
        assert "The folds test 30 images, and 'run/fold-2' has 31" in done.err
        assert done.err.count("\n") == 1

    def test_with_other_arguments_is_refused(self, run, whole):
        for options, word in ((["--folds", "4"], "--folds was 3, is 4"), (["--seed", "1"], "--seed was 0, is 1")):
            done = run("train", *options, "--resume", whole)
            assert done.code == 1
            assert done.err.count("\n") == 1
            assert word in done.err


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["--folds", "1"], "expected an integer from 2 on, received '1'"),
            (["--folds", "many"], "expected an integer from 2 on, received 'many'"),
            (["--folds", "3", "--test-fraction", "0.1"], "omit --test-fraction, or --folds"),
            (["--folds", "3", "--distributed"], "--distributed is for a single run"),
            (["--folds", "3", "--open"], "--open is for a single run"),
            (["--folds", "3", "--fold", "4"], "--fold 4 needs --folds 4 or more"),
            (["--fold", "1"], "--fold 1 needs --folds 2 or more"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage(self, refuses, photos, options, word):
        refuses("train", photos, *options, words=[word], code=2)

    def test_wrong_usage_on_resuming(self, run, whole):
        done = run("train", "--resume", whole, "--open")
        assert done.code == 2
        assert "--open is for a single run" in done.err

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["--folds", "9" * 30], "The class 'centre' has too few images"),
            (["--folds", "11"], "The class 'centre' has too few images for 11 folds. Received: 10, expected 11"),
            (["--folds", "4", "--group-by", "([pjb])[a-z]+$"], "4 folds need 4 groups of images or more"),
            (["--folds", "3", "--group-by", "^(.)"], "All images of the class 'centre' come to one of 3 folds"),
        ],
        ids=["images by far", "images", "groups", "groups that are classes"],
    )
    def test_too_few(self, run, here, photos, options, word):
        done = run("train", photos, *options)
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith("xpcnn train: ")
        assert word in done.err.splitlines()[-1]
        assert names(here) == set()

    def test_parts_of_their_own(self, run, here):
        for part in ("train", "test"):
            fill(here / "set" / part, each=3)
        done = run("train", "set", "--folds", "3")
        assert done.code == 1
        assert done.err == (
            "xpcnn train: --folds draws the parts itself, but the images have parts of their own. "
            "Omit --folds, or give the images without parts.\n"
        )
        assert names(here) == {"set"}
