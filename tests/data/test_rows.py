import numpy as np

from xpcnn.data.rows import Rows


def test_rows_are_those_of_the_whole():
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 2, 3), np.uint8)
    some = Rows(images, np.array([5, 0, 2]))
    assert (len(some), some.shape, some.dtype) == (3, (3, 1, 2, 3), np.uint8)
    np.testing.assert_array_equal(some[:], images[[5, 0, 2]])
    np.testing.assert_array_equal(some[1:], images[[0, 2]])
    np.testing.assert_array_equal(some[np.array([2, 0])], images[[2, 5]])


def test_nothing_is_taken_before_it_is_asked_for():
    asked = []

    class Images:
        shape, dtype = (4, 1, 2, 2), np.dtype(np.uint8)

        def __getitem__(self, rows):
            asked.append(rows.tolist())
            return np.zeros((len(rows), 1, 2, 2), np.uint8)

    some = Rows(Images(), np.array([3, 1, 0]))
    assert (len(some), some.shape, asked) == (3, (3, 1, 2, 2), [])
    _ = some[:2]
    assert asked == [[3, 1]]
