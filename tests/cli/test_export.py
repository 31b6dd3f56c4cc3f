"""``xpcnn export``: a model as an ONNX file or as a web page, complete or absent."""

import base64
import json
import sys

import numpy as np
import pytest

import xpcnn
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing
from xpcnn.extras import install_line

onnx = pytest.importorskip("onnx")


def metadata(path):
    """The metadata of an ONNX file that is valid."""
    onnx.checker.check_model(str(path), full_check=True)
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


class Scale(layers.Layer):
    def forward(self, params, x, context):
        return 2 * x, lambda dy, gradients: 2 * dy


class TestFile:
    def test_it_is_valid_and_knows_classes_and_images(self, run, here, model):
        done = run("export", model, "cells.onnx")
        assert (done.code, done.err) == (0, "")
        assert done.out == "cells.onnx: takes images of 3x16x16, values from 0 to 255, gives 3 probabilities\n"
        assert [path.name for path in here.iterdir()] == ["cells.onnx"]
        about = metadata(here / "cells.onnx")
        assert json.loads(about["class_names"]) == ["centre", "left", "right"]
        assert json.loads(about["images"])["colours"] == "RGB"

    def test_it_does_not_say_which_images_the_model_was_made_with(self, run, here, model):
        assert run("export", model, "cells.onnx").code == 0
        content = (here / "cells.onnx").read_bytes()
        digests = xpcnn.load(model).digests
        assert len(digests) == 24
        assert not any(digest.tobytes() in content for digest in digests)

    def test_its_answers_are_those_of_the_command_predict(self, run, here, model, photos):
        onnxruntime = pytest.importorskip("onnxruntime")
        assert run("export", model, "cells.onnx").code == 0
        paths = sorted(map(str, photos.glob("*/* [0-2].*")))
        rows = json.loads(run("predict", model, *paths, "--format", "json").out)
        decoding = xpcnn.load(model).preprocessing.decoding
        x = np.stack([xpcnn.data.read_image(path, decoding) for path in paths]).astype(np.float32)
        (y,) = onnxruntime.InferenceSession("cells.onnx").run(None, {"images": x})
        names = json.loads(metadata("cells.onnx")["class_names"])
        for row, probabilities in zip(rows, y, strict=True):
            assert {one["label"]: one["probability"] for one in row["top"]} == pytest.approx(
                dict(zip(names, probabilities.tolist(), strict=True)), abs=1e-5
            )

    def test_a_model_without_preprocessing_takes_images_as_they_are(self, run, here):
        made = xpcnn.Sequential([layers.Flatten(), layers.Dense(1, "sigmoid")], input_shape=(1, 4, 6))
        made.save(here / "made.safetensors")
        done = run("export", "made.safetensors", "made.onnx")
        assert done.out == "made.onnx: takes images of 1x4x6, normalised as in training, gives 1 probability\n"
        assert metadata(here / "made.onnx") == {}

    def test_an_earlier_one_is_replaced_whole_or_not_at_all(self, run, here, model, monkeypatch):
        (here / "cells.onnx").write_text("earlier")
        with monkeypatch.context() as patch:
            patch.setattr(onnx.helper, "make_model", None)
            assert run("export", model, "cells.onnx").code == 1
        assert (here / "cells.onnx").read_text() == "earlier"
        assert run("export", model, "cells.onnx").code == 0
        metadata(here / "cells.onnx")
        assert [path.name for path in here.iterdir()] == ["cells.onnx"]

    def test_capitals_in_the_ending_and_codes_in_the_name_do_no_harm(self, run, here, model):
        done = run("export", model, "\x1b[31m.ONNX")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(r"\x1b[31m.ONNX: ")


class TestPage:
    """Whether its answers are right is tested in a browser, in ``tests/formats/html``."""

    def test_it_is_one_file_that_says_what_it_is(self, run, here, model):
        done = run("export", model, "cells.html")
        assert (done.code, done.err) == (0, "")
        assert done.out == "cells.html: a page of 0.3 MB that sorts pictures into 3 classes, in any browser, offline\n"
        assert [path.name for path in here.iterdir()] == ["cells.html"]
        assert "<h1>cells</h1>" in (here / "cells.html").read_text(encoding="utf-8")

    def test_it_does_not_say_which_images_the_model_was_made_with(self, run, here, model):
        assert run("export", model, "cells.HTML").code == 0
        content = (here / "cells.HTML").read_text(encoding="utf-8")
        for digest in xpcnn.load(model).digests:
            assert digest.tobytes().hex() not in content
            assert base64.b64encode(digest.tobytes()).decode().rstrip("=") not in content

    def test_it_needs_no_onnx(self, run, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnx", None)
        assert run("export", model, "cells.html").code == 0

    def test_a_model_without_preprocessing(self, refuses, here):
        xpcnn.Sequential([layers.Flatten(), layers.Dense(1, "sigmoid")], (1, 4, 6)).save(here / "made.safetensors")
        refuses("export", "made.safetensors", "made.html", words=["with no preprocessing", "`xpcnn train`"])

    def test_a_layer_of_ones_own(self, refuses, here):
        xpcnn.Sequential([Scale(), layers.Flatten(), layers.Dense(2)], (1, 4, 4)).save(here / "own.safetensors")
        refuses("export", "own.safetensors", "own.html", words=["'own.safetensors'", "for the kind 'scale'"])

    @pytest.mark.parametrize(
        ("decoding", "told"),
        [
            ({"channels": 2, "as_channels": True}, "channels as they are in the files"),
            ({"channels": 1, "range": (0, 4095)}, "a range of values of more than 8 bits"),
            ({"channels": 1, "page": "max"}, "page max of a stack"),
            ({"channels": 3, "generation": 1}, "the decoding of version 0.1.0"),
        ],
    )
    def test_other_pictures_than_a_page_reads(self, refuses, here, decoding, told):
        made = Decoding(4, 6, **decoding)
        model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2)], (made.channels, 4, 6))
        model.preprocessing = Preprocessing(made, (0.0,) * made.channels, (1.0,) * made.channels)
        model.save(here / "made.safetensors")
        refuses("export", "made.safetensors", "made.html", words=[f"this model takes {told}", "Use `xpcnn predict`"])

    @pytest.mark.parametrize("name", ["nowhere/cells.html", "folder.html"])
    def test_one_that_cannot_be_written(self, refuses, here, model, name):
        (here / "folder.html").mkdir()
        refuses("export", model, name, words=[repr(name)])


class TestRefusals:
    @pytest.mark.parametrize("name", ["nowhere/cells.onnx", "file/cells.onnx", "folder.onnx"])
    def test_one_that_cannot_be_written(self, refuses, here, model, name):
        (here / "file").write_text("a file")
        (here / "folder.onnx").mkdir()
        refuses("export", model, name, words=[repr(name)])

    @pytest.mark.parametrize("name", ["cells", "cells.pt", "cells.safetensors", "onnx", ".onnx/cells", ""])
    def test_another_ending(self, refuses, here, model, name):
        refuses("export", model, name, words=["must end in .onnx or .html", f"received {name!r}"], code=2)

    def test_the_model_itself_in_place_of_the_file(self, refuses, here, model):
        before = model.read_bytes()
        refuses("export", model, model, words=["must end in .onnx"], code=2)
        assert model.read_bytes() == before

    def test_without_onnx(self, refuses, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnx", None)
        refuses("export", model, "cells.onnx", words=[f"Run `{install_line('onnx')}`."])

    def test_a_layer_of_ones_own(self, refuses, here):
        xpcnn.Sequential([Scale(), layers.Flatten(), layers.Dense(2)], (1, 4, 4)).save(here / "own.safetensors")
        refuses("export", "own.safetensors", "own.onnx", words=["'own.safetensors'", "for the kind 'scale'"])

    def test_what_is_no_model(self, refuses, trained, photos):
        refuses("export", "nowhere", "cells.onnx", words=["no model file 'nowhere'"])
        refuses("export", trained, "cells.onnx", words=["is a directory", trained / "best.safetensors"])
        refuses("export", photos / "README.txt", "cells.onnx", words=["README.txt", "not a model file, or is damaged"])
        refuses("export", trained / "checkpoint.safetensors", "cells.onnx", words=["it is a checkpoint, not a model"])

    def test_a_truncated_model(self, refuses, here, model):
        (here / "cut.safetensors").write_bytes(model.read_bytes()[:-10])
        refuses("export", "cut.safetensors", "cells.onnx", words=["'cut.safetensors'", "damaged"])

    def test_a_preprocessing_of_other_images(self, refuses, here, model):
        other = xpcnn.load(model)
        grey = xpcnn.data.Preprocessing(xpcnn.data.Decoding(16, 16, 1), (0.0,), (1.0,))
        other.preprocessing = grey
        other.save(here / "other.safetensors")
        refuses("export", "other.safetensors", "cells.onnx", words=["(3, 16, 16)", "(1, 16, 16)"])


def test_a_process_of_its_own_writes_it_and_help_names_it(process, here, model):
    done = process("export", model, "cells.onnx")
    assert (done.code, done.err) == (0, "")
    assert "gives 3 probabilities" in done.out
    metadata(here / "cells.onnx")
    assert "Write a model as an ONNX file or as a web page" in process("--help").out
