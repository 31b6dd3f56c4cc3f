"""Cases: the ``config.json`` beside timm's weights, damaged, inconsistent or made to take long."""

import itertools
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from tests.fuzz import child
from tests.fuzz.formats import json_bytes
from tests.fuzz.model_files import HOSTILE, places
from tests.fuzz.mutate import mutate
from tests.timm_files import config
from xpcnn import Sequential, layers, load
from xpcnn.data import Decoding, Preprocessing
from xpcnn.formats.timm_config import read_beside

FOLDER = Path(tempfile.gettempdir())
VALUE = config(
    "resnet18",
    label_names=["a", "b", "c"],
    global_pool="avg",
    model_args={"num_classes": 3, "in_chans": 3, "global_pool": "avg", "act_layer": None},
)
MEGABYTE = 2**20


def attempt(make):
    """Read a configuration, and save a model that has its classes and takes its images."""
    (FOLDER / "config.json").write_bytes(make())
    try:
        found = read_beside(FOLDER / "model.safetensors")
        if found is None:
            return "survived"
        preprocessing = Preprocessing(Decoding(*found.size, 3), found.mean, found.std)
    except (ValueError, OSError) as error:
        return child.refused(error)
    if found.labels:
        model = Sequential([layers.Flatten(), layers.Dense(len(found.labels))], (1, 1, 1), np)
        model.class_names, model.preprocessing = found.labels, preprocessing
        model.save(FOLDER / "own.safetensors")
        assert load(FOLDER / "own.safetensors", xp="numpy").class_names == found.labels
    return "survived"


def long():
    """Yield files that are deep or long."""
    for depth in (300, 900, 100_000):
        yield f"{depth} lists", partial(lambda n: b"[" * n + b"]" * n, depth)
    yield "15 MB of lists", lambda: b'{"architecture": [' + b"[]," * (5 * MEGABYTE) + b"[]]}"
    yield "17 MB", lambda: json.dumps(VALUE).encode() + b" " * (17 * MEGABYTE)


def cases(seed, count):
    """Yield the cases."""
    whole = json.dumps(VALUE).encode()
    for at in child.some(range(len(whole)), count):
        yield "timm's configuration, cut off", f"at {at}", partial(attempt, partial(bytes, whole[:at]))
    for path, new in child.some(itertools.product(places(VALUE), HOSTILE), 4 * count):
        made = partial(json_bytes, VALUE, path, new)
        yield "timm's configuration, one value hostile", f"{new!r:.40} at {path}", partial(attempt, made)
    for name, made in long():
        yield "timm's configuration, deep or long", name, partial(attempt, made)
    for number in range(count):
        key = f"configuration {seed} {number}"
        yield "timm's configuration, mutated", key, partial(attempt, partial(mutate, whole, key))
