"""What timm writes: the names of its arrays, and a configuration."""

import json
from pathlib import Path

import numpy as np

#: The names and shapes of the arrays of its networks with three classes.
NAMES = json.loads((Path(__file__).parent / "fixtures" / "timm_names.json").read_text())


def config(architecture, classes=3, **others):
    """A configuration; others: fields to add to it, or to its ``pretrained_cfg`` if that has such a field."""
    inner = {
        "input_size": [3, 64, 48], "interpolation": "bicubic", "crop_pct": 0.875, "mean": [0.5, 0.25, 0.2],
        "std": [0.2, 0.4, 0.5], "num_classes": classes, "first_conv": "conv_stem", "classifier": "classifier",
    }  # fmt: skip
    inner |= {name: others.pop(name) for name in list(others) if name in inner}
    return {"architecture": architecture, "num_classes": classes, "pretrained_cfg": inner, **others}


def arrays(architecture, seed=0):
    """The arrays of a network with its names, drawn."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.1, 0.2, shape).astype(np.float32) for name, shape in NAMES[architecture].items()}
