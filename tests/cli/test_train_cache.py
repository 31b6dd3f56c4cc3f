"""``xpcnn train --cache``: a folder's images are decoded once."""

import re
import shutil
import sys

import pytest

import xpcnn
from tests.cli.conftest import names, truncated_jpeg
from xpcnn.data import cache, reading

QUICK = ["--epochs", "1", "--image-size", "8", "--seed", "3"]


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """The folder of the caches; files that were just made count as older ones."""
    monkeypatch.setattr(cache, "_CLOCK_STEP", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "xpcnn"


@pytest.fixture
def never_decoded(monkeypatch):
    """A function after whose call no image can be decoded."""

    def fail(path, decoding):
        raise AssertionError(f"{path} was decoded")

    return lambda: monkeypatch.setattr(reading, "read_picture", fail)


def told(done):
    """What a run says of the cache: images reused, megabytes, the file, files decoded."""
    assert (done.code, done.err) == (0, "")
    (line,) = re.findall(r"^(\d+) images from the cache \((.*) MB, (.*)\), (\d+) decoded.*$", done.out, re.MULTILINE)
    return line


def test_it_says_what_the_cache_was_good_for(run, here, photos, place):
    shutil.copytree(photos, here / "set")
    first = told(run("train", "set", *QUICK, "--cache"))
    (file,) = place.iterdir()
    assert first == ("0", f"{file.stat().st_size / 1e6:.1f}", str(file), "31")
    assert told(run("train", "set", *QUICK, "--cache"))[::3] == ("30", "0")
    (here / "set/left/left 0.png").unlink()
    truncated_jpeg(here / "set/left/left 1.jpg")
    assert told(run("train", "set", *QUICK, "--cache"))[::3] == ("28", "1")
    assert list(place.iterdir()) == [file]


def test_a_run_is_the_same_without_a_cache_with_a_new_one_and_with_an_old_one(run, here, photos, never_decoded):
    for name, options in (("without", []), ("new", ["--cache"]), ("old", ["--cache"])):
        if name == "old":
            never_decoded()
        assert run("train", photos, *QUICK, *options, "--augment", "light", "--out", name).code == 0
    for file in ("best.safetensors", "last.safetensors", "metrics.json", "parts.csv", "skipped.csv"):
        whole = (here / "without" / file).read_bytes()
        assert (here / "new" / file).read_bytes() == whole
        assert (here / "old" / file).read_bytes() == whole


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
def test_what_it_says_is_one_line_whatever_the_place_is_called(run, photos, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two\nlines"))
    assert r"two\nlines" in told(run("train", photos, *QUICK, "--cache"))[2]


def test_without_being_asked_it_keeps_nothing(run, photos, place):
    done = run("train", photos, *QUICK)
    assert "cache" not in done.out
    assert not place.exists()


def test_a_model_to_go_on_from_takes_it_too(run, here, photos, model, never_decoded):
    told(run("train", photos, "--epochs", "1", "--image-size", "16", "--cache"))
    never_decoded()
    assert told(run("train", photos, "--epochs", "1", "--from", model, "--cache", "--out", "run"))[0] == "30"
    assert xpcnn.load("run/best.safetensors").input_shape == (3, 16, 16)


def test_strict_stops_at_a_bad_image_that_is_known(run, refuses, photos):
    told(run("train", photos, *QUICK, "--cache"))
    refuses("train", photos, *QUICK, "--cache", "--strict", words=[photos / "left" / "half.jpg", "truncated"])


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_it_is_for_folders_alone(refuses, name):
    refuses("train", name, "--cache", code=2, words=["--cache", f"a folder of images, and {name} is not one"])


def test_a_place_that_cannot_be_written_is_refused(refuses, photos, place):
    place.parent.write_text("a file")
    refuses("train", photos, *QUICK, "--cache", words=[place, "Leave --cache out, or set XDG_CACHE_HOME"])


def test_a_damaged_cache_is_no_error(run, photos, place):
    told(run("train", photos, *QUICK, "--cache"))
    (file,) = place.iterdir()
    file.write_bytes(file.read_bytes()[:5000])
    assert told(run("train", photos, *QUICK, "--cache"))[::3] == ("0", "31")
    assert names(place) == {file.name}


FROZEN = ["--fine-tune", "head", "--augment", "flip", "--epochs", "4", "--seed", "3", "--cache"]


def of_features(done):
    """What a run says of features."""
    assert (done.code, done.err) == (0, "")
    (line,) = re.findall(r"^(?:computing )?features of .*$", done.out, re.MULTILINE)
    return line


def test_what_frozen_layers_make_of_the_images_is_kept_too(run, here, photos, place, model):
    first = of_features(run("train", photos, "--from", model, *FROZEN, "--out", "first"))
    assert first == "computing features of 45 views of 24 images, once: the layers before 'dropout_1' are frozen"
    (file,) = (place / "features").iterdir()
    second = of_features(run("train", photos, "--from", model, *FROZEN, "--out", "second"))
    assert second.startswith(
        f"features of 45 views of 24 images read from {str(file)!r}: the layers before 'dropout_1'"
    )
    for name in ("best.safetensors", "last.safetensors", "metrics.json"):
        assert (here / "first" / name).read_bytes() == (here / "second" / name).read_bytes()


def test_damaged_features_are_one_line(run, photos, place, model):
    of_features(run("train", photos, "--from", model, *FROZEN))
    (file,) = (place / "features").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    done = run("train", photos, "--from", model, *FROZEN)
    assert done.code == 0
    assert done.err == (
        f"xpcnn train: The features in {str(file)!r} can't be used, so they are computed: it is damaged.\n"
    )
    assert "read from" in of_features(run("train", photos, "--from", model, *FROZEN))
