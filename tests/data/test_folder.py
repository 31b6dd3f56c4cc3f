"""A folder as an array that is never in memory as a whole."""

import numpy as np
import pytest

import xpcnn
from tests.data.conftest import save
from xpcnn import data, layers
from xpcnn.data import folder as module

TINY = data.Decoding(height=6, width=6, channels=1)


@pytest.fixture
def root(class_folders):
    return class_folders({f"{name}/{i}.png": 20 * i + 100 * (name == "b") for name in "ab" for i in range(6)})


def test_its_rows_are_those_of_the_loaded_folder(root):
    lazy, loaded = data.Folder(root, TINY), data.load_folder(root, TINY)
    assert (lazy.shape, lazy.dtype, len(lazy)) == (loaded.x.shape, np.uint8, 12)
    for rows in (slice(None), slice(2, 5), np.array([7, 0, 7]), [1], np.array([], int)):
        np.testing.assert_array_equal(lazy[rows], loaded.x[rows])
    np.testing.assert_array_equal(lazy.y, loaded.y)
    assert (lazy.classes, lazy.paths, lazy.parts) == (loaded.classes, loaded.paths, None)


def test_parts_are_kept(class_folders):
    root = class_folders({f"{part}/{name}/1.png": 9 for part in ("train", "test") for name in "ab"})
    assert data.Folder(root, TINY).parts.tolist() == ["train", "train", "test", "test"]


def test_files_may_be_listed_before(root):
    lazy = data.Folder(data.grouped(data.scan(root), r"(\d)\.png"), TINY)
    np.testing.assert_array_equal(lazy[:], data.load_folder(root, TINY).x)
    assert lazy.groups == [*"012345"] * 2


def test_files_that_cannot_be_read_are_left_out_and_listed(root):
    (root / "a" / "1.png").write_bytes(b"")
    lazy = data.Folder(root, TINY)
    assert len(lazy) == len(lazy.y) == 11
    assert [path.name for path, _ in lazy.skipped] == ["1.png"]
    np.testing.assert_array_equal(lazy[:], data.load_folder(root, TINY).x)


def test_none_that_can_be_read_is_refused(root):
    for path in root.glob("*/*"):
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="None of the 12 image files of"):
        data.Folder(root, TINY)


def test_a_file_that_is_gone_later_is_named(root):
    lazy = data.Folder(root, TINY)
    (root / "b" / "3.png").unlink()
    with pytest.raises(data.UndecodableImage, match=r"3\.png"):
        lazy[:]


def test_a_fit_decodes_a_batch_at_a_time_and_learns_the_same(tmp_path, monkeypatch):
    draws = np.random.default_rng(0)
    for name, bright in (("dark", 60), ("light", 180)):
        for i in range(20):
            save(tmp_path / name / f"{i}.png", draws.integers(bright - 50, bright + 50, (8, 8), dtype=np.uint8))
    decoding = data.Decoding(8, 8, 1)
    lazy, loaded = data.Folder(tmp_path, decoding), data.load_folder(tmp_path, decoding)
    asked = []
    read = module.read_images
    monkeypatch.setattr(module, "read_images", lambda paths, *o, **k: asked.append(len(paths)) or read(paths, *o, **k))
    weights = []
    for images in (lazy, loaded.x):
        scale = data.Preprocessing.measure(loaded.x, decoding)
        x = data.Normalized(images, np.arange(40), scale)
        model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 8, 8), np)
        model.compile()
        model.fit(x, loaded.y, epochs=3, batch_size=8, verbose=0)
        assert model.predict(x, batch_size=16).shape == (40, 2)
        weights.append(model.get_weights()["dense_1.weight"].tobytes())
    assert weights[0] == weights[1]
    assert max(asked) == 16
    assert sum(asked) == 3 * 40 + 40
