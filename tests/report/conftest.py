"""Runs to report on, made by the command, with names that try to inject markup."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import picture, save, truncated_jpeg
from xpcnn.cli import main

#: Class names that people could find in a folder of a stranger.
HOSTILE = ("<script>alert(1)<", '"><img src=x onerror=alert(1)>', "مرحبا", "🦠 e\u202ex\n", "x" * 200)


def fill_with_hostile_names(folder):
    """Write a folder of class folders of such names, and a file that cannot be read."""
    for number, name in enumerate(HOSTILE):
        for i in range(6):
            image = picture(("left", "centre", "right")[number % 3], 12, 12, True, 100 * number + i)
            save(folder / name / f"<b>{i}&amp;{'y' * 60}.png", image)
    truncated_jpeg(folder / HOSTILE[0] / "<i>half.jpg")
    return folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """The directory of a run on such a folder, with mistakes."""
    place = tmp_path_factory.mktemp("hostile")
    fill_with_hostile_names(place / "images")
    options = ["--epochs", "1", "--image-size", "12", "--test-fraction", "0.4", "--lr", "1e-9"]
    assert main(["train", str(place / "images"), *options, "--out", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The directory of a run on the digits, with curves of three epochs."""
    run = tmp_path_factory.mktemp("digits") / "run"
    assert main(["train", "digits", "--epochs", "3", "--out", str(run)]) == 0
    return run


@pytest.fixture
def copy(digits, tmp_path):
    """A copy of the run on the digits, to be damaged."""
    return Path(shutil.copytree(digits, tmp_path / "run"))
