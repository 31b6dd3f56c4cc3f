"""Batches gathered on the device equal those that the host makes."""

import numpy as np
import pytest

from xpcnn.data import Decoding, Preprocessing, augment
from xpcnn.data.augmentation import GeometricAugmentation
from xpcnn.ops.batches import gather
from xpcnn.ops.workspace import Workspace, channel_rows


@pytest.mark.parametrize("name", ["none", "shift", "light", "microscopy", "dihedral"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 33, 17), (3, 1, 40)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_those_that_were_laid_and_normalised_on_the_host(xp, host, name, shape, dtype):
    images = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(dtype)
    indices = np.array([3, 0, 39, 3, 17, 8, 1, 2, 30], np.int32)
    channels = shape[0]
    normal = Preprocessing(Decoding(*shape[1:], channels), (100.5, 7.0, 3.0)[:channels], (50.0, 0.3, 9.0)[:channels])
    augmentation = augment(name)
    laid = images[indices]
    places = None
    if augmentation is not None:
        laid = GeometricAugmentation(augmentation.transforms)(laid, 5, 2, indices)
        places = xp.asarray(augmentation.transforms(shape[1:], 5, 2, indices))
    mean, std = (xp.asarray(np.array(values, np.float32)) for values in (normal.mean, normal.std))
    x = gather(xp, xp.asarray(images), xp.asarray(indices), places, mean, std, np.float32, Workspace(xp))
    np.testing.assert_array_equal(host(x), normal.normalize(laid))
    assert xp.shares_memory(channel_rows(x), x), "the batch lies last in memory"
    plain = gather(xp, xp.asarray(images), xp.asarray(indices), places, None, None, np.float64, Workspace(xp))
    np.testing.assert_array_equal(host(plain), laid)
