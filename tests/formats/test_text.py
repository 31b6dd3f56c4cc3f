"""Eight text files: those by the first origin's formulas are read, and written ones predict the same."""

import tracemalloc

import numpy as np
import pytest

from tests import reference
from xpcnn import Sequential, presets
from xpcnn.data import Decoding, Preprocessing
from xpcnn.formats import text

SIDE = 22


def write(folder, arrays):
    """Write eight arrays as the first origin does: flattened, by NumPy's savetxt."""
    folder.mkdir(exist_ok=True)
    for name, array in zip((*text.WEIGHTS, *text.BIASES), arrays, strict=True):
        np.savetxt(folder / name, array.flatten(), delimiter=", ")


def drawn(pooled, filters=(10, 10), units=96, classes=8, side=SIDE):
    rng = np.random.default_rng(0)
    out = ((side - 4) // 2 - 4) // 2 if pooled else (side - 8) // 2
    shapes = [
        (filters[0], 1, 5, 5), (filters[1], filters[0], 5, 5), (units, filters[1] * out * out), (classes, units),
        (filters[0], 1), (filters[1], 1), (units, 1), (classes, 1),
    ]  # fmt: skip
    return [rng.normal(0, 0.1, shape) for shape in shapes]


def pooled_by_two(x):
    n, channels, height, width = x.shape
    return x[:, :, : height // 2 * 2, : width // 2 * 2].reshape(n, channels, height // 2, 2, width // 2, 2).max((3, 5))


def predicted(arrays, x, pooled):
    """Return what the origin's prediction gives, with its softmax shifted."""
    f1, f2, w3, w4, b1, b2, b3, b4 = arrays
    first = np.maximum(reference.conv2d(x, f1) + b1[:, :, None], 0)
    second = np.maximum(reference.conv2d(pooled_by_two(first) if pooled else first, f2) + b2[:, :, None], 0)
    z = np.maximum(pooled_by_two(second).reshape(len(x), -1) @ w3.T + b3[:, 0], 0)
    logits = z @ w4.T + b4[:, 0]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"filters": (3, 4), "units": 7, "classes": 2}])
def test_files_of_the_seeds_formulas_are_read_and_the_count_decides_which_network_it_is(tmp_path, pooled, sizes):
    arrays = drawn(pooled, **sizes)
    arrays[0] /= 255
    write(tmp_path, arrays)
    model = text.load(tmp_path, (1, SIDE, SIDE), "numpy")
    x = np.random.default_rng(1).integers(0, 256, (3, 1, SIDE, SIDE)).astype(float)
    assert len(model.layers) == len(presets.blood((1, SIDE, SIDE), 8)) - (not pooled)
    np.testing.assert_allclose(model.predict(x), predicted(arrays, x, pooled), rtol=1e-4, atol=1e-6)
    assert model.preprocessing.normalize(x.astype(np.uint8)).max() == x.max(), "pixels are taken as they are"


def test_at_the_seeds_own_size_it_is_96_by_4410_or_96_by_810(tmp_path):
    for pooled, features in ((True, 810), (False, 4410)):
        write(tmp_path, drawn(pooled, side=50))
        assert text.load(tmp_path).parameters["dense_1.weight"].shape == (96, features)


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    model = Sequential(presets.blood((1, SIDE, SIDE), 5), (1, SIDE, SIDE), "numpy", seed=3)
    text.save(model, tmp_path / "new" / "folder")
    again = text.load(tmp_path / "new" / "folder", (1, SIDE, SIDE), "numpy")
    for name, value in model.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], value)
    assert np.loadtxt(tmp_path / "new" / "folder" / "filter2.txt").reshape(10, 10, 5, 5).shape == (10, 10, 5, 5)


def test_how_images_are_normalised_is_part_of_the_first_filters(tmp_path):
    model = Sequential(presets.blood((1, SIDE, SIDE), 5), (1, SIDE, SIDE), "numpy")
    model.preprocessing = Preprocessing(Decoding(SIDE, SIDE, 1), (120.0,), (40.0,))
    text.save(model, tmp_path)
    again = text.load(tmp_path, (1, SIDE, SIDE), "numpy")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 1, SIDE, SIDE), dtype=np.uint8)
    np.testing.assert_allclose(
        again.predict(again.preprocessing.normalize(pixels)),
        model.predict(model.preprocessing.normalize(pixels)),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "weight3.txt",
            "1 2 3",
            r"'.*weight3.txt' contains 3 numbers, but a network of these sizes takes 3,840 or",
        ),
        ("filter2.txt", "1, 2", r"'.*filter2.txt' contains 2 numbers, but the network takes 2,500: 10 x 10 x 5 x 5"),
        ("bias1.txt", "1\n2\nthree", r"'.*bias1.txt' contains 'three' as number 3, which must be finite"),
        ("bias2.txt", "1 nan", r"contains 'nan' as number 2"),
        ("bias2.txt", "1 1e39", r"contains '1e39' as number 2"),
        ("bias4.txt", "", r"'.*bias4.txt' contains no numbers"),
        ("filter1.txt", "\x00\xff", "as number 1, "),
    ],
)
def test_a_file_that_does_not_fit_is_named_in_one_line(tmp_path, file, content, message):
    write(tmp_path, drawn(True))
    (tmp_path / file).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as error:
        text.load(tmp_path, (1, SIDE, SIDE), "numpy")
    assert "\n" not in str(error.value)


def test_numbers_are_read_whole_wherever_the_text_is_cut(tmp_path, monkeypatch):
    write(tmp_path, drawn(True))
    expected = text.load(tmp_path, (1, SIDE, SIDE), "numpy").get_weights()
    for characters in (1, 2, 7, 1000):
        monkeypatch.setattr(text, "_CHARACTERS", characters)
        for name, value in text.load(tmp_path, (1, SIDE, SIDE), "numpy").get_weights().items():
            np.testing.assert_array_equal(value, expected[name])


def test_files_of_a_huge_network_are_refused_before_memory_is_taken_for_it(tmp_path):
    write(tmp_path, drawn(True))
    for name in ("bias3.txt", "bias4.txt"):
        (tmp_path / name).write_text("1\n" * 200_000)
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"weight3.txt' contains 3,840 numbers, but a network of these sizes takes 8,000,000"
    ):
        text.load(tmp_path, (1, SIDE, SIDE), "numpy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path, drawn(True))
    (tmp_path / "bias3.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"bias3\.txt"):
        text.load(tmp_path, (1, SIDE, SIDE))


def test_models_that_do_not_fit_the_files_are_refused(tmp_path):
    small = Sequential(presets.small((1, SIDE, SIDE), 5), (1, SIDE, SIDE), "numpy")
    with pytest.raises(ValueError, match="two convolutions and two dense layers, each with a bias"):
        text.save(small, tmp_path)
    colour = Sequential(presets.blood((3, SIDE, SIDE), 5), (3, SIDE, SIDE), "numpy")
    with pytest.raises(ValueError, match="grey images"):
        text.save(colour, tmp_path)
    model = Sequential(presets.blood((1, SIDE, SIDE), 5), (1, SIDE, SIDE), "numpy")
    model.preprocessing = Preprocessing(Decoding(SIDE, SIDE, 1), (0.0,), (1.0,), per_image=True)
    with pytest.raises(ValueError, match="each image has its own"):
        text.save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
