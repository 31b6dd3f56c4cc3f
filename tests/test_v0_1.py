"""What version 0.1.0 wrote can be read and resumed, with the same predictions."""

import shutil

import numpy as np
import pytest

import xpcnn
from tests import cases
from tests.fixtures import make_v0_1_blocks
from xpcnn.callbacks import Checkpoint
from xpcnn.cli import main
from xpcnn.data import Decoding, Preprocessing, read_image
from xpcnn.training.checkpoints import ARITHMETIC

FOLDER = cases.FOLDER / "v0_1"


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The pictures and the run that was broken off, in a directory to stand in."""
    shutil.copytree(FOLDER, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def first_generation(channels):
    """The decoding that a file of version 0.1.0 holds."""
    return Decoding.from_json({"height": 12, "width": 12, "channels": channels, "resizing": "stretch"})


@pytest.mark.parametrize(("name", "channels"), [("colour", 3), ("grey", 1)])
def test_pictures_are_decoded_as_they_were(expected, name, channels):
    for path, image in zip(expected["paths"], expected[name], strict=True):
        np.testing.assert_array_equal(read_image(FOLDER / str(path), first_generation(channels)), image, str(path))


def test_a_model_answers_as_it_did(expected):
    model = xpcnn.load(FOLDER / "model.safetensors")
    assert isinstance(model.preprocessing, Preprocessing)
    assert len(model.preprocessing.std) == model.preprocessing.decoding.channels  # "deviation" in the file
    images = np.stack([read_image(FOLDER / str(path), model.preprocessing.decoding) for path in expected["paths"]])
    outputs = model.predict(model.preprocessing.normalize(images))
    np.testing.assert_allclose(outputs, expected["probabilities"], rtol=1e-3, atol=1e-5)


def test_a_model_saved_again_holds_the_same_description(tmp_path):
    model = xpcnn.load(FOLDER / "model.safetensors")
    model.save(tmp_path / "again.safetensors")
    assert xpcnn.load(tmp_path / "again.safetensors").preprocessing == model.preprocessing


@pytest.mark.parametrize("checkpoint", [True, False], ids=["from its checkpoint", "from its arguments alone"])
def test_a_run_goes_on_to_the_same_weights(copied, expected, checkpoint):
    if not checkpoint:
        (copied / "broken-off" / "checkpoint.safetensors").unlink()
    assert main(["train", "pictures", "--resume", "broken-off"]) == 0
    weights = xpcnn.load("broken-off/last.safetensors").get_weights()
    for name, value in weights.items():  # another processor rounds otherwise
        np.testing.assert_allclose(value, expected[f"last/{name}"], rtol=0.02, atol=0.02, err_msg=name)


# Blocks, batch normalisation and dropout, whose order of work has changed since


def test_a_model_with_blocks_predicts_as_it_did():
    x, _ = make_v0_1_blocks.samples()
    with np.load(FOLDER / "blocks.npz") as arrays:
        outputs = arrays["outputs"]
    predicted = xpcnn.load(FOLDER / "blocks.safetensors").predict(x)
    np.testing.assert_array_equal(predicted.argmax(axis=1), outputs.argmax(axis=1))
    assert abs(predicted - outputs).max() <= 1e-5 * abs(outputs).max()


def test_a_fit_with_blocks_resumes_saying_that_last_bits_may_differ(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    shutil.copy(FOLDER / "blocks-checkpoint.safetensors", path)
    model, (x, y) = make_v0_1_blocks.build(), make_v0_1_blocks.samples()
    with pytest.warns(UserWarning, match=rf"arithmetic was 1, is {ARITHMETIC}.*Results may not be bit-identical"):
        history = model.fit(x, y, resume=path, callbacks=[Checkpoint(path)], **make_v0_1_blocks.ARGUMENTS)
    with np.load(FOLDER / "blocks.npz") as arrays:
        np.testing.assert_allclose(history.steps, arrays["steps"], rtol=1e-3)
        for name, value in model.get_weights().items():  # another processor rounds otherwise
            np.testing.assert_allclose(value, arrays[f"weights/{name}"], rtol=0.02, atol=0.02, err_msg=name)
