"""The commands on real blood cells: 320 images straight from the microscope and a file that no decoder opens."""

import json

import xpcnn


def test_every_original_is_answered_and_the_undecodable_one_says_so(run, here, originals):
    options = ["--epochs", "1", "--gray", "--image-size", "12", "--no-plots"]
    done = run("train", originals, *options, "--out", "run")
    assert done.code == 0
    assert "320 images in 8 classes, 1 skipped" in done.out
    bad = str(originals / "neutrophil" / ".DS_169665.jpg")
    assert bad in (here / "run" / "skipped.csv").read_text()

    images = sorted(str(path) for path in originals.glob("*/[!.]*.jpg"))
    done = run("predict", "run/best.safetensors", *images, bad, "--format", "json")
    assert done.code == 0
    *rows, last = json.loads(done.out)
    assert [row["path"] for row in rows] == images
    assert len(rows) == 320
    classes = xpcnn.load("run/best.safetensors").class_names
    assert all(row["error"] is None and row["label"] in classes for row in rows)
    assert (last["path"], last["label"]) == (bad, None)
    assert "cannot" not in last["error"]
    assert bad in done.err
    assert run("predict", "run/best.safetensors", images[0], bad, "--strict").code == 1


def test_evaluating_the_originals_gives_json(run, originals):
    assert run("train", originals, "--epochs", "1", "--gray", "--image-size", "12", "--out", "run").code == 0
    done = run("evaluate", "run/best.safetensors", originals, "--format", "json")
    assert done.code == 0
    results = json.loads(done.out)
    assert (results["count"], results["skipped"]) == (320, 1)
    assert 0 <= results["accuracy"] <= 1
    assert sum(row["count"] for row in results["classes"]) == 320
