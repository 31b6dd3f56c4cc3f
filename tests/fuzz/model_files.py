"""Cases: model files that are truncated, damaged or inconsistent."""

import contextlib
import copy
import io
import itertools
import json
import math
import random
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.numpy

import xpcnn
from tests.fuzz import child
from tests.fuzz.mutate import mutate
from xpcnn import files, layers
from xpcnn.cli import main
from xpcnn.data import Decoding, Preprocessing
from xpcnn.data.opencv import load_opencv

FOLDER = Path(tempfile.gettempdir())
IMAGE = FOLDER / "image.png"
FILE = FOLDER / "model.safetensors"

#: What stands in the place of any value of a description.
HOSTILE = (
    None, True, False, -1, 0, 1, 1.5, 7, 2**31, 2**63, 10**9, 10**400, math.inf, -math.inf, math.nan, 1e-320, "",
    "relu", "../../etc/passwd", "\x1b[2J\n\0", "é\ud800", "A" * 100_000, [], {}, [[]], [-1, 2], [10**6] * 2, [3] * 1000,
    {"layer": "relu"}, {"layer": "dense", "units": 10**9}, {"name": "constant", "value": 1e999}, {"__class__": "int"},
)  # fmt: skip

DTYPES = ("F64", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "F4", "PY")
NAMES = (
    "",
    "/etc/passwd",
    "../../outside",
    "conv2d_1.weight\0",
    "\x1b[2J\n",
    "é\U0001f600",
    "n" * 100_000,
    "__metadata__",
)


def saved():
    """Write a small model that says how images become numbers, and the image that it is shown."""
    stack = [
        layers.Conv2D(2, 3, padding="same", activation="relu"),
        layers.BatchNorm(),
        layers.Residual([layers.Conv2D(2, 1, padding=0)]),
        layers.MaxPool2D(2),
        layers.Upsample2D(2),
        layers.AveragePool2D(2, padding=1),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(2, activation="softmax"),
    ]
    model = xpcnn.Sequential(stack, (1, 4, 4), np)
    model.compile(metrics=["accuracy"])
    model.class_names, model.preprocessing = ("cat", "dog"), Preprocessing(Decoding(4, 4, 1), (100.0,), (50.0,))
    model.save(FILE)
    done, encoded = load_opencv().imencode(".png", np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert done
    IMAGE.write_bytes(encoded.tobytes())


def attempt(content):
    """Predict an image with a model file: an answer of finite numbers, or a refusal in one line."""
    FILE.write_bytes(content)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["predict", str(FILE), str(IMAGE), "--format", "json", "--backend", "numpy", "--threads", "1"])
    said = err.getvalue()
    if code == 0:
        (row,) = json.loads(out.getvalue(), parse_constant=_not_json)
        assert math.isfinite(row["probability"])
        assert all(line.startswith("xpcnn predict: 1 picture") for line in said.splitlines()), said  # of its range
        return "survived"
    assert (code, said.count("\n")) == (1, 1), said[-1000:]
    if out.getvalue():  # a model may ask for a page that this image has not
        (row,) = json.loads(out.getvalue(), parse_constant=_not_json)
        assert (row["label"], "page" in row["error"]) == (None, True), row
        assert said.startswith("1 of 1 images could not be read, the first: ")
    else:
        assert said.startswith("xpcnn predict: ")
    assert not said.startswith("xpcnn predict: unexpected"), said
    assert "out of memory" not in said, said
    assert said[:-1].isprintable()
    assert len(said) <= child.MOST_CHARACTERS, f"a refusal of {len(said)} characters"
    return "refused"


def _not_json(name):
    raise AssertionError(f"an answer holds {name}")


def container(header, content=b""):
    """Return a file of tensors with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def stored(tensors, text):
    """Return a file of right tensors with any text for a description."""
    return safetensors.numpy.save(tensors, {files.DESCRIPTION: text})


def described(tensors, description):
    """Return a file of right tensors with any value for a description."""
    return stored(tensors, json.dumps(description))


def places(value, path=()):
    """Yield the path of every value within a value, outer ones first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def put(value, path, new):
    """Return a value with another one in one place."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return changed


def network(input_shape, *stack, **arrays):
    """Return a file of a network that nobody would make, with arrays of zeros in the shapes it asks for."""
    side = {"height": input_shape[1], "width": input_shape[2], "channels": input_shape[0], "resizing": "stretch"}
    channels = min(input_shape[0], 3)
    normalisation = {"mean": [0.0] * channels, "deviation": [1.0] * channels, "per_image": False}
    description = {
        "format": 1, "version": "0", "input_shape": input_shape, "seed": 0, "epochs": 1, "class_names": ["a", "b"],
        "layers": list(stack), "compiled": {"optimizer": "adam", "loss": "cross_entropy", "metrics": []},
        "preprocessing": {"decoding": side, **normalisation},
    }  # fmt: skip
    tensors = {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in arrays.items()}
    return described(tensors, description)


def layer(kind, **arguments):
    return {"layer": kind, **arguments}


POOL = layer("global_average_pool2d")
DENSE = layer("dense", units=2, activation="softmax")
ONE = {"dense_1__weight": (2, 1), "dense_1__bias": (2,)}
CONV = {"conv2d_1__weight": (1, 1, 1, 1), "conv2d_1__bias": (1,)}


def conv(**arguments):
    return layer("conv2d", filters=1, kernel_size=arguments.pop("kernel_size", 1), **arguments)


def huge():
    """Yield networks that ask for more than any machine has, in every way there is."""
    yield "dense of 10**9 units", partial(network, (1, 4, 4), layer("flatten"), layer("dense", units=10**9))
    yield "filters of 10**6 by 10**6", partial(network, (1, 4, 4), layer("conv2d", filters=10**6, kernel_size=10**6))
    yield "an image of 10**6 by 10**6", partial(network, (1, 10**6, 10**6), POOL, DENSE, **ONE)
    yield "an image of 10**400", partial(network, (1, 10**400, 10**400), POOL, DENSE, **ONE)
    yield "more than a side of 2**27", partial(network, (1, 1, 2**27 + 1), POOL, DENSE, **ONE)
    yield "channels of 10**9", partial(network, (10**9, 1, 1), layer("flatten"), DENSE)
    for how in ({"size": 10**6}, {"size": [1, 2**29]}, {"size": [2**13, 2**13]}, {"size": 10**200}):
        yield f"repeated {how!r:.40}", partial(network, (1, 4, 4), layer("upsample2d", **how), POOL, DENSE, **ONE)
    for how in ({"strides": 2**31 - 1}, {"dilation": 2**31 - 1}, {"strides": 2**63}, {"dilation": 2**63}):
        yield f"convolved {how}", partial(network, (1, 4, 4), conv(**how), POOL, DENSE, **CONV, **ONE)
        yield f"a window moved by {how}", partial(network, (1, 4, 4), layer("max_pool2d", **how), POOL, DENSE, **ONE)
    twice = [layer("upsample2d", size=2)] * 40
    yield "doubled 40 times", partial(network, (1, 4, 4), *twice, POOL, DENSE, **ONE)
    for how in (
        {"padding": 10**6}, {"padding": [0, 10**9]}, {"padding": 20_000, "strides": 10_000}, {"padding": 10**300},
        {"padding": 10**6, "dilation": 10**6, "kernel_size": 1}, {"dilation": 10**12},
    ):  # fmt: skip
        yield f"convolved {how!r:.40}", partial(network, (1, 4, 4), conv(**how), POOL, DENSE, **CONV, **ONE)
        if "dilation" not in how:
            pooled = layer("max_pool2d", pool_size=1, **how)
            yield f"pooled {how!r:.40}", partial(network, (1, 4, 4), pooled, POOL, DENSE, **ONE)
    for kind in ("max_pool2d", "average_pool2d", "min_pool2d"):
        for side, size, strides in ((4000, 2000, 1), (11_000, 5000, 2), (10_000, [1, 9000], 3), (4, 10**9, 1)):
            pooled = layer(kind, pool_size=size, strides=strides)
            yield (
                f"{kind} of {size} every {strides} in {side}",
                partial(network, (1, side, side), pooled, POOL, DENSE, **ONE),
            )
    yield (
        "a convolution of 1000 by 1000 cells on one long row",
        partial(
            network,
            (1, 1000, 100_000),
            conv(kernel_size=1000, use_bias=False),
            POOL,
            DENSE,
            **ONE,
            conv2d_1__weight=(1, 1, 1000, 1000),
        ),
    )
    yield (
        "a convolution that takes days",
        partial(
            network,
            (1, 8000, 8000),
            conv(kernel_size=500, use_bias=False),
            POOL,
            DENSE,
            **ONE,
            conv2d_1__weight=(1, 1, 500, 500),
        ),
    )
    kept = layer("residual", layers=[layer("relu")])
    yield "a large image kept 5000 times", partial(network, (1, 4000, 4000), *[kept] * 4999, POOL, DENSE, **ONE)
    yield "100,000 layers", partial(network, (1, 4, 4), *[layer("relu")] * 100_000, POOL, DENSE, **ONE)
    yield "9,000 layers", partial(network, (1, 4, 4), *[layer("relu")] * 9000, POOL, DENSE, **ONE)
    yield "one of 2**20 values is a shape", partial(network, (1, 4, 4), layer("reshape", shape=[1] * 2**18), DENSE)
    repeated = layer("upsample2d", size=900)
    yield "as much as is allowed", partial(network, (1, 16, 16), repeated, layer("relu"), POOL, DENSE, **ONE)
    yield "as large an image as is allowed", partial(network, (1, 2**13, 2**14), POOL, DENSE, **ONE)


def filled(tensors, description, path, opening, inner="", closing="", times=1):
    """Return a file whose description holds, in one place, JSON that is made of parts repeated."""
    text = opening * times + inner + closing * times
    return stored(tensors, json.dumps(put(description, path, "here")).replace('"here"', text))


def deep(tensors, description):
    """Yield descriptions that are nested too deep to be read, or too long."""
    fill = partial(partial, filled, tensors, description)
    residual = ('{"layer": "residual", "layers": [', '{"layer": "relu"}', "]}")
    for depth in (100, 300, 900, 10_000, 100_000):
        yield f"{depth} residual layers in each other", fill(("layers", 3), *residual, depth)
        yield f"{depth} lists", fill((), "[", "", "]", depth)
        yield f"filters of {depth} lists", fill(("layers", 0, "filters"), "[", "", "]", depth)
        for key in ("preprocessing", "compiled", "class_names", "epochs", "seed", "input_shape"):
            yield f"{key} of {depth} dictionaries", fill((key,), '{"a":', "1", "}", depth)
    yield "a description of 50 MB", fill(("version",), "", '"' + "x" * 50_000_000 + '"')
    yield "a description of 50 MB of lists", fill(("layers",), "", "[" + "[]," * 16_000_000 + "[]]")
    for item in ("{}", "[]", "1", '{"layer":"relu"}', '{"layer":"dense","units":1}', '"a"', "[[]]"):
        times = 7_000_000 // len(json.dumps(item))
        for key in ("layers", "class_names"):
            yield f"7 MB of {key} {item}", fill((key,), "", f"[{','.join([item] * times)}]")
    yield "an argument with a long name", fill(("layers", 0, "x" * 1_000_000), "", "1")
    yield "a kind with a long name", fill(("layers", 0, "layer"), "", '"' + "x" * 1_000_000 + '"')


def headers(content):
    """Yield headers that lie about the tensors."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    tensors = [name for name in header if name != "__metadata__"]
    for name, dtype in itertools.product(tensors, DTYPES):
        yield f"{name} of {dtype}", container(put(header, (name, "dtype"), dtype), data)
    for name, shape in itertools.product(tensors, ([], [0], [1] * 100, [10**9] * 3, [2**63], [-1], [1.5], "x", None)):
        yield f"{name} of shape {shape}", container(put(header, (name, "shape"), shape), data)
    for name, ends in itertools.product(
        tensors, ([0, 0], [0, 2**62], [-4, 4], [8, 4], [0], "x", [1.0, 2.0], [0, 10**30])
    ):
        yield f"{name} at {ends}", container(put(header, (name, "data_offsets"), ends), data)
    for name, other in itertools.product(tensors, NAMES):
        renamed = {other if key == name else key: value for key, value in header.items()}
        yield f"{name} called {other[:20]!r}", container(renamed, data)
        added = {**header, other: {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}}
        yield f"and {other[:20]!r}", container(added, data + bytes(4))
    for name in tensors:
        yield f"{name} left out", container({key: value for key, value in header.items() if key != name}, data)
    for size in (0, 1, 2**23, 2**24, 2**31, 2**32, 2**63, 2**64 - 1):
        yield f"a header of {size} bytes", size.to_bytes(8, "little") + content[8:]
    yield "a header of spaces", container(b" " * 2**23, data)
    yield "a header twice", content[: 8 + length] + content
    yield "trailing bytes", content + b"more"


def numbers(tensors, description):
    """Yield weights that are not finite, or so large that what they give is not."""
    for name, value in itertools.product(tensors, (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45)):
        for place in (0, -1):
            array = tensors[name].copy()
            array.ravel()[place] = value
            yield f"{name} holds {value} at {place}", described({**tensors, name: array}, description)
        full = np.full_like(tensors[name], value)
        yield f"{name} full of {value}", described({**tensors, name: full}, description)
    for value in (np.nan, 3e38, -3e38, 1e-45):
        yield f"all full of {value}", described({n: np.full_like(a, value) for n, a in tensors.items()}, description)


def cases(seed, count):
    """Yield the cases; of those that can be listed, a part where ``count`` is small."""
    saved()
    tensors, description = files.load_tensors(FILE)
    content = described(tensors, description)  # without a checksum, which would refuse all of these unread
    length = 8 + int.from_bytes(content[:8], "little")

    def tried(bytes_of, *arguments):
        return lambda: attempt(bytes_of(*arguments))

    for cut in child.some(range(len(content)), count):
        yield "model file, cut off", f"at {cut}", tried(lambda at: content[:at], cut)
    flips = [(place, mask) for place in range(length) for mask in (1, 16, 128, 255)]
    for place, mask in child.some(flips, count):
        flipped = bytes([*content[:place], content[place] ^ mask, *content[place + 1 :]])
        yield "model file, header byte changed", f"{place} ^ {mask}", tried(bytes, flipped)
    values = list(itertools.product(places(description), range(len(HOSTILE))))
    for path, which in child.some(values, count):
        name = f"{HOSTILE[which]!r:.40} at {path}"
        yield (
            "model file, one value hostile",
            name,
            tried(lambda p, w: described(tensors, put(description, p, HOSTILE[w])), path, which),
        )
    for name, lie in child.some(headers(content), count):
        yield "model file, header that lies", name, tried(bytes, lie)
    for name, lie in child.some(numbers(tensors, description), count):
        yield "model file, weights not finite", name, tried(bytes, lie)
    for name, lie in child.some(huge(), max(1, count // 4)):
        yield "model file, demands too much", name, tried(lie)
    for name, lie in child.some(deep(tensors, description), max(1, count // 20)):
        yield "model file, deep or long", name, tried(lie)
    for number in range(count):
        key = f"model {seed} {number}"
        if number % 2:
            yield "model file, mutated", key, tried(mutate, content, key)
        else:
            yield "model file, values mutated", key, tried(several, tensors, description, key)


def several(tensors, description, key):
    """Return a file with one to four hostile values in its description."""
    draw = random.Random(key)
    for _ in range(draw.randint(1, 4)):
        description = put(description, draw.choice(list(places(description))[1:] or [()]), draw.choice(HOSTILE))
    return described(tensors, description)
