"""Limits on the memory and work per image, so that an untrusted model file cannot demand more."""

from __future__ import annotations

import math
import reprlib

from xpcnn.layers import Upsample2D
from xpcnn.ops.window import Window
from xpcnn.program.network import Network
from xpcnn.program.program import INPUT, for_prediction
from xpcnn.registry import is_known

#: The most values in memory while predicting one image, over all layers: 2 GiB.
MOST_NUMBERS = 2**29
#: The most multiplications for one image: seventy times those of VGG-16.
MOST_MULTIPLICATIONS = 10**12
#: The view of one window cell, or of one repeated cell, takes as much memory as this many values.
_NUMBERS_OF_A_VIEW = 64


def demand(network: Network) -> tuple[int, int]:
    """Return the most values in memory while predicting one image, and the number of its multiplications.

    The values include outputs until their last use, counted twice, since reused memory may be twice as large as its
    content; padded images; and the copy of one row of windows. In a network with custom layers, no output is freed.
    """
    live = {INPUT: math.prod(network.input_shape)}
    everything = most = live[INPUT]
    multiplications = network.multiplications
    for node in for_prediction(network.nodes, network.nodes[-1].output).nodes:
        layer, window = node.layer, getattr(node.layer, "window", None)
        live[node.output] = math.prod(layer.output_shape)
        own = 0 if is_known(layer) else sum(live[slot] for slot in node.inputs)  # a copy of what it reads
        if isinstance(window, Window):
            (channels, height, width), ((top, bottom), (left, right)) = layer.input_shape, window.padding
            rows, columns, (kh, kw) = height + top + bottom, width + left + right, window.kernel
            _, rows_out, columns_out = layer.output_shape
            own = channels * rows * columns + _NUMBERS_OF_A_VIEW * (kh + kw)
            own += kw * columns_out * (channels * kh + rows)
            multiplications += channels * columns_out * (kw * rows + kh * rows_out)
        elif isinstance(layer, Upsample2D):
            own = _NUMBERS_OF_A_VIEW * math.prod(layer.size)
        everything += live[node.output] + own
        most = max(most, sum(live.values()) + own)
        for slot in node.frees:
            del live[slot]
    return min(everything, 2 * most) if network.knows() else everything, multiplications


def check_size(network: Network) -> None:
    """Raise ValueError for a network that takes more memory or work per image than an untrusted file may demand."""
    numbers, multiplications = demand(network)
    for what, received, most in (
        ("values in memory", numbers, MOST_NUMBERS),
        ("multiplications", multiplications, MOST_MULTIPLICATIONS),
    ):
        if received > most:
            raise ValueError(
                f"Its layers need too much for one image: the limit is {most:,} {what}. "
                f"Received: {reprlib.repr(received)}. Use smaller images or layers."
            )


def images_at_once(network: Network, most: int = 256) -> int:
    """Return how many images, at most ``most``, fit together into the memory that one image may take."""
    numbers, _ = demand(network)
    return max(1, min(most, MOST_NUMBERS // numbers))
