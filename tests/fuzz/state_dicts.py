"""Cases: files of ``torch.save`` in both formats, damaged, inconsistent or made to take long."""

import itertools
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from tests import torch_writer as writer
from tests.fuzz import child
from tests.fuzz.model_files import HOSTILE, NAMES, places, put
from tests.fuzz.mutate import mutate
from xpcnn import Sequential, layers
from xpcnn.formats.torch import load_state_dict, read_state_dict

FILE = Path(tempfile.gettempdir()) / "net.pt"
MEGABYTE = 2**20
#: A state dict, part by part: its storage, and the offset, shape and strides of each tensor.
PARTS = {
    "storage": ["storage", "torch.FloatStorage", "0", "cpu", 8],
    "tensors": {"fc.weight": [0, [2, 3], [3, 1]], "fc.bias": [6, [2], [1]]},
}
NUMBERS = {"0": np.arange(8, dtype=np.float32)}


def attempt(make):
    """Read the arrays of a file, and load them into the model that they were meant for."""
    FILE.write_bytes(make())
    try:
        arrays = read_state_dict(FILE)
    except (ValueError, OSError) as error:
        return child.refused(error)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values())
    assert sum(array.size for array in arrays.values()) <= FILE.stat().st_size
    model = Sequential([layers.Flatten(), layers.Dense(2)], (1, 1, 3), np)
    try:
        load_state_dict(model, FILE)
    except ValueError as error:
        if "the arrays do not fit the network" not in str(error):
            raise
    assert all(np.isfinite(value).all() for value in model.parameters.values())
    return "survived"


def state(parts):
    """Return the state dict that has these parts."""
    source = parts["storage"]
    if isinstance(source, list):
        source = tuple(writer.Name(part) if part == "torch.FloatStorage" else part for part in source)
    source = writer.Reference(source)
    return {
        name: writer.tensor(source, *map(_tuple, view)) if isinstance(view, list) and len(view) == 3 else view
        for name, view in parts["tensors"].items()
    }


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def hostile():
    """Yield (name, state dict) with something else in one or two places."""
    paths = [path for path in places(PARTS) if path not in ((), ("tensors",))]
    for path, new in itertools.product(paths, HOSTILE):
        yield f"{new!r:.40} at {path}", state(put(PARTS, path, new))
    sizes = (-1, 0, 1, 8, 2**31, 2**62)
    for offset, size, stride, count in itertools.product(sizes, repeat=4):
        parts = put(put(PARTS, ("tensors", "fc.bias"), [offset, [size], [stride]]), ("storage", 4), count)
        yield f"offset {offset}, size {size}, stride {stride}, {count} numbers", state(parts)
    for name in NAMES:
        yield f"the name {name!r:.40}", {**state(PARTS), name: state(PARTS)["fc.bias"]}


def bombs():
    """Yield (name, pickle) that would take long, or much memory; the limit is a million opcodes."""
    dictionary = b"ccollections\nOrderedDict\n"
    yield "lists", b"]" * 5_000_000
    yield "lists in a list", b"]" + b"]a" * 499_990
    yield "lists, each in another", b"]" * 499_990 + b"a" * 499_989
    yield "tuples, each in another", b")" + b"\x85" * 999_990
    yield "marks", b"(" * 5_000_000
    yield "values in the memo", b"]\x94" * 499_990
    yield "the end of the memo", b"]r\xff\xff\xff\xff" * 499_990
    yield "tuples doubled and doubled", b")" + b"q\0h\0\x86" * 333_000
    yield "tuples doubled and doubled, as a key", b"})" + b"q\0h\0\x86" * 333_000 + b"Ns"
    yield "a list that contains itself", b"]q\0" + b"h\0a" * 499_990
    yield "a dict that contains itself", b"}q\0X\5\0\0\0modelh\0s"
    yield "a large tuple as many persistent ids", b"(" + b"N" * 499_990 + b"tq\0" + b"h\0Q" * 249_000
    yield "a large tuple as many arguments", dictionary + b"q\1(" + b"N" * 499_990 + b"tq\0" + b"h\1h\0R" * 166_000
    yield "calls", dictionary + b"q\0)q\1" + b"h\0h\1R" * 333_000
    yield "strings of 4 GiB", b"X\xff\xff\xff\xff" * 1000
    yield "a name of 64 MiB", b"c" + b"x" * (64 * MEGABYTE) + b"\nx\n"
    yield "a name of 64 MiB without an end", b"c" + b"x" * (64 * MEGABYTE)
    yield "integers of 255 bytes", (b"\x8a\xff" + bytes(255)) * 100_000
    keys = (number.to_bytes(4, "little") for number in range(499_990))
    yield "a wide dict", b"}(" + b"".join(b"J" + key + b"N" for key in keys) + b"u"
    keys = ((number * (2**61 - 1)).to_bytes(10, "little") for number in range(200_000))
    yield "keys of one hash", b"}(" + b"".join(b"\x8a\x0a" + key + b"N" for key in keys) + b"u"
    source = writer.encoded(writer.storage("0", 8))
    function = writer.encoded(writer.Name("torch._utils._rebuild_tensor_v2"))
    for size, many in ((2**62, 1), (2**62, 8), (2**62, 64), (2**62, 200_000), (1, 8), (1, 200_000)):
        shape, strides = b"(" + writer.encoded(size) * many + b"t", b"(" + b"K\0" * many + b"t"
        arguments = b"(" + source + b"K\0" + shape + strides + b"NNt"
        yield f"{many} sizes of {size}", b"}X\1\0\0\0a" + function + arguments + b"Rs"
        yield f"{many} sizes of {size}, often", function + b"q\0" + arguments + b"q\1" + b"h\0h\1R" * 166_000


def _bomb(write, content):
    return write(None, NUMBERS, b"\x80\x02" + content + b".")


def _with_mutated(write, content, key):
    return write(None, NUMBERS, mutate(content, key))


def cases(seed, count):
    """Yield the cases."""
    pickled = writer.pickled(state(PARTS))
    for kind, write in writer.FORMATS.items():
        whole = write(state(PARTS), NUMBERS)
        for at in child.some(range(len(whole)), count):
            yield f"PyTorch {kind}, cut off", f"at {at}", partial(attempt, partial(bytes, whole[:at]))
        for name, value in child.some(hostile(), count):
            yield f"PyTorch {kind}, hostile", name, partial(attempt, partial(write, value, NUMBERS))
        for name, content in child.some(bombs(), max(2, count // 60)):
            yield f"PyTorch {kind}, takes long", name, partial(attempt, partial(_bomb, write, content))
        for number in range(count):
            key = f"PyTorch {kind} {seed} {number}"
            if number % 2:
                yield f"PyTorch {kind}, mutated", key, partial(attempt, partial(mutate, whole, key))
            else:
                made = partial(_with_mutated, write, pickled, key)
                yield f"PyTorch {kind}, pickle mutated", key, partial(attempt, made)
