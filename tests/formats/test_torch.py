"""PyTorch state dicts made by hand, without PyTorch: dtypes, order, tables, and files that are refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xpcnn import Sequential, files, layers
from xpcnn.formats.torch import load_state_dict, read_state_dict, save_state_dict
from xpcnn.formats.torch_names import match

RNG = np.random.default_rng(0)
STATISTICS = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (4,))
KERNEL = {"weight": (4, 4, 3, 3)}
LINEAR = {"weight": (4, 4), "bias": (4,)}


def dense(count=1, units=4, **last):
    """A model of dense layers of one size, (4,) to (4,)."""
    stack = [layers.Dense(units) for _ in range(count - 1)]
    return Sequential([layers.Flatten(), *stack, layers.Dense(units, **last)], (1, 2, 2), np)


def arrays(*modules):
    """Return a state dict of linear modules, (4, 4), drawn."""
    drawn = {}
    for module in modules:
        drawn |= {f"{module}.weight": RNG.normal(size=(4, 4)), f"{module}.bias": RNG.normal(size=4)}
    return {name: value.astype(np.float32) for name, value in drawn.items()}


def write(path, tensors, dtype="F32"):
    """Write arrays to a safetensors file in the order given, which the library does not keep."""
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


# Numbers


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_floats_of_every_size_are_read(tmp_path, dtype):
    weights = {name: array.astype(dtype) for name, array in arrays("fc").items()}
    save_file(weights, tmp_path / "a")
    model = dense()
    assert load_state_dict(model, tmp_path / "a") == {"dense_1": "fc"}
    for name, array in model.get_weights().items():
        np.testing.assert_array_equal(array, weights[name.replace("dense_1", "fc")].astype(np.float32))


def test_a_bfloat16_is_the_upper_half_of_a_float32(tmp_path):
    numbers = [1.0, -2.5, 3.140625, 2.0**-126 * 0.5, -0.0, 3.3895314e38, 2.0**-120, 0.1]
    bits = (np.array(numbers * 2, np.float32).view(np.uint32) >> 16).astype(np.uint16).reshape(4, 4)
    write(tmp_path / "a", {"fc.weight": bits, "fc.bias": bits[0]}, "BF16")
    model = dense()
    load_state_dict(model, tmp_path / "a")
    weight = model.get_weights()["dense_1.weight"]
    np.testing.assert_array_equal(weight.ravel()[:7], np.array(numbers[:7], np.float32))
    assert weight.ravel()[7] == 0.099609375


def test_a_file_is_read_without_a_model(tmp_path):
    weights = arrays("stem", "body")
    write(tmp_path / "a", weights)
    found = read_state_dict(tmp_path / "a")
    assert [*found] == [*weights]
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, weights[name])
    counted = {"a": np.ones((2, 0), np.float16), "bn.num_batches_tracked": np.array(3)}
    save_file(counted, tmp_path / "b")
    assert {name: array.shape for name, array in read_state_dict(tmp_path / "b").items()} == {"a": (2, 0)}
    save_file({"a": np.float32([np.inf])}, tmp_path / "c")
    with pytest.raises(ValueError, match=r"c' does not contain a loadable state_dict: The array 'a' contains NaN or"):
        read_state_dict(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none")


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"fc.weight": np.ones((4, 4), np.int8), "fc.bias": np.ones(4, np.int8)}, r"'fc\.\w+' has the dtype I8, but"),
        ({"fc.weight": np.full((4, 4), 1e39), "fc.bias": np.ones(4)}, r"'dense_1.weight' contains NaN or inf"),
        ({"fc.weight": np.ones((4, 4)), "fc.bias": np.full(4, np.nan)}, r"'dense_1.bias' contains NaN or inf"),
    ],
)
def test_other_numbers_are_refused_and_nothing_is_written(tmp_path, tensors, why):
    save_file(tensors, tmp_path / "a")
    model = dense()
    model.temperature, before = 2.0, model.get_weights()
    with pytest.raises(ValueError, match=rf"a' does not contain a loadable state_dict: .*{why}"):
        load_state_dict(model, tmp_path / "a")
    assert all((model.get_weights()[name] == value).all() for name, value in before.items())
    assert model.temperature == 2


# Order


def test_numbers_count_where_the_file_is_sorted_by_name(tmp_path):
    modules = [f"net.{number}" for number in (0, 2, 9, 10, 100)]
    weights = arrays(*modules)
    save_file(weights, tmp_path / "a")
    model = dense(5)
    found = load_state_dict(model, tmp_path / "a")
    assert [*found.values()] == modules
    np.testing.assert_array_equal(model.get_weights()["dense_4.bias"], weights["net.10.bias"])


def test_the_order_of_the_file_counts_where_it_is_not_sorted(tmp_path):
    write(tmp_path / "a", arrays("stem", "body", "head"))
    assert [*load_state_dict(dense(3), tmp_path / "a").values()] == ["stem", "body", "head"]


def test_names_that_tell_no_order_are_refused_until_they_are_paired(tmp_path):
    save_file(arrays("stem", "body", "head"), tmp_path / "a")
    model = dense(3)
    with pytest.raises(ValueError, match=r"do not determine which module .*names=\{'dense_1': 'body'\}") as e:
        load_state_dict(model, tmp_path / "a")
    assert str(e.value).splitlines()[2].split("|") == [
        "body.weight (4, 4) ", " dense_1.weight (4, 4) ", " fits, as others do"
    ]  # fmt: skip
    names = {"dense_1": "stem", "dense_3": "head"}
    assert load_state_dict(model, tmp_path / "a", names) == {**names, "dense_2": "body"}


@pytest.mark.parametrize("names", [{"dense_9": "stem"}, {"dense_1": "steam"}, {"dense_1": "stem", "dense_2": "stem"}])
def test_pairs_of_what_is_not_there_are_refused(tmp_path, names):
    save_file(arrays("stem", "body"), tmp_path / "a")
    with pytest.raises(ValueError, match=r"names must pair layers \(dense_1, dense_2, …\) with .*\(body, stem, …"):
        load_state_dict(dense(2), tmp_path / "a", names)


def test_a_module_without_a_name_is_one_too(tmp_path):
    save_file({"weight": np.ones((4, 4), np.float32), "bias": np.ones(4, np.float32)}, tmp_path / "a")
    model = dense()
    assert load_state_dict(model, tmp_path / "a") == {"dense_1": ""}
    save_state_dict(model, tmp_path / "b", {"dense_1": ""})
    assert load_file(tmp_path / "b").keys() == {"weight", "bias"}


def test_layers_with_the_names_of_all_modules_are_those(tmp_path):
    """Else the order of the file would decide here, or nothing at all."""
    weights = arrays("body", "layer1.0.conv1", "fc")
    write(tmp_path / "a", weights)
    stack = [layers.Dense(4, name=name) for name in ("fc", "body", "layer1.0.conv1")]
    model = Sequential([layers.Flatten(), *stack], (1, 2, 2), np)
    assert load_state_dict(model, tmp_path / "a") == {name: name for name in ("fc", "body", "layer1.0.conv1")}
    np.testing.assert_array_equal(model.get_weights()["fc.weight"], weights["fc.weight"])
    write(tmp_path / "more", weights | arrays("head"))
    with pytest.raises(ValueError, match="the arrays do not fit the network"):
        load_state_dict(model, tmp_path / "more")


def test_a_name_in_common_decides_nothing_unless_all_are():
    theirs = {"b": LINEAR, "a": LINEAR, "c": LINEAR}
    ours = {"a": LINEAR, "b": LINEAR, "other": LINEAR}
    assert match(ours, theirs, in_order=True) == {"a": "b", "b": "a", "other": "c"}
    assert match(ours, theirs, names={"other": "c"}) == {"a": "a", "b": "b", "other": "c"}
    assert match({"a": KERNEL, "b": LINEAR}, {"a": LINEAR, "b": KERNEL}) == {"a": "b", "b": "a"}


def ladder(*kinds):
    """Return layers {"a": arrays, …} of kinds c (convolution), n (normalisation) and l (linear)."""
    shapes = {"c": KERNEL, "n": STATISTICS, "l": LINEAR}
    return {f"{kind}{number}": shapes[kind] for number, kind in enumerate(kinds)}


def named(**modules):
    return {name.replace("_", "."): {"c": KERNEL, "n": STATISTICS, "l": LINEAR}[kind] for name, kind in modules.items()}


def test_what_is_beneath_one_parent_stands_together():
    theirs = named(head_0="l", tail_0="l", tail_1="n", head_1="c")
    assert [*match(ladder(*"lcln"), theirs).values()] == ["head.0", "head.1", "tail.0", "tail.1"]
    assert [*match(ladder(*"lnlc"), theirs).values()] == ["tail.0", "tail.1", "head.0", "head.1"]


def test_kinds_of_numbered_names_may_alternate():
    theirs = named(bn1="n", bn2="n", bn10="n", conv1="c", conv2="c", conv10="c")
    assert [*match(ladder(*"cncncn"), theirs).values()] == ["conv1", "bn1", "conv2", "bn2", "conv10", "bn10"]
    assert [*match(ladder(*"ncnccn"), theirs).values()] == ["bn1", "conv1", "bn2", "conv2", "conv10", "bn10"]


def test_a_residual_stack_is_not_crossed():
    """After activation and before it: the same arrays and names, and only the stack's borders tell them apart."""
    theirs = named(stem="l", bn="n", block_conv1="c", block_bn1="n", block_conv2="c", block_bn2="n")
    ours = ladder(*"lncncn")
    with pytest.raises(ValueError, match="do not determine"):
        match(ours, theirs)
    inside = [*ours][2:]
    assert [*match(ours, theirs, [inside]).values()][1:3] == ["bn", "block.conv1"]
    assert [*match(ours, theirs, [[*ours][1:5]]).values()][1:3] == ["block.bn1", "block.conv1"]


def test_different_shapes_need_no_order():
    theirs = {"z9": LINEAR, "z1": STATISTICS, "z5": KERNEL}
    assert match(ladder(*"lcn"), theirs) == {"l0": "z9", "c1": "z5", "n2": "z1"}


def test_long_and_deep_names_are_told_apart_in_time():
    many = 400
    theirs = {f"net.conv{number}": KERNEL for number in range(many)} | {
        f"net.bn{number}": STATISTICS for number in range(many)
    }
    assert [*match(ladder(*"cn" * many), theirs).values()][-2:] == [f"net.conv{many - 1}", f"net.bn{many - 1}"]
    deep = "a." * 100_000
    assert [*match(ladder(*"ll"), {f"{deep}9": LINEAR, f"{deep}10": LINEAR}).values()] == [f"{deep}9", f"{deep}10"]
    for odd in (["a", "a."], ["..", ""], ["9" * 9000, "8" * 9000 + "x"], "abcdefghijklmnopqrstuvwxyz"):
        with pytest.raises(ValueError, match="do not determine"):
            match(ladder(*"l" * len(odd)), dict.fromkeys(odd, LINEAR))


# Files that do not fit


def test_a_table_shows_what_fits_and_what_does_not(tmp_path):
    save_file(
        {
            "conv.weight": np.ones((3, 1, 3, 3), np.float32),
            "conv.bias": np.ones(3, np.float32),
            "fc.weight": np.ones((5, 3), np.float32),
            "fc.bias": np.ones(5, np.float32),
            "more\n.scale": np.ones(2, np.float32),
        },
        tmp_path / "a",
    )
    model = Sequential(
        [layers.Conv2D(3, 3), layers.BatchNorm(), layers.GlobalAveragePool2D(), layers.Dense(4)], (1, 5, 5), np
    )
    with pytest.raises(ValueError, match="the arrays do not fit the network") as caught:
        load_state_dict(model, tmp_path / "a")
    first, *table = str(caught.value).splitlines()
    assert (
        first == f"{str(tmp_path / 'a')!r} does not contain a loadable state_dict: the arrays do not fit the network."
    )
    cells = [[cell.strip() for cell in line.split(" | ")] for line in table]
    assert cells == [
        ["theirs", "ours"],
        ["conv.weight (3, 1, 3, 3)", "conv2d_1.weight (3, 1, 3, 3)", "fits"],
        ["conv.bias (3,)", "conv2d_1.bias (3,)", "fits"],
        ["fc.weight (5, 3)", "batch_norm_1.weight (3,)", "does not fit"],
        ["fc.bias (5,)", "batch_norm_1.bias (3,)", "does not fit"],
        ["-", "batch_norm_1.running_mean (3,)", "does not fit"],
        ["-", "batch_norm_1.running_var (3,)", "does not fit"],
        ["-", "dense_1.weight (4, 3)", "does not fit"],
        ["-", "dense_1.bias (4,)", "does not fit"],
        ["'more\\n.scale' (2,)", "-", "does not fit"],
    ]


def test_a_table_has_an_end(tmp_path):
    save_file({f"{number}.weight": np.ones(1, np.float32) for number in range(1000)}, tmp_path / "a")
    with pytest.raises(ValueError, match=r"\nand 901 more$") as caught:
        load_state_dict(dense(), tmp_path / "a")
    assert len(str(caught.value).splitlines()) == 103


def test_a_file_that_begins_like_a_pickle_by_chance_is_none(tmp_path):
    """The first bytes are the header's length: 640 is 80 02 in hexadecimal."""
    weights = arrays("fc")
    write(tmp_path / "a", weights)
    content = (tmp_path / "a").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].ljust(640)
    (tmp_path / "a").write_bytes((640).to_bytes(8, "little") + header + content[8 + length :])
    assert load_state_dict(dense(), tmp_path / "a") == {"dense_1": "fc"}


def test_a_file_that_is_cut_off_is_refused_in_one_line(tmp_path):
    save_file(arrays("fc"), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match="cut' does not contain a loadable state_dict: it is not a safetensors file"
        ) as e:
            load_state_dict(dense(), tmp_path / "cut")
        assert "\n" not in str(e.value)


def test_a_file_with_changed_bytes_is_refused_or_read(tmp_path, tally, cases, seed):
    """PyTorch's files have no checksum, so that a changed weight is a weight; only ValueError is raised."""
    model = Sequential([layers.Conv2D(2, 3), layers.BatchNorm(), layers.Flatten(), layers.Dense(2)], (1, 5, 5), np)
    save_state_dict(model, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for number in range(cases(100)):
        rng, changed = np.random.default_rng([seed, number]), bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 5)):
            changed[place] = rng.integers(256) if rng.integers(2) else ord(rng.choice([*'"{}[]:,0123456789.']))
        (tmp_path / "changed").write_bytes(changed)
        with tally.case("state dict", f"seed {seed}, case {number}") as case:
            try:
                load_state_dict(model, tmp_path / "changed")
            except ValueError:
                case.refused()
            assert all(np.isfinite(value).all() for value in model.get_weights().values())


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "long").write_bytes((files.MOST_HEADER_BYTES + 1).to_bytes(8, "little") + b"{")
    with pytest.raises(ValueError, match="its header has 8388609 bytes"):
        load_state_dict(dense(), tmp_path / "long")
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    save_file(arrays("fc"), tmp_path / "large")
    with pytest.raises(ValueError, match="it is larger than 100 bytes"):
        load_state_dict(dense(), tmp_path / "large")
    with pytest.raises(FileNotFoundError):
        load_state_dict(dense(), tmp_path / "none")


# Writing


def test_modules_are_numbered_as_in_a_sequential_of_the_same_layers(tmp_path):
    model = Sequential(
        [
            layers.Conv2D(4, 3, activation="relu"),  # 0, 1
            layers.Residual([layers.Conv2D(4, 3, padding="same", activation=layers.Tanh()), layers.BatchNorm()]),  # 2
            layers.MaxPool2D(2),  # 3
            layers.GlobalAveragePool2D(),  # 4, 5
            layers.Dropout(0.1),  # 6
            layers.Dense(3, use_bias=False, activation="softmax"),  # 7
        ],
        (1, 8, 8),
        np,
    )
    save_state_dict(model, tmp_path / "a")
    saved = load_file(tmp_path / "a")
    assert {*saved} == {
        "0.weight", "0.bias", "2.0.weight", "2.0.bias", "2.2.weight", "2.2.bias", "2.2.running_mean",
        "2.2.running_var", "2.2.num_batches_tracked", "7.weight",
    }  # fmt: skip
    assert saved["2.2.num_batches_tracked"].dtype == np.int64
    assert saved["2.2.num_batches_tracked"].shape == ()
    before = model.get_weights()
    model.set_weights({name: np.zeros_like(value) for name, value in before.items()})
    load_state_dict(model, tmp_path / "a")
    assert all((model.get_weights()[name] == value).all() for name, value in before.items())


def test_the_layers_of_a_shortcut_are_in_a_sequential_of_their_own(tmp_path):
    block = layers.Residual(
        [layers.Conv2D(4, 3, 2, 1), layers.BatchNorm()], [layers.Conv2D(4, 1, 2), layers.BatchNorm()], "relu"
    )
    model = Sequential([block, layers.Flatten(), layers.Dense(3)], (1, 8, 8), np)
    save_state_dict(model, tmp_path / "a")
    assert {name.rpartition(".")[0] for name in load_file(tmp_path / "a")} == {
        *("0.0", "0.1", "0.shortcut.0", "0.shortcut.1", "2")
    }
    before = model.get_weights()
    model.set_weights({name: np.zeros_like(value) for name, value in before.items()})
    load_state_dict(model, tmp_path / "a")
    assert all((model.get_weights()[name] == value).all() for name, value in before.items())


@pytest.mark.parametrize(("units", "activation"), [(4, "softmax"), (1, "sigmoid")])
def test_a_temperature_is_put_into_the_last_layer(tmp_path, units, activation):
    model = Sequential([layers.Flatten(), layers.Dense(4), layers.Dense(units, activation)], (1, 2, 2), np)
    x = RNG.normal(size=(3, 1, 2, 2))
    model.temperature = 1.7
    calibrated = model.predict(x)
    weights = model.get_weights()
    save_state_dict(model, tmp_path / "a")
    assert model.temperature == 1.7
    assert all((model.get_weights()[name] == value).all() for name, value in weights.items())
    load_state_dict(model, tmp_path / "a")
    assert model.temperature == 1
    np.testing.assert_allclose(model.predict(x), calibrated, rtol=1e-5)


@pytest.mark.parametrize(
    "ending",
    [
        [layers.Dense(4)],
        [layers.Dense(4, activation="sigmoid")],
        [layers.Dense(4), layers.BatchNorm(), layers.Softmax()],
        [layers.Softmax()],
    ],
)
def test_a_temperature_that_fits_nowhere_is_refused_and_no_file_is_written(tmp_path, ending):
    model = Sequential([layers.Flatten(), *ending], (1, 2, 2), np)
    model.temperature = 1.7
    with pytest.raises(ValueError, match=r"temperature, 1\.7, can only be folded into a final Dense layer"):
        save_state_dict(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    model.temperature = 1.0
    save_state_dict(model, tmp_path / "a")


@pytest.mark.parametrize("names", [{}, {"dense_1": "a"}, {"dense_1": "a", "dense_2": "a"}])
def test_names_for_writing_are_one_for_each_layer(tmp_path, names):
    with pytest.raises(ValueError, match="names must map each of dense_1, dense_2 to a different module"):
        save_state_dict(dense(2), tmp_path / "a", names)
