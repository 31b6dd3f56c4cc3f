"""An epoch goes through all images once, in its own order."""

import numpy as np
import pytest

from xpcnn.data.batches import batches, shuffled


def test_an_order_holds_every_image_once():
    order = shuffled(50, seed=0, epoch=0)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))


def test_an_order_belongs_to_its_seed_and_epoch():
    assert shuffled(50, 1, 2).tolist() == shuffled(50, 1, 2).tolist()
    assert shuffled(50, 1, 2).tolist() != shuffled(50, 1, 3).tolist()
    assert shuffled(50, 1, 2).tolist() != shuffled(50, 2, 2).tolist()


@pytest.mark.parametrize(
    ("n", "size", "expected"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 5, [2]), (0, 4, []), (3, 1, [1, 1, 1])]
)
def test_batches_follow_the_order_and_the_last_holds_the_rest(n, size, expected):
    order = np.arange(n)[::-1]
    pieces = list(batches(order, size))
    assert [len(piece) for piece in pieces] == expected
    assert [index for piece in pieces for index in piece.tolist()] == order.tolist()


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_without_images_is_refused(size):
    with pytest.raises(ValueError, match=f"Received: batch_size={size}"):
        batches(np.arange(3), size)
