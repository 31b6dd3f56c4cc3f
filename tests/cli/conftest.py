"""Commands in this process and in separate ones, and a small folder of images with a model trained on it."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import xpcnn
from xpcnn import backend, files, layers
from xpcnn.cli import main
from xpcnn.data import Decoding, Preprocessing
from xpcnn.data.opencv import load_opencv
from xpcnn.training.callbacks import StopOnNaN

cv2 = load_opencv()

CLASSES = ("centre", "left", "right")

#: What the directory of a run holds.
FILES = {
    "args.json", "best.safetensors", "checkpoint.safetensors", "history.csv", "last.safetensors", "metrics.json",
    "parts.csv", "predictions.csv", "report.html", "skipped.csv",
}  # fmt: skip


def picture(kind, height, width, colour, seed):
    """Noise that is brighter in the centre, on the left or on the right, (height, width) or (height, width, 3)."""
    shape = (height, width, 3) if colour else (height, width)
    image = np.random.default_rng(seed).normal(70, 15, shape)
    third = width // 3
    start = {"left": 0, "centre": third, "right": 2 * third}[kind]
    image[:, start : start + third] += 110
    return np.clip(image, 0, 255).astype(np.uint8)


def save(path, image):
    """Write a picture in the format of the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(path.suffix, image)
    assert done
    path.write_bytes(encoded.tobytes())
    return path


def fill(folder, classes=CLASSES, each=10, first_seed=0):
    """Write a folder of class folders, in many sizes and formats, grey and in colour; return it."""
    for number, kind in enumerate(classes):
        for i in range(each):
            suffix = (".png", ".jpg", ".bmp")[i % 3]
            image = picture(kind, 18 + i, 30 - i, i % 2 == 0, first_seed + 1000 * number + i)
            save(folder / kind / f"{kind} {i}{suffix}", image)
    return folder


def truncated_jpeg(path):
    """Write the first half of a JPEG."""
    whole = save(path, picture("left", 40, 40, True, seed=7)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def names(folder):
    """The names of the files and folders in a folder."""
    return {path.name for path in folder.iterdir()}


def rows(path):
    """The rows of a CSV file as dictionaries; bytes that are no UTF-8 as Python has them in file names."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def same_run(one, other, moved=False):
    """Assert that two runs wrote the same. moved: their images lie at other places, seen from where they ended."""
    assert names(one) == names(other) == FILES
    lists = {"parts.csv", "predictions.csv", "skipped.csv"} if moved else set()
    for name in FILES - {"args.json", "history.csv", "checkpoint.safetensors", "report.html"} - lists:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in lists:
        for row, expected in zip(rows(one / name), rows(other / name), strict=True):
            found = [os.path.basename(value) for value in row.values()]
            assert found == [os.path.basename(value) for value in expected.values()]
    for row, expected in zip(rows(one / "history.csv"), rows(other / "history.csv"), strict=True):
        assert {**row, "seconds": None} == {**expected, "seconds": None}
    tensors = [files.load_tensors(run / "checkpoint.safetensors")[0] for run in (one, other)]
    for name, array in tensors[0].items():
        if name not in ("record", "history"):  # which hold arguments and seconds
            assert array.tobytes() == tensors[1][name].tobytes(), name


def from_here(arguments):
    """The environment and the command line of ``python -m xpcnn`` for this very package, from any directory."""
    home = str(Path(xpcnn.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return [sys.executable, "-m", "xpcnn", *map(str, arguments)], environment


@pytest.fixture
def as_in_a_terminal():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory to stand in."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def run(here, capsys):
    """A function that runs a command in this process, standing in ``here``: code, out, err."""

    def command(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse: --help, --version and usage errors
            code = stop.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return command


@pytest.fixture
def process(here):
    """A function that runs a command in a process of its own, standing in ``here``: code, out, err."""

    def command(*arguments, **environment):
        line, surroundings = from_here(arguments)
        done = subprocess.run(line, env=surroundings | environment, capture_output=True, timeout=120, check=False)
        return SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    return command


@pytest.fixture
def refuses(run, here):
    """A function that runs a command and asserts: exit 1, one line on stderr that holds all ``words``, nothing left."""

    def command(*arguments, words=(), code=1):
        before = sorted(here.rglob("*"))
        done = run(*arguments)
        assert done.code == code, done
        assert done.out == ""
        assert done.err.count("\n") == 1
        assert done.err.startswith(f"xpcnn {arguments[0]}: ")
        for word in words:
            assert str(word) in done.err
        assert sorted(here.rglob("*")) == before
        return done

    return command


def in_every_step(patch, happen):
    """Let ``happen(step)``, counted from 1, come about while a step's gradient is looked at; on a device, where nobody
    waits to look at it, when the step has ended."""
    if backend.is_host(backend.choose().xp):
        patch.setattr(StopOnNaN, "on_gradient", lambda callback, fit, result: happen(fit.step + 1))
    else:
        patch.setattr(StopOnNaN, "on_step_end", lambda callback, fit: happen(fit.step))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Thirty small images in three class folders, with what else lies about in such folders."""
    folder = fill(tmp_path_factory.mktemp("photos") / "photos")
    truncated_jpeg(folder / "left" / "half.jpg")
    (folder / "left" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "right" / "notes.txt").write_text("to be sorted")
    (folder / "README.txt").write_text("my images")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photos):
    """The directory of a run that learned the photos."""
    out = tmp_path_factory.mktemp("trained") / "run"
    options = ["--epochs", "12", "--batch-size", "8", "--lr", "0.02", "--image-size", "16", "--label-smoothing", "0"]
    assert main(["train", str(photos), *options, "--validation-fraction", "0.25", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def model(trained):
    """The best model of that run."""
    return trained / "best.safetensors"


@pytest.fixture(scope="session")
def tested(tmp_path_factory, trained):
    """A folder of class folders with links to the images of that run's test part."""
    folder = tmp_path_factory.mktemp("tested")
    for row in rows(trained / "parts.csv"):
        (folder / row["class"]).mkdir(exist_ok=True)
        if row["part"] == "test":
            (folder / row["class"] / Path(row["image"]).name).symlink_to(row["image"])
    return folder


@pytest.fixture
def overflowing(tmp_path):
    """A model of "left" and "right" whose weights are finite, and its outputs not."""
    made = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], input_shape=(1, 8, 8))
    made.set_weights({name: np.full_like(value, 3e38) for name, value in made.get_weights().items()})
    made.preprocessing, made.class_names = Preprocessing(Decoding(8, 8, 1), (0.0,), (1.0,)), ("left", "right")
    made.compile()
    made.save(tmp_path / "overflowing.safetensors")
    return tmp_path / "overflowing.safetensors"


@pytest.fixture(scope="session")
def originals(data_folder):
    """The folder of the blood cells as they came from the microscope."""
    return (data_folder / "blood_originals").resolve()
