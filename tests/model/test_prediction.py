"""``predict_images``: one entry point for files, bytes and raw pixels, with the same bits as the command."""

import io
import json
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

import xpcnn
from tests.data.conftest import picture, save
from xpcnn import data, layers
from xpcnn.cli import main
from xpcnn.data import Decoding, Preprocessing


def made(decoding, mean=100.0, deviation=50.0, names=("a", "b", "c")):
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(len(names), activation="softmax")]
    model = xpcnn.Sequential(stack, input_shape=decoding.shape, seed=1)
    model.compile()
    model.preprocessing = Preprocessing(decoding, (mean,) * decoding.channels, (deviation,) * decoding.channels)
    model.class_names = names
    return model


@pytest.fixture
def model():
    return made(Decoding(8, 10, 3))


@pytest.fixture
def files(tmp_path):
    return [save(tmp_path / f"{i}.png", picture(20 + i, 15, 3, seed=i)) for i in range(5)]


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "set" / name / "1.png", picture(6, 6, 1))
    return data.Folder(tmp_path / "set", Decoding(6, 6, 1))


def expected(model, path):
    image = data.read_image(path, model.preprocessing.decoding)
    return model.predict(model.preprocessing.normalize(image[None]))[0]


class TestSources:
    def test_paths(self, model, files):
        found = model.predict_images(files)
        assert len(found) == 5
        assert found.errors == [None] * 5
        assert found.probabilities.dtype == np.float32
        for path, label, probabilities in zip(files, found.labels, found.probabilities, strict=True):
            np.testing.assert_allclose(probabilities, expected(model, path), rtol=1e-5)
            assert label == "abc"[probabilities.argmax()]

    def test_bytes_file_objects_and_raw_pixels_are_answered_as_paths_are(self, model, files):
        found = model.predict_images(files).probabilities
        given = [
            files[0],
            str(files[1]),
            files[2].read_bytes(),
            io.BytesIO(files[3].read_bytes()),
            picture(24, 15, 3, seed=4),
        ]
        np.testing.assert_array_equal(model.predict_images(given).probabilities, found)
        given[3] = io.BytesIO(files[3].read_bytes())
        np.testing.assert_array_equal(model.predict_images(iter(given)).probabilities, found)

    def test_one_alone_needs_no_list(self, model, files):
        found = model.predict_images([files[0]]).probabilities
        with files[0].open("rb") as file:
            for one in (files[0], str(files[0]), files[0].read_bytes(), file):
                np.testing.assert_array_equal(model.predict_images(one).probabilities, found)

    def test_an_array_of_raw_pixels(self, model, tmp_path):
        pixels = np.stack([picture(9, 9, 3, seed=i) for i in range(3)])
        paths = [save(tmp_path / f"{i}.bmp", image) for i, image in enumerate(pixels)]
        found = model.predict_images(pixels.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(found.probabilities, model.predict_images(paths).probabilities)

    def test_grey_pixels_have_two_axes_or_three(self, files):
        model = made(Decoding(8, 8, 1))
        grey = picture(12, 9, 1)
        one, other = model.predict_images([grey, grey[:, :, None]]).probabilities
        np.testing.assert_array_equal(one, other)

    def test_transparency_is_dropped(self, model):
        image = picture(8, 10, 3)
        one, other = model.predict_images([image, np.dstack([image, image[:, :, 0]])]).probabilities
        np.testing.assert_array_equal(one, other)

    def test_pixels_of_16_bits_go_through_the_range(self, tmp_path):
        model = made(Decoding(8, 8, 1, range=(0, 4095)))
        deep = (picture(8, 8, 1).astype(np.uint16)) * 16
        found = model.predict_images([save(tmp_path / "a.png", deep), deep])
        np.testing.assert_array_equal(*found.probabilities)

    def test_a_folder(self, model, folder):
        found = model.predict_images(folder)
        np.testing.assert_array_equal(found.probabilities, model.predict_images(folder.paths).probabilities)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16"])
    def test_an_image_of_pillow_is_taken_as_its_file(self, tmp_path, mode):
        model = made(Decoding(12, 9, 3))
        image = Image.fromarray(picture(12, 9, 3)).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(tmp_path / "a.tif")
        one, other = model.predict_images([tmp_path / "a.tif", image]).probabilities
        np.testing.assert_allclose(one, other, atol=0.01 if mode == "CMYK" else 0)

    def test_an_image_of_pillow_is_turned_as_its_exif_says(self, tmp_path):
        model = made(Decoding(9, 12, 3))
        exif = Image.Exif()
        exif[0x112] = 6
        Image.fromarray(picture(9, 12, 3)).save(tmp_path / "a.png", exif=exif)
        one, other = model.predict_images([tmp_path / "a.png", Image.open(tmp_path / "a.png")]).probabilities
        np.testing.assert_array_equal(one, other)

    def test_an_array_of_names_is_a_list_of_them(self, model, files):
        given = np.array([str(path) for path in files])
        np.testing.assert_array_equal(
            model.predict_images(given).probabilities, model.predict_images(files).probabilities
        )

    def test_the_order_of_bytes_of_an_array_does_not_matter(self, model):
        deep = picture(8, 10, 3).astype(np.uint16) * 257
        one, other = model.predict_images([deep, deep.astype(">u2")]).probabilities
        np.testing.assert_array_equal(one, other)

    def test_a_name_with_a_null_byte_is_an_error_of_its_own(self, model, files):
        assert model.predict_images(["a\0b", files[0]]).errors == ["its name contains a null byte", None]

    def test_none_at_all(self, model):
        found = model.predict_images([])
        assert (found.labels, found.errors, found.probabilities.shape) == ([], [], (0, 3))

    @pytest.mark.parametrize("shape", [(8, 8), (2, 8, 10, 3), (5, 2, 8, 8)])
    def test_arrays_of_another_shape_are_refused(self, model, shape):
        with pytest.raises(ValueError, match=r"\(n, channels, height, width\), or as a list .* Received an array"):
            model.predict_images(np.zeros(shape, np.uint8))

    def test_a_list_of_numbers_is_refused(self, model):
        with pytest.raises(ValueError, match="A picture must be a path"):
            model.predict_images([1, 2])


class TestErrors:
    def test_what_cannot_be_read_says_why_and_the_rest_is_answered(self, model, files, tmp_path):
        given = [tmp_path / "none.png", files[0], b"no image", np.zeros((0, 5), np.uint8), io.StringIO("text")]
        found = model.predict_images(given)
        assert [label is None for label in found.labels] == [True, False, True, True, True]
        assert np.isnan(found.probabilities).all(axis=1).tolist() == [True, False, True, True, True]
        for error, word in zip(
            found.errors, ("No such file", None, "not one that xpcnn reads", "without pixels", "binary"), strict=True
        ):
            assert (error is None) if word is None else (word in error)

    def test_raw_floats_of_a_model_for_bytes_are_an_error(self, model):
        (error,) = model.predict_images([np.random.default_rng(0).random((8, 10, 3))]).errors
        assert "no range says which are black and white" in error

    @pytest.mark.parametrize("values", [np.array([[np.nan]]), np.zeros((2, 2), complex), np.zeros((2, 2), np.int64)])
    def test_values_that_no_file_holds_are_an_error(self, model, values):
        assert model.predict_images([values]).errors != [None]

    def test_a_model_without_preprocessing_is_refused(self):
        model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2)], input_shape=(1, 4, 4))
        with pytest.raises(ValueError, match="Received: no preprocessing"):
            model.predict_images(["a.png"])

    def test_a_preprocessing_that_does_not_fit_is_refused(self, model):
        model.preprocessing = Preprocessing(Decoding(9, 9, 3), (0.0,) * 3, (1.0,) * 3)
        with pytest.raises(ValueError, match="Set a preprocessing that fits"):
            model.predict_images(["a.png"])


def test_what_is_left_out_of_stacks_is_said(model, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((4, 9, 9), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    with pytest.warns(UserWarning, match="left out: all pages except page 0 of 1 image with up to 4 pages"):
        model.predict_images([tmp_path / "stack.tif"])


def test_without_class_names_labels_are_numbers(model, files):
    model.class_names = None
    assert set(model.predict_images(files).labels) <= {"0", "1", "2"}


def test_one_output_tells_two_classes_apart(files):
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(1, activation="sigmoid")], input_shape=(1, 4, 4))
    model.preprocessing, model.class_names = Preprocessing(Decoding(4, 4, 1), (0.0,), (99.0,)), ("no", "yes")
    found = model.predict_images(files)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert found.labels == [("no", "yes")[row] for row in found.probabilities.argmax(axis=1)]


@pytest.mark.parametrize("augment", ["none", "light"])
def test_the_command_gives_the_same_bits(model, files, tmp_path, capsys, augment):
    model.save(tmp_path / "model.safetensors")
    names = [str(path) for path in files]
    assert main(["predict", str(tmp_path / "model.safetensors"), *names, "--format", "json", "--augment", augment]) == 0
    rows = json.loads(capsys.readouterr().out)
    found = xpcnn.load(tmp_path / "model.safetensors").predict_images(names, augment=augment)
    assert [row["label"] for row in rows] == found.labels
    for row, probabilities in zip(rows, found.probabilities, strict=True):
        assert {one["label"]: one["probability"] for one in row["top"]} == dict(
            zip("abc", probabilities.tolist(), strict=True)
        )


class TestRawPixelsForPredict:
    """Arrays for ``predict`` and ``evaluate`` are normalised, where the model says how."""

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
    @pytest.mark.parametrize("method", ["predict", "evaluate", "calibrate"])
    def test_integers_are_refused_with_both_ways_out(self, model, dtype, method):
        x = np.ones((2, 3, 8, 10), dtype)
        with pytest.raises(ValueError, match=r"raw pixels \(.*model.predict_images.*preprocessing.normalize"):
            getattr(model, method)(x, *([] if method == "predict" else [np.zeros(2, int)]))

    def test_a_folder_is_refused_too(self, folder):
        with pytest.raises(ValueError, match=r"model\.predict_images"):
            made(folder.decoding).predict(folder)

    @pytest.mark.parametrize(
        "x",
        [
            np.random.default_rng(0).uniform(0, 1, (2, 3, 8, 10)),
            np.random.default_rng(0).uniform(0, 255, (2, 3, 8, 10)),
        ],
        ids=["0 to 1", "0 to 255"],
    )
    def test_floats_that_look_raw_are_warned_of_once(self, model, x):
        with pytest.warns(UserWarning, match="do not look normalised"):
            model.predict(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.predict(x)

    def test_normalised_ones_are_not(self, model):
        images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 10), dtype=np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.predict(model.preprocessing.normalize(images))
            model.predict(data.Normalized(images, np.arange(3), model.preprocessing))
            model.predict(np.zeros((1, 3, 8, 10)))

    def test_a_model_without_preprocessing_takes_what_it_is_given(self):
        model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2)], input_shape=(1, 4, 4))
        assert model.predict(np.ones((1, 1, 4, 4), np.uint8)).shape == (1, 2)


@pytest.mark.parametrize("images", [3, 70])
def test_images_of_all_parts_decide_whether_kernels_are_worth_compiling(monkeypatch, images):
    pytest.importorskip("numba")
    model = made(Decoding(8, 10, 3))
    raw = np.random.default_rng(0).integers(0, 256, (images, 3, 8, 10), np.uint8)
    expected = model.to("numba" if images == 70 else "numpy").predict_images(raw).probabilities
    monkeypatch.setattr("xpcnn.backend.WORTH_COMPILING", model.network.multiplications * 70)
    np.testing.assert_array_equal(model.to("auto").predict_images(raw).probabilities, expected)
