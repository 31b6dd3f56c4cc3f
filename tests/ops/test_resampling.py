"""Upsampling: memory layout and no waiting; for the values see tests/layers/test_upsample.py."""

from tests import strict
from xpcnn.ops.resampling import upsample
from xpcnn.ops.workspace import Workspace, channel_rows


def test_images_stay_in_channel_order_in_memory_and_nothing_waits():
    xp = strict.xp
    x, dy = xp.ones((2, 3, 2, 2)), xp.ones((2, 3, 4, 6))
    with strict.forbid():
        y, backward = upsample(xp, x, (2, 3), Workspace(xp))
        dx = backward(dy)
    for images in (y, dx):
        assert xp.shares_memory(channel_rows(images), images)
    assert dx.get().tolist() == [[[[6.0] * 2] * 2] * 3] * 2
