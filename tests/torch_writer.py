"""Files as ``torch.save`` writes them, written without PyTorch: of honest state dicts, and of any pickle."""

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
KINDS = {
    "float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long", "int32": "Int", "int16": "Short",
    "int8": "Char", "uint8": "Byte", "bool": "Bool",
}  # fmt: skip


@dataclass
class Name:
    """A function or class."""

    name: str


@dataclass
class Call:
    """The result of a function."""

    function: object
    arguments: object


@dataclass
class Reference:
    """A persistent id."""

    value: object


def encoded(value):
    """Return the opcodes that push a value."""
    match value:
        case str():
            return pickle.dumps(value, 2)[2:-1].removesuffix(b"q\0")
        case None | int() | float():
            return pickle.dumps(value, 2)[2:-1]
        case tuple():
            return b"(" + b"".join(map(encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encoded, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encoded(key) + encoded(item) for key, item in value.items()) + b"u"
        case Name(name):
            module, _, name = name.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return encoded(function) + encoded(arguments) + b"R"
        case Reference(inner):
            return encoded(inner) + b"Q"
    raise TypeError(f"{value!r} can't be written")


def pickled(value):
    return b"\x80\x02" + encoded(value) + b"."


def storage(key, count, kind="Float"):
    return Reference(("storage", Name(f"torch.{kind}Storage"), key, "cpu", count))


def tensor(source, offset, shape, strides):
    return Call(Name("torch._utils._rebuild_tensor_v2"), (source, offset, shape, strides, False, {}))


def described(arrays):
    """Return a state dict of arrays, and its storages by key: one for each array, in the array's order in memory."""
    state, storages = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        source = storage(str(key), array.size, KINDS[array.dtype.name])
        state[name] = tensor(source, 0, array.shape, tuple(stride // array.itemsize for stride in array.strides))
        storages[str(key)] = array.ravel("K")
    return state, storages


def zipped(value, storages, content=None, more=None):
    """Return a zip archive; ``content`` replaces the pickled value, ``more`` are other entries."""
    entries = {"data.pkl": pickled(value) if content is None else content, "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{key}": array.tobytes() for key, array in storages.items()} | (more or {})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"net/{name}", data)
    return file.getvalue()


def streamed(value, storages, content=None, version=VERSION, system=SYSTEM, keys=None):
    """Return a stream; ``content`` replaces the pickled value, ``keys`` the list of storages."""
    parts = [pickle.dumps(MAGIC, 2), pickled(version), pickled(system)]
    parts += [pickled(value) if content is None else content, pickled([*storages] if keys is None else keys)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join(parts)


#: Both formats.
FORMATS = {"zip": zipped, "stream": streamed}


def linear(name="fc"):
    """Return the arrays of a linear module of 3 inputs and 2 outputs."""
    weight = np.arange(6, dtype=np.float32).reshape(2, 3) / 4
    return {f"{name}.weight": weight, f"{name}.bias": np.array([0.5, -1], np.float32)}
