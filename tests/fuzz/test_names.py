"""Folders and files with names of every kind, cyclic links, and models whose names point outside their folder."""

import json
import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import FILES, from_here, picture, save
from tests.fuzz.images import gif
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing, read_image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither such names nor such links")

#: What files and folders may be called, as bytes.
NAMES = [
    b"two\nlines", "\U0001f408 émoji".encode(), b"caf\xe9", b"\x1b[2J\x1b]0;title\x07", b"-rf", b"--output",
    b"$(touch here)", b"; touch here", b"%s%n", b"a" * 200, b" ", b"..png", b"tab\tand\rreturn",
    "\u202egnp.exe".encode(), b"con", b"'\"`",
]  # fmt: skip

#: A class folder that begins with a dot is hidden.
CLASSES = [os.fsdecode(name) for name in NAMES if not name.startswith(b".")]
EACH = 5

#: Layers, classes and tensors of a model may be called so too.
CLIMBING = [
    "../../outside",
    "/tmp/outside-of-it",
    "a\\..\\outside",
    "\x1b[2J\nxpcnn: trained",
    "C:outside",
    "~/.profile",
]


@pytest.fixture
def place(tmp_path):
    """A function that runs a command in a process of its own, and what else lies where it could write."""
    for name in ("home", "here", "temporary", "data"):
        (tmp_path / name).mkdir()
    folder = SimpleNamespace(home=tmp_path / "home", here=tmp_path / "here", data=tmp_path / "data")

    def contents():
        return {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}

    def run(*arguments):
        """Run a command; returns its code, out and err, and what it has left outside of ``here/runs``."""
        line, environment = from_here([os.fspath(a) if isinstance(a, os.PathLike) else a for a in arguments])
        environment |= {"HOME": str(folder.home), "TMPDIR": str(tmp_path / "temporary")}
        before = contents()
        done = subprocess.run(line, env=environment, cwd=folder.here, capture_output=True, timeout=60, check=False)
        left = {path for path in contents() ^ before if path.parts[:2] != ("here", "runs")}
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr.decode(), left=left)

    folder.run = run
    return folder


def one_line(done, command):
    """Assert that a command said one line on stderr, beside what it passed over, without codes that move the cursor."""
    told = [line for line in done.err.splitlines() if not line.startswith("xpcnn predict: not images: ")]
    assert len(told) == 1, done.err
    assert told[0].startswith(f"xpcnn {command}: ") or " could not be read" in told[0]
    assert all(line.isprintable() for line in done.err.splitlines())
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err


def photographs(folder, names):
    """Write a small picture under each name; return the folder."""
    for number, name in enumerate(names):
        seed = [number, *os.fsencode(folder.name)]  # a copy would be told of
        save(folder / name, picture(("left", "right")[number % 2], 9, 9, True, seed))
    return folder


@pytest.fixture
def hostile(place):
    """A folder of classes and images with names of every kind, links that loop and what only looks like an image."""
    root = place.data / "set"
    for name in CLASSES:
        photographs(root / name, [f"{number}.png" for number in range(EACH)])
    cats = photographs(root / "cats", [os.fsdecode(name) + ".png" for name in NAMES])
    (cats / "itself.png").symlink_to(cats / "itself.png")
    (cats / "one.png").symlink_to(cats / "other.png")
    (cats / "other.png").symlink_to(cats / "one.png")
    (cats / "up").symlink_to(root)
    (cats / "nowhere.png").symlink_to(place.data / "nothing")
    (cats / "folder.png").mkdir()
    (cats / "zero.png").touch()
    os.mkfifo(cats / "pipe.png")
    (cats / "huge.gif").write_bytes(gif(65535, 65535))
    (root / "around").symlink_to(root / "around")
    return root


@pytest.mark.slow
def test_a_folder_of_hostile_names_is_trained_on_measured_and_predicted(tally, place, hostile):
    with tally.case("folder of hostile names", "train"):
        done = place.run("train", hostile, "--epochs", "1", "--image-size", "8")
        assert (done.code, done.left) == (0, set()), done
        assert b"\x1b" not in done.out
    model = place.here / "runs" / "train" / "best.safetensors"
    with tally.case("folder of hostile names", "evaluate"):
        done = place.run("evaluate", model, hostile)
        assert (done.code, done.left) == (0, set()), done
        assert f"({len(NAMES) + EACH * len(CLASSES)} images, 7 skipped)".encode() in done.out
        assert b"\x1b" not in done.out
    with tally.case("folder of hostile names", "info"):
        done = place.run("info", model)
        assert (done.code, done.err, done.left) == (0, "", set()), done
        assert b"\x1b" not in done.out
    paths = sorted((hostile / "cats").iterdir())
    with tally.case("folder of hostile names", "predict, as a table"):
        done = place.run("predict", model, *paths)
        assert (done.code, done.left, done.out.count(b"\n")) == (0, set(), len(paths)), done
        assert b"\x1b" not in done.out
        one_line(done, "predict")
    done = place.run("predict", model, *paths, "--format", "jsonl")
    for path, row in zip(paths, map(json.loads, done.out.splitlines()), strict=True):
        with tally.case("image of a hostile name", repr(path.name)) as case:
            assert row["path"] == str(path)
            readable = path.is_file() and path.name not in ("zero.png", "huge.gif")
            assert (row["error"] is None, row["label"] is None) == (readable, not readable)
            if not readable:
                assert row["error"].isprintable()
                case.refused()


@pytest.fixture
def climbing(place):
    """A model file whose layers, tensors and classes are called like files elsewhere."""
    stack = [layers.Flatten(name=CLIMBING[0]), layers.Dense(8, name=CLIMBING[1]), layers.ReLU(name=CLIMBING[2])]
    stack.append(layers.Dense(len(CLIMBING), "softmax", name=CLIMBING[3]))
    model = xpcnn.Sequential(stack, (1, 8, 8), np)
    model.compile()
    model.class_names, model.preprocessing = tuple(CLIMBING), Preprocessing(Decoding(8, 8, 1), (0.0,), (1.0,))
    model.save(place.data / "model.safetensors")
    return place.data / "model.safetensors"


@pytest.mark.slow
def test_names_in_a_model_lead_nowhere(tally, place, climbing):
    root = place.data / "set"
    for name in (CLIMBING[2], CLIMBING[4]):
        photographs(root / name, [f"{number}.png" for number in range(6)])
    image = save(place.data / "image.png", picture("left", 9, 9, True, 0))
    for command in (
        ("info", climbing),
        ("predict", climbing, image),
        ("evaluate", climbing, root),
        ("train", root, "--from", climbing, "--epochs", "1"),
    ):
        with tally.case("names in a model that climb", command[0]):
            done = place.run(*command)
            assert (done.code, done.err, done.left) == (0, "", set()), done
            assert b"\x1b" not in done.out
    assert {path.name for path in (place.here / "runs" / "train").iterdir()} == FILES


def test_a_damaged_model_leaves_nothing(tally, place, climbing):
    image = save(place.data / "image.png", picture("left", 9, 9, True, 0))
    half, pickled = climbing.read_bytes()[:500], b"\x80\x04cos\nsystem\n(S'touch here'\ntR."
    for damaged, *command in ((half, "predict", climbing, image, "-o", "answers.csv"), (pickled, "info", climbing)):
        climbing.write_bytes(damaged)
        with tally.case("model file, by a process", command[0]) as case:
            done = place.run(*command)
            assert (done.code, done.out, done.left) == (1, b"", set())
            one_line(done, command[0])
            case.refused()


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    (tmp_path / "a.gif").write_bytes(gif(1, 1, frames=3))
    assert read_image(tmp_path / "a.gif", Decoding(1, 1, 3)).ravel().tolist() == [255, 0, 0]
