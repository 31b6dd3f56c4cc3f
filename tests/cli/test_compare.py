"""``xpcnn compare``: a table, a line for every two runs, and a page."""

import json
import os
import shutil

import pytest

from tests.cli.conftest import fill, rows
from xpcnn.cli import main
from xpcnn.metrics import mcnemar, wilson_interval


@pytest.fixture(scope="session")
def weaker(tmp_path_factory, photos):
    """A run on the photos with the same parts that has learned too little."""
    out = tmp_path_factory.mktemp("weaker") / "run"
    options = ["--epochs", "1", "--lr", "1e-6", "--image-size", "16", "--validation-fraction", "0.25"]
    assert main(["train", str(photos), *options, "--out", str(out)]) == 0
    return out


@pytest.fixture
def two(here, trained, weaker):
    """Copies of two runs, ``good`` and ``bad``."""
    return shutil.copytree(trained, here / "good"), shutil.copytree(weaker, here / "bad")


def right(run):
    """The images that a run predicted correctly, and all of them."""
    table = rows(run / "predictions.csv")
    return {row["image"] for row in table if row["class"] == row["predicted"]}, {row["image"] for row in table}


def rewrite(path, change):
    """Change the lines of a file below its first one."""
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([first, *change(lines)]) + "\n", encoding="utf-8")


class TestOutput:
    def test_a_line_for_each_run_one_for_the_two_and_the_page(self, run, two):
        done = run("compare", "good", "bad")
        assert (done.code, done.err) == (0, "")
        heading, good, bad, pair, page = done.out.splitlines()
        assert heading.split() == ["run", "test", "accuracy", "95", "%", "images"]
        for line, name, folder in ((good, "good", two[0]), (bad, "bad", two[1])):
            count = len(right(folder)[0])
            low, high = wilson_interval(count, 6)
            assert line.split() == [name, f"{count / 6:.4f}", f"{low:.4f}", "to", f"{high:.4f}", "6"]
        first, second = right(two[0])[0], right(two[1])[0]
        assert first - second
        p = mcnemar(len(first - second), len(second - first))
        assert f"good and bad share 6 test images: {len(first - second)} are right in the first alone, " in pair
        assert f"{len(second - first)} in the second alone, p {p:.2g}: this may be chance" in pair
        assert page == "comparison.html"

    def test_the_page_goes_where_it_is_told(self, run, here, two):
        done = run("compare", "good", "bad", "-o", "page.html")
        assert done.out.endswith("\npage.html\n")
        assert (here / "page.html").read_text(encoding="utf-8").endswith("</html>\n")
        assert not (here / "comparison.html").exists()

    def test_a_difference_that_counts_has_a_winner(self, run, two):
        for folder, answer in zip(two, ("left", "right"), strict=True):
            lines = [f"{number}.png,left,{answer},0.9,{number:016x}" for number in range(6)]
            rewrite(folder / "predictions.csv", lambda _, lines=lines: lines)
        assert "p 0.031: good is better" in run("compare", "good", "bad").out
        assert "p 0.031: good is better" in run("compare", "bad", "good").out

    def test_without_shared_images_a_line_says_so(self, run, two):
        rewrite(two[1] / "predictions.csv", lambda lines: [f"{line[:-1]}{int(line[-1], 16) ^ 1:x}" for line in lines])
        done = run("compare", "good", "bad")
        assert done.code == 0
        assert "\ngood and bad share no test images; compare their ranges.\n" in done.out

    def test_a_run_of_an_earlier_version_has_no_predictions(self, run, two):
        (two[1] / "predictions.csv").unlink()
        done = run("compare", "good", "bad")
        assert done.code == 0
        assert "\nbad has no test predictions to compare: it has no predictions.csv. Train it again.\n" in done.out

    def test_a_run_without_test_images(self, run, here, two, photos):
        options = ["--epochs", "1", "--image-size", "16", "--test-fraction", "0", "--out", "untested"]
        assert run("train", photos, *options).code == 0
        assert not (here / "untested" / "predictions.csv").exists()
        done = run("compare", "good", "untested")
        assert done.code == 0
        assert done.out.splitlines()[2].split() == ["untested", "—", "—", "0"]
        assert "untested has no test predictions to compare: no images were held out." in done.out

    def test_runs_may_be_moved_and_have_other_paths_to_the_same_images(self, run, here, photos, two):
        shutil.copytree(photos, here / "copy")
        options = ["--epochs", "1", "--image-size", "16", "--validation-fraction", "0.25", "--out", "again"]
        assert run("train", "copy", *options).code == 0
        assert "good and again share 6 test images" in run("compare", "good", "again").out


class TestRefusals:
    @pytest.mark.parametrize("runs", [["good"], ["good"] * 9])
    def test_one_run_and_too_many(self, refuses, two, runs):
        refuses("compare", *runs, code=2, words=[f"2 to 8 runs are compared, received {len(runs)}"])

    def test_the_same_run_twice(self, refuses, here, two):
        again = str(here / "good")
        refuses("compare", "good", "bad", again, words=[f"'good' and {again!r} are the same run"])

    def test_what_is_no_run(self, refuses, here, two):
        (here / "empty").mkdir()
        refuses("compare", "good", "empty", words=["'empty' does not contain a run", "xpcnn train"])
        refuses("compare", "good", "gone", words=["'gone' is not a run's directory"])

    def test_an_unfinished_run(self, refuses, two):
        (two[1] / "metrics.json").unlink()
        refuses("compare", "good", "bad", words=["'bad' is not finished", "xpcnn train --resume bad"])

    def test_runs_of_other_classes(self, run, refuses, here, two):
        fill(here / "set", ("left", "centre"))
        assert run("train", "set", "--epochs", "1", "--image-size", "16", "--out", "other").code == 0
        words = ["'good' and 'other' have different classes: only 'good' has 'right'."]
        refuses("compare", "good", "bad", "other", words=words)

    @pytest.mark.parametrize("name", ["args.json", "metrics.json", "history.csv", "parts.csv", "predictions.csv"])
    def test_a_damaged_file_is_named(self, refuses, two, name):
        (two[1] / name).write_bytes(b"\0\xff{")
        refuses("compare", "good", "bad", words=[name, "Start a new run."])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda lines: lines[:-1], "has 5 images, and the test part 6"),
            (lambda lines: [line.replace(",left,", ",up,") for line in lines], "has a class 'up'"),
            (lambda lines: [*lines[:-1], "a.png,left"], "has a line of 2 fields"),
        ],
    )
    def test_damaged_predictions(self, refuses, two, change, words):
        rewrite(two[1] / "predictions.csv", change)
        refuses("compare", "good", "bad", words=["predictions.csv", words])

    @pytest.mark.parametrize("test", [None, [], {}, {"accuracy": "high"}, {"accuracy": 1.5}, {"accuracy": -1}])
    def test_metrics_without_an_accuracy(self, refuses, two, test):
        (two[1] / "metrics.json").write_text(json.dumps({"test": test}))
        refuses("compare", "good", "bad", words=["metrics.json", "Start a new run."])

    def test_a_page_of_another_kind(self, refuses, two):
        name = os.path.join("bad", "metrics.json")
        refuses("compare", "good", "bad", "-o", name, code=2, words=["must end in .html", repr(name)])

    def test_a_page_in_no_folder(self, refuses, two):
        name = os.path.join("gone", "page.html")
        refuses("compare", "good", "bad", "-o", name, words=[f"No such file or directory: {name!r}"])
