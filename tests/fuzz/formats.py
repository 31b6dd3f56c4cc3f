"""Cases: models of other formats, as text and as JSON, and IDX files, damaged or with false headers."""

import gzip
import itertools
import json
import math
import random
import struct
import tempfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from tests.fuzz import child
from tests.fuzz.model_files import HOSTILE, places, put
from tests.fuzz.mutate import mutate
from xpcnn import Sequential, layers, presets
from xpcnn.data import read_idx
from xpcnn.formats import cnn_json, text

FOLDER = Path(tempfile.gettempdir())
SHAPE = (1, 16, 16)
MEGABYTE = 2**20


def as_json():
    """Return the value of a small model's JSON file."""
    stack = [
        layers.Conv2D(2, 3, padding=1, activation="relu"),
        layers.MaxPool2D(2),
        layers.Upsample2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(2, activation="softmax"),
    ]
    cnn_json.save(Sequential(stack, (1, 4, 4), np), FOLDER / "model.json")
    return json.loads((FOLDER / "model.json").read_text())


def attempt_json(make):
    """Read a model of JSON and predict."""
    path = FOLDER / "attempt.json"
    path.write_bytes(make())
    try:
        model = cnn_json.load(path, "numpy")
    except (ValueError, OSError) as error:
        return child.refused(error)
    assert all(np.isfinite(value).all() for value in model.parameters.values())
    with np.errstate(all="ignore"):
        model.predict(np.ones((1, *model.network.input_shape)), threads=1)
    return "survived"


def attempt_text(changes):
    """Read a model of eight text files, some of which are others, and predict."""
    folder = FOLDER / "text"
    if not folder.exists():
        text.save(Sequential(presets.blood_unpooled(SHAPE, 3), SHAPE, np), folder)
    before = {name: (folder / name).read_bytes() for name in (*text.WEIGHTS, *text.BIASES)}
    try:
        for name, make in changes.items():
            (folder / name).write_bytes(make(before[name]))
        model = text.load(folder, SHAPE, "numpy")
    except (ValueError, OSError) as error:
        return child.refused(error)
    finally:
        for name in changes:
            (folder / name).write_bytes(before[name])
    assert all(np.isfinite(value).all() for value in model.parameters.values())
    with np.errstate(all="ignore"):
        model.predict(np.ones((1, *SHAPE)), threads=1)
    return "survived"


def attempt_idx(make, suffix):
    """Read an IDX file: an array as large as it says, or a refusal."""
    path = FOLDER / f"attempt{suffix}"
    path.write_bytes(make())
    try:
        array = read_idx(path)
    except (ValueError, OSError) as error:
        return child.refused(error)
    assert array.dtype == np.uint8
    return "survived"


def other_sizes():
    """Yield {name: bytes} of text files that are much longer than they should be, or empty."""
    ones = {name: partial(lambda count, old: b"1\n" * count, 2 * MEGABYTE) for name in (*text.WEIGHTS, *text.BIASES)}
    yield "2 million units and classes", {name: ones[name] for name in ("bias3.txt", "bias4.txt")}
    yield "2 million filters", {name: ones[name] for name in ("bias1.txt", "bias2.txt")}
    for name in ones:
        yield f"2 million numbers in {name}", {name: ones[name]}
        yield f"4 MB without a space in {name}", {name: lambda old: b"1" * (4 * MEGABYTE)}
        yield f"nothing in {name}", {name: lambda old: b""}


def json_bytes(value, path, new):
    return json.dumps(put(value, path, new)).encode()


def _nested(depth):
    entry = {"type": "FFL", "neurons": 1, "isbias": False, "input_shape": [1], "weights": "here"}
    return json.dumps({"model": "CNN", "a": entry}).replace('"here"', "[" * depth + "1" + "]" * depth).encode()


def long_json():
    """Yield JSON files that are deep, long, or ask for more than there is."""
    for depth in (300, 900, 100_000):
        yield f"{depth} lists", partial(lambda n: b"[" * n + b"]" * n, depth)
        yield f"weights of {depth} lists", partial(_nested, depth)
    yield "64 MB of lists", lambda: b'{"model": "CNN", "a": [' + b"[]," * (20 * MEGABYTE) + b"[]]}"
    yield "64 MB of numbers", lambda: b'{"model": "CNN", "a": [' + b"1.5," * (15 * MEGABYTE) + b"1]}"
    yield "65 MB", lambda: b'{"model": "CNN"}' + b" " * (65 * MEGABYTE)


def large_json(value):
    """Yield (path, hostile value) that make a small file ask for much."""
    names = [name for name in value if name != "model"]
    first, upsampled, last = names[0], names[2], names[-1]
    yield (last, "neurons"), 10**9
    yield (first, "filters"), 10**9
    yield (first, "kernel_size"), [10**6, 10**6, 1, 2]
    yield (first, "input_shape"), [10**6, 10**6, 1]
    yield (upsampled, "kernel_size"), [10**4, 10**4]
    yield (upsampled, "kernel_size"), [10**9, 10**9]


def idx(shape, content=bytes(100), kind=8, dimensions=None):
    dimensions = len(shape) if dimensions is None else dimensions
    return struct.pack(">HBB", 0, kind, dimensions) + b"".join(size.to_bytes(4, "big") for size in shape) + content


def idx_headers():
    """Yield IDX files whose header lies."""
    sizes = (0, 1, 10, 100, 2**16, 2**31, 2**32 - 1)
    for count in (1, 2, 3, 4):
        for shape in itertools.islice(itertools.product(sizes, repeat=count), 0, None, 1 + 7**count // 60):
            yield f"shape {shape}", idx(shape)
    for kind in (0, 7, 8, 9, 11, 12, 13, 14, 255):
        for dimensions in (0, 1, 3, 4, 5, 255):
            yield f"kind {kind} of {dimensions} dimensions", idx((10, 10), kind=kind, dimensions=dimensions)


def zeros_compressed(size, shape):
    """Return gzip of an IDX file that decompresses to ``size`` zeros."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [deflate.compress(idx(shape, b""))]
    parts += [deflate.compress(bytes(MEGABYTE)) for _ in range(size // MEGABYTE)]
    return b"".join([*parts, deflate.flush()])


def cases(seed, count):
    """Yield the cases."""
    few = max(1, count // 60)  # of those that take long
    value = as_json()
    as_bytes = json.dumps(value).encode()
    for at in child.some(range(len(as_bytes)), count):
        yield "JSON model, cut off", f"at {at}", partial(attempt_json, partial(bytes, as_bytes[:at]))
    values = list(itertools.product(places(value), range(len(HOSTILE))))
    for path, which in child.some(values, count):
        made = partial(json_bytes, value, path, HOSTILE[which])
        yield "JSON model, one value hostile", f"{HOSTILE[which]!r:.40} at {path}", partial(attempt_json, made)
    for name, made in child.some(long_json(), few):
        yield "JSON model, deep or long", name, partial(attempt_json, made)
    for path, new in large_json(value):
        made = partial(json_bytes, value, path, new)
        yield "JSON model, demands too much", f"{new} at {path}", partial(attempt_json, made)

    words = ("nan", "-inf", "1e39", "1e999", "0x10", "1_0", "é", "\0", "9" * 5000, "1", "")
    for name, word in child.some(itertools.product((*text.WEIGHTS, *text.BIASES), words), count):
        replaced = partial(lambda new, old: new.encode() + old[old.index(b"\n") :], word)
        yield "text model, one number hostile", f"{word[:10]!r} in {name}", partial(attempt_text, {name: replaced})
    for name, changes in child.some(other_sizes(), few):
        yield "text model, of other sizes", name, partial(attempt_text, changes)

    for suffix, pack in (("", bytes), (".gz", gzip.compress)):
        for name, content in child.some(idx_headers(), count):
            yield f"IDX{suffix}, header that lies", name, partial(attempt_idx, partial(pack, content), suffix)
        whole = pack(idx((10, 10)))
        for at in child.some(range(len(whole)), count):
            yield f"IDX{suffix}, cut off", f"at {at}", partial(attempt_idx, partial(bytes, whole[:at]), suffix)
        yield f"IDX{suffix}, cut off", "and more", partial(attempt_idx, partial(bytes, whole + b"more"), suffix)
    for size, shape in child.some(((2**20, (2**30,)), (2**29, (2**29,)), (2**30, (10,)), (2**30, (2**31,))), few):
        made = partial(zeros_compressed, size, shape)
        yield "IDX.gz, decompresses to much", f"{size} zeros as {shape}", partial(attempt_idx, made, ".gz")

    names = (*text.WEIGHTS, *text.BIASES)
    for number in range(count):
        key = f"format {seed} {number}"
        if number % 4 == 0:
            yield "JSON model, mutated", key, partial(attempt_json, partial(mutate, as_bytes, key))
        elif number % 4 == 1:
            yield "JSON model, values mutated", key, partial(attempt_json, partial(several, value, key))
        elif number % 4 == 2:
            name = names[number // 4 % len(names)]
            yield "text model, mutated", key, partial(attempt_text, {name: partial(mutate, seed=key)})
        else:
            suffix, pack = (("", bytes), (".gz", gzip.compress))[number // 4 % 2]
            content = idx((4, 5, 5), random.Random(key).randbytes(100))
            made = partial(mutate, pack(content), key) if number % 3 else partial(_packed, pack, content, key)
            yield f"IDX{suffix}, mutated", key, partial(attempt_idx, made, suffix)


def _packed(pack, content, key):
    return pack(mutate(content, key))


def several(value, key):
    """Return JSON with one to three hostile values."""
    draw = random.Random(key)
    for _ in range(draw.randint(1, 3)):
        value = put(value, draw.choice(list(places(value))[1:] or [()]), draw.choice((*HOSTILE, math.pi)))
    return json.dumps(value).encode()
