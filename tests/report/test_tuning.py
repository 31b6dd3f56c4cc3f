"""The page of a search: what it says of each trial, and names that try to inject markup."""

import pytest

from tests.report.conftest import HOSTILE
from tests.report.devtools import CHROMIUM, CONTRAST, Browser
from xpcnn.report.tuning import Tried, in_words, write_up

PLAN = {
    "space": {"lr": [0.0005, 0.032], "width": [0.5, 1.0, 1.5], "augment": ["none", "light"], "image_size": [32, 64]},
    "epochs": 40,
    "validation": 143,
}  # fmt: skip
DEFAULTS = {"lr": 0.004, "width": 1.0, "augment": "light", "image_size": 64}


def trial(number, accuracy, stopped=None, **settings):
    if stopped:
        return Tried(number, DEFAULTS | settings, None, None, None, 12.3, stopped)
    return Tried(number, DEFAULTS | settings, accuracy, (accuracy - 0.05, accuracy + 0.02), 33, 61.4, None)


TRIALS = [
    trial(1, 0.9),
    trial(2, 0.95, lr=0.0221, width=1.5),
    trial(3, 0.0, stopped="worse than others after epoch 16 of 40", augment="none"),
    *(trial(number, 0.9 - number / 100) for number in range(4, 40)),
]


def page_of(tmp_path, trials=TRIALS, best=2, metrics=None, command=("xpcnn", "train", "cells", "--lr=0.0221")):
    page = write_up(
        trials, best, plan=PLAN, folder=tmp_path / HOSTILE[0].replace("/", ""), command=command, metrics=metrics or {}
    )
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    return page


def test_the_best_comes_first_and_the_stopped_ones_last(tmp_path):
    rows = page_of(tmp_path).split('<th scope="row" class="words">')[1:]
    assert rows[0].startswith(
        "2 <b>best</b></th><td>95.0&nbsp;%</td><td>90.0&nbsp;% to 97.0&nbsp;%</td><td>0.0221</td>"
    )
    assert rows[1].startswith("1</th>")
    assert rows[-1].startswith("3</th><td>—</td>")
    assert "worse than others after epoch 16 of 40" in rows[-1]


@pytest.mark.parametrize(
    ("metrics", "words", "others"),
    [
        (
            {"test": {"accuracy": 0.93, "accuracy_95": [0.9, 0.95]}},
            ["<b>Finished</b>", "93.0&nbsp;%", "measured once, at the end"],
            ["xpcnn tune --resume"],
        ),
        ({"validation": {"accuracy": 0.95}}, ["<b>Finished</b>"], ["measured once", "xpcnn tune --resume"]),
        ({}, ["<b>Not finished</b>", "xpcnn tune --resume"], ["measured once"]),
    ],
    ids=["tested", "without a test part", "not finished"],
)
def test_it_says_how_the_search_stands(tmp_path, metrics, words, others):
    page = page_of(tmp_path, metrics=metrics)
    assert [word for word in words if word not in page] == []
    assert [word for word in others if word in page] == []


def test_before_any_trial_is_complete(tmp_path):
    page = page_of(tmp_path, [TRIALS[2]], None)
    assert "No trial has been completed yet." in page
    assert "<svg" not in page


def test_hostile_names_stay_text(tmp_path):
    page = page_of(tmp_path, command=["xpcnn", "train", *HOSTILE])
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_a_value_is_told_as_the_command_line_takes_it():
    assert in_words([("width", 2.0), ("augment", "light")]) == "width 2, augmentation light"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH")
def test_it_can_be_read_in_a_browser(tmp_path):
    page_of(tmp_path, metrics={"test": {"accuracy": 0.93, "accuracy_95": [0.9, 0.95]}}, command=["xpcnn", *HOSTILE])
    browser = Browser(tmp_path / "profile")
    try:
        for width in (390, 1440):
            for scheme in ("light", "dark"):
                browser.show(tmp_path / "page.html", width, scheme)
                assert browser.complaints == []
                assert browser.requests == [(tmp_path / "page.html").resolve().as_uri()]
                assert browser.value("document.documentElement.scrollWidth") <= width
                ratio, text = browser.value(CONTRAST)
                assert ratio >= 4.5, text
                assert browser.value("document.querySelectorAll('svg circle').length") == 38
    finally:
        browser.close()
