"""Files of torch.save: read without PyTorch and without running anything, or refused in one line."""

import io
import os
import pathlib
import pickle
import pickletools
import re
import struct
import time
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tests import torch_writer as writer
from tests.fuzz import child
from tests.torch_writer import Call, Name, Reference, described, linear, storage, streamed, tensor, zipped
from xpcnn import Sequential, files, layers
from xpcnn.formats import torch_file, torch_pickle
from xpcnn.formats.torch import load_state_dict, read_state_dict
from xpcnn.formats.torch_pickle import Pickles

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
#: What tests/fixtures/make_torch.py wrote.
WRITTEN = {
    "0.weight": np.arange(18).reshape(2, 1, 3, 3) / 4,
    "0.bias": [0.5, -2],
    "1.weight": [1.5, -0.25],
    "1.bias": [0, 0],
    "1.running_mean": [0, 0],
    "1.running_var": [1, 1],
    "3.weight": np.arange(6).reshape(2, 3).T,
    "3.bias": [4, 7, 10],
}


@pytest.fixture(params=writer.FORMATS)
def write(request, tmp_path):
    """Return a function that writes a file in one of both formats, and returns its path."""

    def written(*arguments, **changes):
        path = tmp_path / "net.pt"
        path.write_bytes(writer.FORMATS[request.param](*arguments, **changes))
        return path

    return written


def refused(path, why):
    """Assert that a file is refused in one line, by both functions that read it."""
    model = Sequential([layers.Flatten(), layers.Dense(2)], (1, 1, 3), np)
    for reads in (read_state_dict, lambda path: load_state_dict(model, path)):
        with pytest.raises(ValueError, match=rf"net\.pt' does not contain a loadable state_dict: .*{why}") as caught:
            reads(path)
        assert "\n" not in str(caught.value)


def equal(found, expected):
    assert [*found] == [*expected]
    for name, array in found.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected[name])
        assert array.shape == np.shape(expected[name])


# Files


@pytest.mark.parametrize("name", ["torch_zip.pt", "torch_stream.pt"])
def test_what_torch_wrote_is_read(name):
    """Float32, bfloat16, a parameter of float16, a transposed tensor of float64, every third number of a storage."""
    equal(read_state_dict(FIXTURES / name), WRITTEN)
    model = Sequential([layers.Conv2D(2, 3), layers.BatchNorm(), layers.Flatten(), layers.Dense(3)], (1, 3, 3), np)
    found = load_state_dict(model, FIXTURES / name)
    assert found == {"conv2d_1": "0", "batch_norm_1": "1", "dense_1": "3"}
    np.testing.assert_array_equal(model.get_weights()["dense_1.weight"], WRITTEN["3.weight"])


@pytest.mark.parametrize("name", ["torch_zip.pt", "torch_stream.pt"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, name):
    whole = (FIXTURES / name).read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        (tmp_path / "net.pt").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"net\.pt' does not contain a loadable state_dict: ") as caught:
            read_state_dict(tmp_path / "net.pt")
        assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(write, monkeypatch):
    path = write(*described(linear()))
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    refused(path, "it is larger than 100 bytes")


def test_a_pickle_of_another_program_is_refused(tmp_path):
    (tmp_path / "net.pt").write_bytes(pickle.dumps({"fc.bias": [1.0, 2.0]}))
    refused(tmp_path / "net.pt", "it is a pickle, but not one of torch.save")


# What is in them


def test_a_state_dict_may_be_in_a_checkpoint(write):
    state, storages = described(linear())
    for value in (
        {"epoch": 3, "state_dict": state, "best": 0.5, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"model": state, "args": None},
        {"model": "resnet18", "state_dict": state},
        {"model": {"depth": 18}, "state_dict": state},
    ):
        equal(read_state_dict(write(value, storages)), linear())


def test_a_prefix_of_all_names_is_removed(write):
    equal(read_state_dict(write(*described(linear("module.fc")))), linear())
    mixed = {**linear("module.fc"), "scale": np.ones(1, np.float32)}
    equal(read_state_dict(write(*described(mixed))), mixed)


def test_step_counters_are_left_out(write):
    counted = linear() | {"bn.num_batches_tracked": np.array(7), "num_batches_tracked": np.array(7)}
    equal(read_state_dict(write(*described(counted))), linear())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (3, 2), (2, 3, 4, 5), (1,) * 8])
def test_tensors_of_any_shape_are_read(write, dtype, shape):
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape) / 8
    equal(read_state_dict(write(*described({"a": array, "b": array.T}))), {"a": array, "b": array.T})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, 2], "it is not a dict of tensors .received: list"),
        (None, "it is not a dict of tensors .received: NoneType"),
        ({"epoch": 3}, "'epoch' is not the name of a tensor .received: int"),
        ({"a": {"b": 1}}, "'a' is not the name of a tensor .received: dict"),
        ({"model": {"b": (1, 2)}}, "'b' is not the name of a tensor .received: tuple"),
        ({"model": {"x" * 5000: 1}}, f"'{'x' * 100}' is not the name of a tensor"),
        (Name("torch.FloatStorage"), "it is not a dict of tensors .received: Global"),
    ],
)
def test_anything_but_tensors_is_refused_with_advice(write, value, why):
    refused(write(value, {}), rf"{why}.*torch\.save\(model\.state_dict\(\), path\)\.$")


def test_a_tensor_needs_a_name(write):
    state = {3: tensor(storage("0", 1), 0, (1,), (1,))}
    refused(write(state, {"0": np.ones(1, np.float32)}), "'3' is not the name of a tensor .received: View")


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("int64", "I64"), ("int32", "I32"), ("int16", "I16"), ("int8", "I8"), ("uint8", "U8"), ("bool", "BOOL")],
)
def test_integers_are_not_weights(write, dtype, name):
    path = write(*described({"fc.weight": np.ones((2, 3), dtype)}))
    refused(path, rf"'fc\.weight' has the dtype {name}, but weights must be F64, F32, F16, BF16\. Convert it with ")


def test_numbers_that_are_not_finite_are_refused(write):
    refused(write(*described(linear() | {"fc.bias": np.float32([np.nan, 1])})), "contains NaN or inf")
    refused(write(*described(linear() | {"fc.bias": np.float64([1e39, 1])})), "contains NaN or inf")
    with pytest.raises(ValueError, match=f"The array '{'x' * 100}' contains NaN"):
        read_state_dict(write(*described({"x" * 5000: np.float32([np.nan])})))


def test_the_order_of_a_file_is_that_of_the_modules(write):
    arrays = {}
    for name in ("stem", "head.10", "head.9", "body"):
        arrays |= {f"{name}.weight": np.eye(2, dtype=np.float32), f"{name}.bias": np.zeros(2, np.float32)}
    model = Sequential([layers.Flatten(), *(layers.Dense(2) for _ in range(4))], (1, 1, 2), np)
    found = load_state_dict(model, write(*described(arrays)))
    assert [*found.values()] == ["stem", "head.10", "head.9", "body"]


# Views of storages


def test_tensors_may_share_numbers(write):
    numbers = np.arange(12, dtype=np.float32)
    source = storage("7", 12)
    views = {"all": ((3, 4), (4, 1), 0), "turned": ((4, 3), (1, 4), 0), "every second": ((5,), (2,), 1)}
    state = {name: tensor(source, offset, shape, strides) for name, (shape, strides, offset) in views.items()}
    state["one row"] = tensor(source, 8, (1, 4), (2**62, 1))  # no stride is taken along one row
    state["no row"] = tensor(source, 99, (0, 4), (2**62, 2**62))
    expected = [numbers.reshape(3, 4), numbers.reshape(3, 4).T, numbers[1:10:2], numbers[None, 8:], np.ones((0, 4))]
    equal(read_state_dict(write(state, {"7": numbers})), dict(zip(state, expected, strict=True)))


def test_a_parameter_is_its_tensor(write):
    state, storages = described(linear())
    state = {name: Call(Name("torch._utils._rebuild_parameter"), (data, True, {})) for name, data in state.items()}
    equal(read_state_dict(write(state, storages)), linear())


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (12,), (1,)), (12, (1,), (1,)), (13, (), ()), (0, (3, 4), (4, 2)), (0, (2,), (2**62,)), (-1, (4,), (1,)),
        (11, (4,), (-1,)), (0, (-1,), (1,)), (0, (4,), (1, 1)), (0, (4, 1), (1,)), (0, (1.0,), (1,)), (0, ("1",), (1,)),
        (0, (True,), (1,)), (0, ((1,),), (1,)), (0, (1,) * 9, (1,) * 9), (2**62, (2,), (2**62,)),
    ],
)  # fmt: skip
def test_a_tensor_outside_its_storage_is_refused(write, offset, shape, strides):
    path = write({"a": tensor(storage("0", 12), offset, shape, strides)}, {"0": np.ones(12, np.float32)})
    refused(path, "a tensor is not inside its storage '0' of 12 numbers")


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (2**62,) * 8])
def test_a_small_file_takes_little_memory(write, shape):
    path = write({"a": tensor(storage("0", 1), 0, shape, (0,) * len(shape))}, {"0": np.ones(1, np.float32)})
    tracemalloc.start()
    refused(path, "its tensors have [0-9]+ numbers, more than the file has bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_many_tensors_of_one_storage_take_little_memory(write):
    source = storage("0", 1000)
    state = {str(number): tensor(source, 0, (1000,), (1,)) for number in range(1000)}
    refused(write(state, {"0": np.ones(1000, np.float32)}), "its tensors have 1000000 numbers, more than")


@pytest.mark.parametrize("shape", [(0, 2**62), (2**62, 0, 2**62)])
def test_an_empty_tensor_can_be_too_large(write, shape):
    path = write({"a": tensor(storage("0", 1), 0, shape, (1,) * len(shape))}, {"0": np.ones(1, np.float32)})
    refused(path, "array is too big")


# Pickles


VALUES = [
    None, True, False, 0, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**62, -(2**63), 0.5, -1e300, "",
    "é\n" * 200, (), (1,), (1, 2), (1, 2, 3), tuple(range(9)), [], [1], [*range(3000)], {}, {"a": [1, {"b": ()}]},
    dict.fromkeys(map(str, range(3000)), (1, [2])), OrderedDict(b=1, a=2),
]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_those_that_were_pickled(protocol):
    for value in (*VALUES, VALUES):
        assert Pickles(pickle.dumps(value, protocol)).load() == value
    items = [[number] for number in range(1000)]
    again = Pickles(pickle.dumps((items, items[::-1]), protocol)).load()
    assert all(item is other for item, other in zip(again[0], again[1][::-1], strict=True))


def test_pickles_may_follow_one_another():
    pickles = Pickles(b"??" + b"".join(map(pickle.dumps, VALUES)), 2)
    assert [pickles.load() for _ in VALUES] == VALUES


def test_the_metadata_of_a_state_dict_are_dropped():
    state = OrderedDict(b=1, a=2)
    state._metadata = OrderedDict({"": {"version": 1}})
    assert Pickles(pickle.dumps(state, 2)).load() == {"b": 1, "a": 2}
    state.other = 1
    with pytest.raises(ValueError, match="attributes other than _metadata"):
        Pickles(pickle.dumps(state, 2)).load()


class Harmful:
    """An object whose pickle runs a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, eval, exec, getattr, open, print, pathlib.Path, os.system])
def test_nothing_in_a_file_is_run(write, tmp_path, protocol, function):
    """Only its names are read; the same pickle makes a folder where Python loads it."""
    arguments = {eval: (f"__import__('os').mkdir({str(tmp_path / 'made')!r})",)}.get(
        function, (str(tmp_path / "made"),)
    )
    content = pickle.dumps({"a": Harmful(function, *arguments)}, protocol)
    name = rf"[\w.]+\.{function.__name__}"
    refused(write(None, {}, content), f"its pickle refers to '{name}', which no state_dict contains and is not run")
    assert not (tmp_path / "made").exists()
    if function in (os.mkdir, eval):
        pickle.loads(content)
        assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.modules.linear.Linear", "torch._utils._rebuild_tensor", "torch.load", "torch.Storage", "__main__.Net",
        "collections.Counter", "os.torch.FloatStorage", "torch..FloatStorage", f"a.{'x' * 9999}",
    ],
)  # fmt: skip
def test_other_names_are_refused(write, name):
    refused(write(Name(name), {}), f"its pickle refers to '{re.escape(name[:99])}.*torch.save")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (Name("collections.OrderedDict"), ([["a", 1]],)),
        (Name("torch.FloatStorage"), (4,)),
        (Name("torch._utils._rebuild_tensor_v2"), ()),
        (Name("torch._utils._rebuild_tensor_v2"), ("0", 0, (1,), (1,), False, {})),
        (Name("torch._utils._rebuild_tensor_v2"), (storage("0", 1), 0, (1,), (1,), False, {}, {"neg": True})),
        (Name("torch._utils._rebuild_parameter"), ({}, True, {})),
        ("os.mkdir", ("made",)),
        (Call(Name("collections.OrderedDict"), ()), ()),
        (Name("collections.OrderedDict"), None),
    ],
)
def test_other_calls_are_refused(write, function, arguments):
    refused(write(Call(function, arguments), {"0": np.ones(1, np.float32)}), "its pickle calls something")


FLOAT = Name("torch.FloatStorage")


@pytest.mark.parametrize(
    "value",
    [
        ("module", FLOAT, "0", "cpu", 1), ("storage", "torch.FloatStorage", "0", "cpu", 1),
        ("storage", Name("collections.OrderedDict"), "0", "cpu", 1), ("storage", FLOAT, 0, "cpu", 1),
        ("storage", FLOAT, "0", None, 1), ("storage", FLOAT, "0", "cpu", 1.0), ("storage", FLOAT, "0", "cpu"),
        ("storage", FLOAT, "0", "cpu", 1, ("1", 0, 1)), ("storage", FLOAT, "0", "cpu", 1, None, None),
        "0", None, storage("0", 1),
    ],
)  # fmt: skip
def test_other_persistent_ids_are_refused(write, value):
    refused(write(Reference(value), {}), "its pickle refers to data that is not one storage")


def test_the_persistent_id_of_a_stream_ends_with_none(tmp_path):
    value = {"a": tensor(Reference(("storage", FLOAT, "0", "cpu", 2, None)), 0, (2,), (1,))}
    (tmp_path / "net.pt").write_bytes(streamed(value, {"0": np.ones(2, np.float32)}))
    equal(read_state_dict(tmp_path / "net.pt"), {"a": np.ones(2)})


def test_a_storage_has_one_dtype_and_length(write):
    for other in (storage("0", 2), storage("0", 1, "Half")):
        refused(write([storage("0", 1), other], {}), "its pickle refers to data that is not one storage")


#: Enough values for each opcode to find its arguments.
STACK = b"]}(K\x01X\x01\0\0\0a"
KNOWN = set("".join(chr(opcode[0]) for opcode in torch_pickle._VALUES) + "\x80\x95qr\x94(t\x85\x86\x87aesu\x93QRb.")


@pytest.mark.parametrize("opcode", [o for o in pickletools.opcodes if o.code not in KNOWN], ids=lambda o: o.name)
def test_other_opcodes_are_refused(write, opcode):
    content = b"\x80\x02" + STACK + opcode.code.encode("latin-1") + bytes(20)
    refused(write(None, {}, content), re.escape(f"its pickle has the opcode {opcode.code.encode('latin-1')!r}, which"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b".", "its pickle is damaged before byte"),
        (b"\x85.", "its pickle is damaged before byte"),
        (b"(K\x01\x86.", "its pickle is damaged before byte"),
        (b"t.", "its pickle is damaged before byte"),
        (b"(u.", "its pickle is damaged before byte"),
        (b"q\0.", "its pickle is damaged before byte"),
        (b"h\0.", "its pickle is damaged before byte"),
        (b"j\xff\xff\xff\xff.", "its pickle is damaged before byte"),
        (b"Q.", "its pickle is damaged before byte"),
        (b"}b.", "its pickle is damaged before byte"),
        (b"X\x01\0\0\0\xff.", "its pickle is damaged before byte"),
        (b"}K\x01a.", "it appends to something that is not a list"),
        (b"N(K\x01e.", "it appends to something that is not a list"),
        (b"]K\x01K\x02s.", "a dict whose keys are not all strings"),
        (b"}(K\x01u.", "a dict whose keys are not all strings"),
        (b"})K\x02s.", "a dict whose keys are not all strings"),
        (b"}NK\x02s.", "a dict whose keys are not all strings"),
        (b"K\x01K\x02\x93.", "a name is not a string"),
        (b"]}b.", "attributes other than _metadata"),
        (b"}Nb.", "attributes other than _metadata"),
        (b"\x8a\x09" + bytes(8) + b"\x01.", "an integer of 9 bytes, and at most 8"),
        (b"\x8a\xff" + bytes(255) + b".", "an integer of 255 bytes, and at most 8"),
        (b"X\xff\xff\xff\xff.", "it ends after .* bytes, within a pickle"),
    ],
)
def test_a_damaged_pickle_is_refused(write, content, why):
    refused(write(None, {}, b"\x80\x02" + content), why)


@pytest.mark.parametrize(
    "content", [b"", b"c", b"ctorch", b"ctorch\n", b"ctorch\nload", b"X\2\0\0\0a", b"K", b"\x8a\2\0"]
)
def test_a_pickle_that_is_cut_off_is_refused(content):
    with pytest.raises(ValueError, match=f"it ends after {len(content) + 2} bytes, within a pickle"):
        Pickles(b"\x80\x02" + content).load()


def test_a_pickle_has_an_end(write, monkeypatch):
    monkeypatch.setattr(torch_pickle, "MOST_OPCODES", 1000)
    refused(write(None, {}, b"\x80\x02" + b"N" * 1000 + b"."), r"its pickle has more than 1,000 opcodes")


def doubled(depth):
    """Return opcodes for a tuple of two that are one, which contains two that are one, …"""
    return b")" + b"q\0h\0\x86" * depth


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (doubled(1000) + b".", "it is not a dict of tensors .received: tuple"),
        (b"}" + doubled(1000) + b"Ns.", "keys are not all strings"),
        (b"}X\1\0\0\0a" + doubled(1000) + b"s.", "'a' is not the name of a tensor .received: tuple"),
        (doubled(1000) + b"Q.", "data that is not one storage"),
        (doubled(1000) + b")R.", "its pickle calls something"),
        (b"ccollections\nOrderedDict\n" + doubled(1000) + b"R.", "its pickle calls something"),
        (b"X\1\0\0\0a" + doubled(1000) + b"\x93.", "a name is not a string"),
        (b"]q\0" + b"h\0a" * 1000 + b".", "it is not a dict of tensors .received: list"),
        (b"}q\0X\1\0\0\0ah\0s.", "'a' is not the name of a tensor .received: dict"),
        (b"}q\0X\5\0\0\0modelh\0s.", "'model' is not the name of a tensor .received: dict"),
        (b"(" * 100_000 + b".", "its pickle is damaged"),
        (b")" + b"\x85" * 100_000 + b".", "it is not a dict of tensors .received: tuple"),
        (b"]q\0" + b"]h\0aq\0" * 50_000 + b".", "it is not a dict of tensors .received: list"),
    ],
    ids=range(13),
)
def test_what_contains_itself_or_much_is_refused_soon(write, content, why):
    path, start = write(None, {}, b"\x80\x02" + content), time.perf_counter()
    refused(path, why)
    assert time.perf_counter() - start < 60, "or hours, if what is shared were read each time it is referred to"


def test_integers_do_not_collide_as_keys():
    """Multiples of 2**61 - 1 all have the hash 0; 300,000 of them as keys would take hours."""
    content = b"".join(b"\x8a\x0a" + (number * (2**61 - 1)).to_bytes(10, "little") + b"N" for number in range(300_000))
    with pytest.raises(ValueError, match="an integer of 10 bytes"):
        Pickles(b"\x80\x02}(" + content + b"u.").load()


# Zip archives


def archive(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file, warnings.catch_warnings(action="ignore"):
        for name, data in entries:
            file.writestr(name, data)
    return path


def entries_of(**changes):
    """Return the entries of a zip archive of a linear module, some of them changed."""
    with zipfile.ZipFile(io.BytesIO(zipped(*described(linear())))) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    return [*(entries | {f"net/{name.replace('_', '/')}": data for name, data in changes.items()}).items()]


def test_an_archive_without_its_byte_order_is_little_endian(tmp_path):
    entries = [(name, data) for name, data in entries_of() if name != "net/byteorder"]
    equal(read_state_dict(archive(tmp_path / "net.pt", entries)), linear())


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([*entries_of(), ("net/data/0", bytes(24))], "entries are compressed, doubled or larger"),
        (entries_of(byteorder=b"big"), r"its numbers are big-endian\. Save it again on a little-endian"),
        (entries_of(byteorder=b""), "its numbers are big-endian"),
        (entries_of(data_0=bytes(20)), "its storage '0' has 20 bytes, not 24"),
        (entries_of(data_0=bytes(28)), "its storage '0' has 28 bytes, not 24"),
        (entries_of()[1:], "without a data.pkl, so not one of torch.save"),
        ([("other/version", b"3"), *entries_of()], "without a data.pkl, so not one of torch.save"),
        ([entry for entry in entries_of() if entry[0] != "net/data/1"], "its storage '1' has 0 bytes, not 8"),
        ([("net", b"")], "without a data.pkl, so not one of torch.save"),
    ],
    ids=range(9),
)
def test_another_archive_is_refused(tmp_path, entries, why):
    refused(archive(tmp_path / "net.pt", entries), why)


def test_compressed_entries_are_refused(tmp_path):
    refused(
        archive(tmp_path / "net.pt", entries_of(), zipfile.ZIP_DEFLATED), "entries are compressed, doubled or larger"
    )


def test_a_key_is_not_a_path(tmp_path):
    (tmp_path / "0").write_bytes(bytes(24))
    for key in ("../../0", str(tmp_path / "0")):
        path = tmp_path / "net.pt"
        path.write_bytes(zipped({"a": tensor(storage(key, 6), 0, (6,), (1,))}, {}))
        refused(path, "has 0 bytes, not 24")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "MOST_ENTRIES", 4)
    (tmp_path / "net.pt").write_bytes(zipped(*described(linear())))
    refused(tmp_path / "net.pt", "it is a zip archive of more than 4 entries")


@pytest.mark.parametrize("field", [6, 8, 10, 16, 20, 24, 28, 30, 32, 42])
@pytest.mark.parametrize("value", [1, 0x7FFF, 0xFFFF])
def test_an_entry_that_lies_is_refused_or_read(tmp_path, field, value):
    """Of each entry in the archive's directory: version, flags, compression, checksum, sizes, lengths, place."""
    whole = zipped(*described(linear()))
    for at in (found.start() for found in re.finditer(b"PK\1\2", whole)):
        changed = bytearray(whole)
        struct.pack_into("<H", changed, at + field, value)
        (tmp_path / "net.pt").write_bytes(changed)
        try:
            equal(read_state_dict(tmp_path / "net.pt"), linear())
        except ValueError as error:
            child.refused(error)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (2**31, "entries are compressed, doubled or larger than the file"),
        (300, "damaged zip archive"),
        (400, r"damaged zip archive \((cut off|Overlapped)"),
    ],
)
def test_an_entry_is_no_longer_than_the_file(tmp_path, size, why):
    """The last entry, data of 8 bytes, says that it has more."""
    whole = bytearray(zipped(*described(linear())))
    place = whole.rindex(b"PK\1\2")
    struct.pack_into("<II", whole, place + 20, size, size)
    (tmp_path / "net.pt").write_bytes(whole)
    refused(tmp_path / "net.pt", why)


@pytest.mark.parametrize("place", [1, 2**31, 2**63 - 1, 2**64 - 1])
def test_an_archive_whose_directory_is_elsewhere_is_refused(tmp_path, place):
    whole = bytearray((FIXTURES / "torch_zip.pt").read_bytes())
    struct.pack_into("<Q", whole, whole.index(b"PK\6\6") + 48, place)
    (tmp_path / "net.pt").write_bytes(whole)
    refused(tmp_path / "net.pt", "it is a damaged zip archive")


def test_a_changed_byte_of_an_archive_s_data_is_noticed(tmp_path):
    whole = zipped(*described(linear()))
    place = whole.index(linear()["fc.weight"].tobytes()) + 5
    (tmp_path / "net.pt").write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    refused(tmp_path / "net.pt", r"it is a damaged zip archive \(Bad CRC-32")


# Streams


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 1000}, "it is not of version 1001 and little-endian"),
        ({"version": (1001,)}, "it is not of version 1001 and little-endian"),
        ({"system": {"little_endian": False}}, "it is not of version 1001 and little-endian"),
        ({"system": {}}, "it is not of version 1001 and little-endian"),
        ({"system": [True]}, "it is not of version 1001 and little-endian"),
        ({"keys": ["0"]}, "its list of storages is not that of its tensors"),
        ({"keys": ["0", "1", "2"]}, "its list of storages is not that of its tensors"),
        ({"keys": ["0", ((),)]}, "its list of storages is not that of its tensors"),
        ({"keys": ["0", []]}, "its list of storages is not that of its tensors"),
        ({"keys": None}, None),
        ({"keys": {"0": 0, "1": 1}}, "its list of storages is not that of its tensors"),
        ({"keys": ["1", "0"]}, "its storage '1' does not have 2 numbers"),
        ({"keys": ["0", "0", "1"]}, "its storage '0' does not have 6 numbers"),
    ],
)
def test_another_stream_is_refused(tmp_path, changes, why):
    (tmp_path / "net.pt").write_bytes(streamed(*described(linear()), **changes))
    if why is None:
        equal(read_state_dict(tmp_path / "net.pt"), linear())
    else:
        refused(tmp_path / "net.pt", why)


@pytest.mark.parametrize("count", [0, 5, 7, 2**40, 2**63])
def test_a_storage_of_another_length_is_refused(tmp_path, count):
    whole = streamed(*described(linear()))
    place = whole.index(linear()["fc.weight"].tobytes()) - 8
    (tmp_path / "net.pt").write_bytes(whole[:place] + struct.pack("<Q", count) + whole[place + 8 :])
    refused(tmp_path / "net.pt", "its storage '0' does not have 6 numbers")


def test_a_storage_longer_than_the_file_is_refused(tmp_path):
    for count in (7, 2**40, 2**62, -1):
        value = {"a": tensor(storage("0", count), 0, (), ())}
        content = streamed(value, {"0": np.ones(6, np.float32)})
        (tmp_path / "net.pt").write_bytes(content[:-32] + struct.pack("<q", count) + content[-24:])
        refused(tmp_path / "net.pt", "it ends after .* bytes|not inside its storage|does not have")
