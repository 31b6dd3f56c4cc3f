"""Which pictures a report shows of many."""

import re

import numpy as np

from xpcnn import presets
from xpcnn.data import Decoding, Preprocessing
from xpcnn.program.network import Network
from xpcnn.report import galleries


def test_of_many_convolutions_six_are_shown_from_the_first_to_the_last_without_gates():
    network = Network(presets.get("mobilenet-v3-small")((3, 64, 64), 3), (3, 64, 64), np)
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    section = galleries.maps_section(
        network, image, Preprocessing(Decoding(64, 64, 3), (0.0,) * 3, (255.0,) * 3), "cat"
    )
    shown = re.findall("<h3>([^ ]+) ", section)
    assert (len(shown), shown[0], shown[-1]) == (6, "features.0.0", "features.12.0")
    assert not any("fc" in name for name in shown)
    assert "The output of 6 of 34 convolutions" in section
