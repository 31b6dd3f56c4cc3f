"""Augmentation moves pixels and adjusts contrast and brightness a little, for each image independently."""

import numpy as np
import pytest

from xpcnn.data import augment
from xpcnn.data.augmentation import NAMES, GeometricAugmentation, ViewedImages, views

DRAWN = [name for name in NAMES if name != "none"]


def images(n=200, channels=2, height=32, width=32, dtype=np.float32):
    return np.random.default_rng(0).integers(0, 200, (n, channels, height, width)).astype(dtype)


def turns(image):
    """The eight symmetries of a square image (channels, side, side)."""
    return [np.rot90(each, k, axes=(1, 2)) for each in (image, image[:, :, ::-1]) for k in range(4)]


def test_none_is_no_augmentation():
    assert augment("none") is None


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no augmentation 'heavy'. Use one of: none, shift, light, microscopy, flip, dihedral\."
    ):
        augment("heavy")


@pytest.mark.parametrize("name", DRAWN)
class TestEveryAugmentation:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(8, 8), (32, 32), (17, 33), (1, 1)])
    def test_shape_and_dtype_stay(self, name, dtype, shape):
        x = images(5, 3, *shape, dtype=dtype)
        y = augment(name)(x, 0, 0, np.arange(5))
        assert (y.shape, y.dtype) == (x.shape, x.dtype)

    def test_the_images_it_is_given_stay_as_they_are(self, name):
        x = images()
        augment(name)(x, 0, 0, np.arange(200))
        np.testing.assert_array_equal(x, images())

    def test_an_image_is_moved_the_same_in_any_batch(self, name):
        x, indices = images(), np.arange(200)
        whole = augment(name)(x, 3, 4, indices)
        some = np.array([150, 7, 8])
        np.testing.assert_array_equal(augment(name)(x[some], 3, 4, indices[some]), whole[some])

    def test_the_move_depends_on_seed_epoch_and_index(self, name):
        x = np.repeat(images(1), 200, axis=0)
        first = augment(name)(x, 0, 0, np.arange(200))
        np.testing.assert_array_equal(augment(name)(x, 0, 0, np.arange(200)), first)
        for seed, epoch, start in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            assert np.any(augment(name)(x, seed, epoch, np.arange(start, start + 200)) != first)
        assert len(np.unique(first, axis=0)) > 1

    def test_no_images_give_no_images(self, name):
        assert augment(name)(images(0), 0, 0, np.arange(0)).shape == (0, 2, 32, 32)


class TestShift:
    @pytest.mark.parametrize(("side", "reach"), [(8, 1), (28, 2), (64, 5)])
    def test_images_are_shifted_by_up_to_a_twelfth_and_by_one_pixel_at_least(self, side, reach):
        x = images(300, channels=1, height=side, width=side)
        y = augment("shift")(x, 0, 0, np.arange(300))
        seen = set()
        for before, after in zip(x[:, 0], y[:, 0], strict=True):
            padded = np.pad(before, reach, mode="edge")
            for down in range(2 * reach + 1):
                for right in range(2 * reach + 1):
                    if np.array_equal(padded[down : down + side, right : right + side], after):
                        seen.add((down, right))
        assert len(seen) > 0.8 * (2 * reach + 1) ** 2


class TestLight:
    def moved(self, image, flip, down, right):
        flipped = image[:, :, ::-1] if flip else image
        rows = np.clip(np.arange(32) + down, 0, 31)
        columns = np.clip(np.arange(32) + right, 0, 31)
        return flipped[:, rows[:, None], columns]

    def test_images_are_flipped_and_shifted_by_up_to_a_sixteenth_with_the_edge_repeated(self):
        x = images(500, channels=1)
        y = augment("light")(x, 0, 0, np.arange(500))
        moves = [(flip, down, right) for flip in (0, 1) for down in range(-2, 3) for right in range(-2, 3)]
        seen = dict.fromkeys(moves, 0)
        for before, after in zip(x, y, strict=True):
            found = [move for move in moves if np.array_equal(self.moved(before, *move), after)]
            assert len(found) == 1
            seen[found[0]] += 1
        assert min(seen.values()) > 0
        assert max(seen.values()) < 25  # 10 of each are expected

    def test_images_below_16_pixels_are_only_flipped(self):
        x = images(100, height=8, width=15)
        y = augment("light")(x, 0, 0, np.arange(100))
        flipped = [np.array_equal(after, before[:, :, ::-1]) for before, after in zip(x, y, strict=True)]
        kept = [np.array_equal(after, before) for before, after in zip(x, y, strict=True)]
        assert sum(flipped) + sum(kept) == 100
        assert 30 < sum(flipped) < 70


def shares(name, x, candidates):
    """How often the images become each of their candidates, moved without changes of contrast and brightness."""
    y = GeometricAugmentation(augment(name).transforms)(x, 0, 0, np.arange(len(x)))
    seen = np.zeros(len(candidates(x[0])), int)
    for before, after in zip(x, y, strict=True):
        found = [view for view, moved in enumerate(candidates(before)) if np.array_equal(moved, after)]
        assert len(found) == 1
        seen[found] += 1
    return seen


@pytest.mark.parametrize("name", ["microscopy", "dihedral"])
class TestSymmetries:
    def test_square_images_get_each_of_the_eight_symmetries_equally_often(self, name):
        seen = shares(name, images(800, height=5, width=5), turns)
        assert seen.min() > 60  # 100 of each are expected
        assert seen.max() < 140

    def test_other_images_are_flipped_both_ways_only(self, name):
        seen = shares(
            name,
            images(400, height=5, width=7),
            lambda image: [image, image[:, ::-1], image[:, :, ::-1], image[:, ::-1, ::-1]],
        )
        assert seen.min() > 60  # 100 of each are expected
        assert seen.max() < 140


class TestFlip:
    def test_half_of_the_images_are_flipped_horizontally_and_none_is_shifted(self):
        seen = shares("flip", images(200, height=64, width=48), lambda image: [image, image[:, :, ::-1]])
        assert 70 < seen[0] < 130


class TestFewViews:
    @pytest.mark.parametrize(("name", "count"), [("flip", 2), ("dihedral", 8)])
    def test_the_view_of_each_image_is_one_of_them_and_can_be_told(self, name, count):
        x, indices = images(100, height=5, width=5), np.arange(100)
        few = augment(name).few_views
        all_of_them = ViewedImages(x, few.views((5, 5)))[:].reshape(100, count, *x.shape[1:])
        drawn = few.drawn((5, 5), 3, 4, indices)
        assert set(drawn.tolist()) == set(range(count))
        np.testing.assert_array_equal(augment(name)(x, 3, 4, indices), all_of_them[indices, drawn])

    @pytest.mark.parametrize("name", ["shift", "light", "microscopy"])
    def test_what_also_shifts_or_changes_contrast_has_more_than_can_be_computed(self, name):
        assert augment(name).few_views is None


class TestMicroscopy:
    def test_contrast_and_brightness_change_a_little(self):
        x = images(300, channels=1)
        y = augment("microscopy")(x, 0, 0, np.arange(300))
        contrast = y.std(axis=(1, 2, 3)) / x.std(axis=(1, 2, 3))
        brightness = (y.mean(axis=(1, 2, 3)) - x.mean(axis=(1, 2, 3))) / x.std(axis=(1, 2, 3))
        for change in (contrast - 1, brightness):
            assert -0.1 <= change.min() < -0.08
            assert 0.08 < change.max() <= 0.1
        assert abs(np.corrcoef(contrast, brightness)[0, 1]) < 0.2


class TestViews:
    @pytest.mark.parametrize(
        ("name", "count"), [("none", 1), ("shift", 1), ("light", 2), ("flip", 2), ("microscopy", 8), ("dihedral", 8)]
    )
    def test_each_is_another_and_the_first_is_the_image_as_it_is(self, name, count):
        x = images(3, height=5, width=5)
        seen = [ViewedImages(x, [view])[:] for view in views(name, (5, 5))]
        np.testing.assert_array_equal(seen[0], x)
        assert len({one.tobytes() for one in seen}) == count
        for one in seen:
            assert {one[0].tobytes()} <= {np.ascontiguousarray(turned).tobytes() for turned in turns(x[0])}

    @pytest.mark.parametrize("name", ["microscopy", "dihedral"])
    def test_images_that_are_not_square_are_not_rotated(self, name):
        assert len(views(name, (5, 7))) == 4

    def test_images_are_transformed_on_access(self):
        x = images(5, height=5, width=5)
        viewed = ViewedImages(x, [(0, 0, 0), (1, 0, 1)])
        assert (len(viewed), viewed.shape, viewed.dtype) == (10, (10, *x.shape[1:]), x.dtype)
        turned = x[:, :, :, ::-1].swapaxes(2, 3)
        np.testing.assert_array_equal(viewed[np.array([7, 2, 3])], [turned[3], x[1], turned[1]])
        np.testing.assert_array_equal(viewed[:4], [x[0], turned[0], x[1], turned[1]])

    def test_an_image_is_read_once_for_all_its_views_in_a_batch(self):
        class Counted(np.ndarray):
            def __getitem__(self, rows):
                read.append(np.asarray(rows).tolist())
                return np.asarray(self)[rows]

        read = []
        ViewedImages(images(5).view(Counted), views("flip", (32, 32)))[2:5]
        assert read == [[1, 2]]
