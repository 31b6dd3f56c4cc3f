"""Depth, channels, pages and shape of images on the command line: chosen, reported, stored, and reproduced."""

import json

import numpy as np
import pytest
import tifffile

import xpcnn
from tests.cli.conftest import fill, rows, save

QUICK = ["--epochs", "1", "--model", "tiny", "--batch-size", "8"]


def deep(folder, each=8, dtype=np.uint16, low=1000, step=60, scale=1):
    """Pictures of 12 bits in 16 that differ by a few levels: brighter above or below. Returns the folder."""
    rng = np.random.default_rng(0)
    for name in ("above", "below"):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            image = rng.normal(low, step / 4, (16, 16))
            image[slice(0, 8) if name == "above" else slice(8, 16)] += step
            tifffile.imwrite(folder / name / f"{i}.tif", (image * scale).astype(dtype))
    return folder


def stacks(folder, channels, axes="CYX", each=8):
    """Pictures of several channels of 16 bits, of which the last alone tells the classes apart."""
    rng = np.random.default_rng(0)
    for name in ("above", "below"):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            image = rng.integers(0, 3000, (channels, 16, 16)).astype(np.uint16)
            image[-1] //= 100
            image[-1, slice(0, 8) if name == "above" else slice(8, 16)] += 40
            options = {"metadata": {"axes": axes}, "imagej": True} if axes else {"photometric": "minisblack"}
            tifffile.imwrite(folder / name / f"{i}.tif", image, **options)
    return folder


def arguments(run_directory):
    return json.loads((run_directory / "args.json").read_text())


def decoding(run_directory):
    return xpcnn.load(run_directory / "best.safetensors").preprocessing.decoding


def same_end(one, other):
    first, second = (xpcnn.load(place / "last.safetensors").get_weights() for place in (one, other))
    return all((first[name] == second[name]).all() for name in first)


class TestDepth:
    @pytest.mark.parametrize(
        "kind", [{}, {"dtype": np.int16}, {"dtype": np.uint32}, {"dtype": np.float32, "scale": 1e-4}]
    )
    def test_the_range_is_that_of_the_images_to_train_on(self, run, here, kind):
        deep(here / "set", **kind)
        done = run("train", "set", *QUICK, "--epochs", "8", "--lr", "0.02", "--gray", "--out", "run")
        assert (done.code, done.err) == (0, "")
        train = [row["image"] for row in rows(here / "run" / "parts.csv") if row["part"] == "train"]
        values = np.stack([tifffile.imread(path) for path in train]).astype(np.float32)
        ((low, high),) = decoding(here / "run").ranges
        assert (low, high) == (values.min(), values.max())
        assert f"values from {low:g} to {high:g} become 0 to 255, as measured on the training images" in done.out
        assert json.loads((here / "run" / "metrics.json").read_text())["test"]["accuracy"] == 1.0
        assert "values as 0 to 255" in (here / "run" / "report.html").read_text(encoding="utf-8")
        assert f"{low:g} to {high:g} become 0 to 255" in run("info", "run/best.safetensors").out

    def test_it_can_be_given(self, run, here):
        deep(here / "set")
        done = run("train", "set", *QUICK, "--gray", "--range", "-100", "4095.5", "--out", "run")
        assert decoding(here / "run").ranges == ((-100.0, 4095.5),)
        assert "values from -100 to 4095.5 become 0 to 255, as given" in done.out
        assert arguments(here / "run")["range"] == [-100.0, 4095.5]

    def test_a_range_much_wider_than_what_images_use_is_reported(self, run, here):
        deep(here / "set")
        done = run("train", "set", *QUICK, "--range", "900", "6000", "--out", "run")
        assert "give the range that matters" in done.out

    def test_of_8_bits_nothing_is_said(self, run, here):
        fill(here / "set", each=3)
        assert "become 0 to 255" not in run("train", "set", *QUICK, "--out", "run").out
        assert decoding(here / "run").range is None

    def test_a_picture_outside_the_range_is_warned_of(self, run, here):
        deep(here / "set")
        assert run("train", "set", *QUICK, "--gray", "--out", "run").code == 0
        tifffile.imwrite(here / "bright.tif", np.full((16, 16), 60000, np.uint16))
        done = run("predict", "run/best.safetensors", "bright.tif")
        assert done.code == 0
        assert done.err.startswith("xpcnn predict: 1 image with many values outside the range")
        assert run("predict", "run/best.safetensors", "set/above/0.tif").err == ""

    def test_mixed_depths_without_a_common_scale_are_refused(self, refuses, here):
        deep(here / "set")
        save(here / "set" / "above" / "x.png", np.zeros((16, 16), np.uint8))
        refuses(
            "train",
            "set",
            *QUICK,
            "--out",
            "run",
            words=["1 images are 8-bit and 16 are uint16", "--range LOW HIGH"],
        )

    @pytest.mark.parametrize("first", [np.uint8, np.uint16])
    def test_mixed_depths_that_use_their_range_are_scaled_by_it_whatever_is_seen_first(self, run, here, first):
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            for i in range(40):
                dtype = first if i % 2 == 0 else {np.uint8: np.uint16, np.uint16: np.uint8}[first]
                image = rng.integers(0, 256, (8, 8)).astype(dtype) * (257 if dtype == np.uint16 else 1)
                save(here / "set" / name / f"{i}.png", image.astype(dtype))
        done = run("train", "set", *QUICK, "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert decoding(here / "run").range is None

    @pytest.mark.parametrize("cache", [[], ["--cache"]])
    def test_with_a_cache_and_without_it_is_the_same(self, run, here, monkeypatch, cache):
        monkeypatch.setenv("XDG_CACHE_HOME", str(here / "kept"))
        deep(here / "set")
        assert run("train", "set", *QUICK, "--out", "whole").code == 0
        for name in ("first", "second"):
            assert run("train", "set", *QUICK, *cache, "--out", name).code == 0
            assert decoding(here / name) == decoding(here / "whole")
            assert same_end(here / name, here / "whole")


class TestChannels:
    @pytest.mark.parametrize("channels", [2, 4, 5])
    def test_channels_that_are_no_colours_are_taken_as_they_are(self, run, here, channels):
        stacks(here / "set", channels)
        done = run("train", "set", *QUICK, "--epochs", "12", "--lr", "0.02", "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert f"{channels} channels as they are" in done.out
        assert decoding(here / "run").shape == (channels, 16, 16)
        assert len(set(decoding(here / "run").ranges)) > 1
        assert json.loads((here / "run" / "metrics.json").read_text())["test"]["accuracy"] == 1.0
        assert arguments(here / "run")["channels"] == str(channels)
        assert run("predict", "run/best.safetensors", "set/above").code == 0

    @pytest.mark.parametrize("channels", [2, 4, 5])
    def test_a_model_of_channels_that_are_no_colours_is_exported(self, run, here, channels):
        pytest.importorskip("onnx")
        stacks(here / "set", channels)
        assert run("train", "set", *QUICK, "--out", "run").code == 0
        assert run("export", "run/best.safetensors", "net.onnx").code == 0

    def test_fewer_can_be_asked_for_and_what_is_left_out_is_said(self, run, here):
        stacks(here / "set", 3)
        done = run("train", "set", *QUICK, "--channels", "2", "--out", "run")
        assert "left out: channels beyond the first 2 of 16 images with up to 3" in done.out
        assert decoding(here / "run").channels == 2

    def test_pages_that_nothing_is_said_of_are_pages_unless_channels_are_asked_for(self, run, here):
        stacks(here / "set", 2, axes="")
        done = run("train", "set", *QUICK, "--gray", "--out", "pages")
        assert "left out: all pages except page 0 of 16 images with up to 2 pages" in done.out
        done = run("train", "set", *QUICK, "--channels", "all", "--out", "channels")
        assert "left out" not in done.out
        assert decoding(here / "channels").channels == 2

    def test_all_of_different_numbers_is_refused(self, refuses, here):
        stacks(here / "set", 2)
        tifffile.imwrite(here / "set" / "above" / "x.tif", np.zeros((16, 16), np.uint16))
        refuses(
            "train", "set", *QUICK, "--channels", "all", "--out", "run", words=["some have 2, others 1", "--channels 1"]
        )

    def test_one_odd_picture_does_not_decide_for_all(self, run, here):
        fill(here / "set", each=6)
        tifffile.imwrite(here / "set" / "left" / "x.tif", np.zeros((5, 16, 16), np.uint8), imagej=True)
        done = run("train", "set", *QUICK, "--out", "run")
        assert "in colour" in done.out
        assert "x.tif (it has 5 channels, which are not colours" in done.out

    def test_grey_of_channels_that_are_no_colours_is_refused(self, run, here):
        stacks(here / "set", 2)
        done = run("train", "set", *QUICK, "--gray", "--out", "run")
        assert done.code == 1
        assert "it has 2 channels, which are not colours" in done.err

    @pytest.mark.parametrize("page", ["1", "max", "mean"])
    def test_another_page_can_be_asked_for(self, run, here, page):
        stacks(here / "set", 3, axes="ZYX")
        done = run("train", "set", *QUICK, "--gray", "--page", page, "--out", "run")
        assert done.code == 0
        assert str(decoding(here / "run").page) == page
        assert ("left out" in done.out) == (page == "1")


class TestShape:
    def test_size_and_shape_are_said_and_kept(self, run, here):
        fill(here / "set", each=3)
        done = run("train", "set", *QUICK, "--resize", "pad", "--out", "run")
        assert "images of 3 sizes, 30x18 to 28x20 pixels, padded and resized to 29x29, in colour" in done.out
        assert (decoding(here / "run").resizing, arguments(here / "run")["image_size"]) == ("pad", 29)
        assert "image size" in (here / "run" / "report.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize(("side", "chosen"), [(8, 8), (32, 32), (70, 64), (5, 8)])
    def test_small_pictures_are_not_blown_up(self, run, here, side, chosen):
        for name, value in (("dark", 20), ("light", 200)):
            for i in range(4):
                save(here / "set" / name / f"{i}.png", np.full((side, side), value + i, np.uint8))
        assert run("train", "set", *QUICK, "--out", "run").code == 0
        assert decoding(here / "run").shape == (3, chosen, chosen)


OPTIONS = [
    ["--range", "-1e-05", "4095", "--gray"],
    ["--resize", "crop"],
    ["--channels", "2"],
    ["--channels", "all", "--page", "0"],
    ["--page", "max", "--gray"],
    ["--no-digests"],
    [],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_a_run_is_resumed_with_what_was_asked_for_and_chosen(run, here, options):
    stacks(here / "set", 3, axes="TZYX"[-3:] if "max" in options else "CYX", each=6)
    assert run("train", "set", *QUICK, *options, "--out", "whole").code == 0
    assert run("train", "set", *QUICK, *options, "--out", "run").code == 0
    for name in ("metrics.json", "checkpoint.safetensors", "best.safetensors", "last.safetensors"):
        (here / "run" / name).unlink()  # as if it had been broken off before the first epoch
    before = arguments(here / "run")
    done = run("train", "--resume", "run")
    assert (done.code, done.err) == (0, "")
    assert arguments(here / "run") == before
    assert same_end(here / "run", here / "whole")
    assert xpcnn.load("run/best.safetensors").preprocessing == xpcnn.load("whole/best.safetensors").preprocessing
    assert (xpcnn.load("run/best.safetensors").digests is None) == ("--no-digests" in options)


def test_other_pictures_than_those_it_was_chosen_for_do_not_change_the_choice(run, refuses, here):
    stacks(here / "set", 2, each=6)
    assert run("train", "set", *QUICK, "--out", "run").code == 0
    refuses("train", "--resume", "run", "--channels", "1", words=["--channels was 2, is 1"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--range", "1"], "--range"),
        (["--range", "1", "nan"], "expected a number"),
        (["--range", "a", "b"], "expected a number"),
        (["--channels", "0"], "--channels"),
        (["--channels", "some"], "--channels"),
        (["--channels", "2", "--gray"], "not allowed with"),
        (["--page", "-1"], "--page"),
        (["--page", "last"], "expected a page"),
        (["--resize", "squeeze"], "squeeze"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_options_are_usage_errors(run, here, options, word):
    done = run("train", "set", *options)
    assert done.code == 2
    assert word in done.err


@pytest.mark.parametrize("options", [["--channels", "1"], ["--range", "0", "9"]])
def test_the_bundled_digits_take_no_such_options(refuses, options):
    refuses("train", "digits", *options, code=2, words=["needs a folder of images"])


def test_a_range_upside_down_is_one_line(refuses, here):
    deep(here / "set")
    refuses("train", "set", *QUICK, "--range", "5", "1", "--out", "run", words=["low < high"])


def test_a_model_gives_on_its_range_and_channels(run, here):
    stacks(here / "set", 2)
    assert run("train", "set", *QUICK, "--out", "run").code == 0
    done = run("train", "set", "--from", "run/best.safetensors", "--epochs", "1", "--batch-size", "8", "--out", "more")
    assert (done.code, done.err) == (0, "")
    assert decoding(here / "more") == decoding(here / "run")
