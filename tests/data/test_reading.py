"""Many files are decoded at once, and returned in order."""

import threading

import numpy as np
import pytest

from xpcnn.data import Decoding, UndecodableImage, reading

TINY = Decoding(height=6, width=6, channels=1)


@pytest.mark.parametrize("threads", [1, 3, None])
@pytest.mark.parametrize("window", [2, 512])
def test_the_order_holds_on_any_number_of_threads(class_folders, monkeypatch, threads, window):
    monkeypatch.setattr(reading, "_WINDOW", window)
    root = class_folders({f"a/{value}.png": value for value in range(20)})
    paths = [root / f"a/{value}.png" for value in range(20)]
    images = [read.image for read in reading.read_images(paths, TINY, threads=threads)]
    assert [image[0, 0, 0] for image in images] == [*range(20)]
    assert {(image.shape, image.dtype) for image in images} == {((1, 6, 6), np.dtype(np.uint8))}


def test_a_bad_image_stands_in_its_place_with_the_reason(class_folders):
    root = class_folders({"a/1.png": 1, "a/3.png": 3})
    first, bad, last = reading.read_images([root / "a/1.png", root / "a/2.png", root / "a/3.png"], TINY)
    assert (first.image[0, 0, 0], last.image[0, 0, 0]) == (1, 3)
    assert isinstance(bad, UndecodableImage)
    assert bad.path == root / "a/2.png"


@pytest.mark.parametrize(
    ("budget", "threads", "windows"), [(4 * 36, 2, [4, 4, 2]), (1, 3, [3, 3, 3, 1]), (9999, 1, [10])]
)
def test_fewer_large_images_wait_but_no_thread_is_idle(class_folders, monkeypatch, budget, threads, windows):
    root = class_folders({f"a/{value}.png": value for value in range(10)})
    asked = []

    class Pool(reading.ThreadPoolExecutor):
        def map(self, attempt, paths):
            asked.append(len(paths))
            return super().map(attempt, paths)

    monkeypatch.setattr(reading, "_WINDOW_BYTES", budget)
    monkeypatch.setattr(reading, "ThreadPoolExecutor", Pool)
    assert len([*reading.read_images(sorted(root.glob("a/*")), TINY, threads=threads)]) == 10
    assert asked == windows


def test_its_threads_end_when_it_is_left_early(class_folders):
    root = class_folders({"a/1.png": 1})
    before = threading.active_count()
    results = reading.read_images([root / "a/1.png"] * 20, TINY, threads=3)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before
