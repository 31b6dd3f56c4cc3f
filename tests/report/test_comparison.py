"""The page that compares runs."""

import html
import json
import re
import shutil

import pytest

from xpcnn.cli import main
from xpcnn.report import comparison, paired


def words(section):
    """The text of some HTML, without its markup."""
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", section))).replace("\xa0", " ")


@pytest.fixture(scope="session")
def other_digits(tmp_path_factory):
    """The directory of a run on the digits with other settings."""
    run = tmp_path_factory.mktemp("other") / "run"
    assert main(["train", "digits", "--epochs", "2", "--lr", "0.001", "--balance", "--out", str(run)]) == 0
    return run


@pytest.fixture
def runs(digits, other_digits):
    return [paired.read(str(folder)) for folder in (digits, other_digits)]


def test_it_has_every_section(runs):
    page = comparison.write_up(runs, paired.pairs(runs))
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "How accurate they are", "Which is better", "How they learned", "Which settings differ"
    ]  # fmt: skip
    assert "Comparison of 2 runs" in words(page)
    assert not re.search(r'url\(|@import|<script|<link|src=|href="(?!#)|\son\w+=', page)


def test_accuracies_have_their_range(runs, digits):
    accuracy = json.loads((digits / "metrics.json").read_text())["test"]["accuracy"]
    low, high = runs[0].interval()
    text = words(comparison.accuracy_section(runs))
    assert f"{100 * accuracy:.1f} % {100 * low:.1f} % to {100 * high:.1f} % 359 " in text


def test_two_runs_are_compared_on_the_images_that_they_share(runs):
    (pair,) = paired.pairs(runs)
    assert pair.shared == 359
    text = words(comparison.pairs_section(runs, [pair]))
    assert f" 359 {pair.both} {pair.only_first} {pair.only_second} " in text
    assert comparison.p_value(pair.p) in text


def test_every_curve_has_a_line_of_each_run(runs):
    section = comparison.curves_section(runs)
    charts = re.findall('aria-label="(.*?) by epoch">(.*?)</svg>', section)
    assert [title for title, _ in charts] == [
        "validation loss", "validation accuracy", "training loss", "training accuracy"
    ]  # fmt: skip
    for _, drawn in charts:
        assert re.findall('<polyline class="(.*?)"', drawn) == ["run run-1", "run run-2"]
        assert [len(points.split()) for points in re.findall('points="(.*?)"', drawn)] == [3, 2]


def test_a_run_without_validation_has_no_line_there(runs):
    runs[0].epochs.columns = {"loss": [1.0, 2.0]}
    charts = re.findall('aria-label="(.*?) by epoch">(.*?)</svg>', comparison.curves_section(runs))
    lines = {title: re.findall('<polyline class="run (.*?)"', drawn) for title, drawn in charts}
    assert lines["validation loss"] == ["run-2"]
    assert lines["training loss"] == ["run-1", "run-2"]


def test_only_settings_that_differ_are_listed(runs):
    section = comparison.settings_section(runs)
    table = [re.findall("<bdi[^>]*>(.*?)</bdi>", line) for line in re.findall("<tr>(.*?)</tr>", section)[1:]]
    assert sorted(table) == [["balance", "—", "True"], ["epochs", "3", "2"], ["lr", "0.004", "0.001"]]


def test_settings_within_settings_are_listed_one_by_one(runs):
    for one, numpy in zip(runs, ("1", "2"), strict=True):
        one.run.arguments = {"environment": {"python": "3", "numpy": numpy}, "classes": [numpy]}
    section = comparison.settings_section(runs)
    assert re.findall("<bdi>(.*?)</bdi>", section.partition("<tbody>")[2]) == ["environment: numpy", "1", "2"]


def test_equal_settings_are_not_listed(digits):
    same = paired.read(str(digits))
    assert "None: all settings are the same." in comparison.settings_section([same, same])


def test_names_are_text(hostile, tmp_path):
    name = tmp_path / "<b>run"
    shutil.copytree(hostile, name)
    arguments = json.loads((name / "args.json").read_text(encoding="utf-8"))
    (name / "args.json").write_text(json.dumps({**arguments, "<i>": "<script>"}), encoding="utf-8")
    runs = [paired.read(str(folder)) for folder in (hostile, name)]
    page = comparison.write_up(runs, paired.pairs(runs))
    page += comparison.pairs_section(runs, [paired.Pair(*runs, 9, 0, 0, 9)])
    assert not re.search("<script|<i>|<b>run", page)
    assert "<i>" in words(page)
    assert page.count("&lt;b&gt;run") >= 5


def test_many_settings_are_cut(runs):
    runs[0].run.arguments = {f"setting {number}": number for number in range(1000)}
    assert comparison.settings_section(runs).count("<tr>") == comparison.MOST_SETTINGS + 1
