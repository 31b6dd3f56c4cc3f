"""The check that a window fits, and the error if it does not."""

import pytest

from xpcnn.layers import Conv2D, MaxPool2D
from xpcnn.layers.sizes import fitting_size
from xpcnn.ops.window import Window


def test_a_window_that_fits_gives_its_output_size():
    assert fitting_size(MaxPool2D(2), Window((2, 3), (2, 1)), (8, 5, 5)) == (2, 3)
    assert fitting_size(MaxPool2D(2), Window((5, 5)), (8, 5, 5)) == (1, 1)


@pytest.mark.parametrize(
    "window", [Window((6, 1)), Window((1, 6)), Window((2, 3), dilation=(5, 1)), Window((9, 9), (7, 7))]
)
def test_a_window_that_does_not_fit_is_refused_in_the_layers_words(window):
    extent = "x".join(map(str, window.extent))
    with pytest.raises(ValueError, match=f"Conv2D 'c': a {extent} kernel does not fit the 5x5 input.*a smaller kernel"):
        fitting_size(Conv2D(1, 1, name="c"), window, (8, 5, 5))
    with pytest.raises(ValueError, match=f"MaxPool2D 'max_pool2d': a {extent} window does not .* a smaller window"):
        fitting_size(MaxPool2D(2), window, (8, 5, 5))
