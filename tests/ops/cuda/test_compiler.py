"""The CUDA sources are accepted by NVIDIA's compiler for every GPU, on a machine without one."""

import ctypes
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import precisions, strict
from xpcnn.ops.cuda import compiler, depthwise, tiles
from xpcnn.ops.cuda.compiler import c_name, check_size, kernel, structure, text
from xpcnn.ops.cuda.conv_shape import ConvShape
from xpcnn.ops.cuda.tensor_products import cut_of
from xpcnn.ops.window import Window
from xpcnn.precision import STORED

#: From Volta to Blackwell; tensor cores take the other precisions from Ampere on.
CARDS = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100")
WITH_TENSOR_CORES = ("sm_80", "sm_90", "sm_100")
#: A convolution, of which filters and channels are named below.
OF = ConvShape(32, 1, 1, (32, 32), 1, (30, 30), (0, 0, 0, 0, 0))
PLACES = {"one": (1, 1, 0), "four": (1, 4, 0), "pooled": (2, 2, 1)}
#: What each source is compiled with, by name.
CONSTANTS = {
    f"correlate {filters} filters, {places}, {kernel_size or 'any'} rows, spread {spread}": (
        "correlate",
        {"FILTERS": filters, "SPREAD": spread, "BLOCK": 256}
        | dict(zip(("PLACES_DOWN", "PLACES_RIGHT", "POOLED"), PLACES[places], strict=True))
        | ({"KERNEL_HEIGHT": kernel_size, "KERNEL_WIDTH": kernel_size} if kernel_size else {}),
    )
    for filters, places, kernel_size, spread in [
        *itertools.product((4, 8, 12, 16), PLACES, (3,), (0,)), (16, "pooled", 5, 0), (8, "one", 1, 0),
        (16, "four", 3, 1), (4, "one", None, 1), (8, "four", None, 0), (12, "pooled", None, 0),
    ]
} | {
    f"weight_gradient {filters} x {channels} x {width}": (
        "weight_gradient", {"FILTERS": filters, "CHANNELS": channels, "KERNEL_WIDTH": width},
    )
    for filters, channels, width in [(8, 2, 3), (8, 1, 5), (8, 4, 1), (4, 8, 1), (4, 1, 11), (4, 1, 128)]
} | {
    f"correlate_tiles {filters} filters, {channels} channels, {size} rows, pooled {pooled}": (
        "correlate_tiles",
        {"KERNEL_HEIGHT": size, "KERNEL_WIDTH": size}
        | tiles.correlation_cut(OF._replace(filters=filters, channels=channels), Window((size, size)), pooled),
    )
    for filters, channels, size, pooled in [(64, 16, 3, None), (32, 3, 3, (2, 2)), (10, 1, 5, (2, 2)), (12, 9, 5, None)]
} | {
    f"weight_gradient_tiles {filters} filters, {channels} channels, {size} rows": (
        "weight_gradient_tiles",
        {"KERNEL_HEIGHT": size, "KERNEL_WIDTH": size}
        | tiles.gradient_cut(OF._replace(filters=filters, channels=channels), Window((size, size))),
    )
    for filters, channels, size in [(64, 16, 3), (16, 3, 3), (10, 10, 5), (32, 4, 5)]
} | {
    f"depthwise {window.kernel}, strides {window.strides}, dilation {window.dilation}, {n} images, {filters} each": (
        "depthwise", depthwise.constants(OF._replace(n=n, filters=filters), window),
    )
    for n, filters, window in [
        (32, 1, Window((3, 3))), (32, 1, Window((3, 3), (2, 2))), (32, 1, Window((5, 5))),
        (32, 1, Window((5, 5), (2, 2))), (1, 1, Window((3, 3), (2, 2))), (32, 1, Window((7, 7))),
        (32, 2, Window((3, 2), (1, 2), dilation=(1, 2))),
    ]
} | {
    f"product {each}, deep {a} {b}": ("product", {"EACH": each, "A_DEEP": a, "B_DEEP": b})
    for each in (2, 4) for a in (0, 1) for b in (0, 1)
} | {
    f"tensor_product {precision}, {rows} rows, seen {seen}, pooled {pooled}, deep {a} {b}, {size or 'any'} rows": (
        "tensor_product",
        {precision.upper(): 1, "SEEN": seen, "A_DEEP": a, "B_DEEP": b}
        | {"SPREAD": int(seen == 1 and not pooled), "POOLED": pooled}
        | cut_of(rows, pooled == 1)
        | ({"KERNEL_HEIGHT": size, "KERNEL_WIDTH": size} if size else {}),
    )
    for precision in precisions.NAMES
    for rows, seen, pooled, a, b, size in [
        *((64, 0, 0, a, b, 1) for a in (0, 1) for b in (0, 1)), (16, 0, 0, 1, 1, 1), (16, 1, 0, 1, 0, 3),
        (32, 1, 0, 1, 0, 5), (64, 1, 0, 1, 0, 3), (64, 1, 0, 0, 0, 1), (64, 1, 0, 1, 0, None), (32, 1, 1, 1, 0, 5),
        (32, 1, 1, 1, 0, None), (64, 1, 1, 1, 0, 3), (16, 2, 0, 1, 1, 3), (32, 2, 0, 1, 1, None), (64, 2, 0, 1, 1, 3),
    ]
} | {
    f"{source} {winner}, squares of {squares or 'any'}": (
        source, {"WINNER": c_name(winner)} | ({"POOL": squares} if squares else {}),
    )
    for source in ("pooling", "pooled_normalization")
    for winner, squares in [("uint8", 2), ("uint8", None), ("uint16", None), ("uint32", None)]
} | {
    f"batches of {source}": ("batches", {"SOURCE": c_name(source)}) for source in ("uint8", "float32")
} | {
    f"activations {function}": ("activations", {"FUNCTION": function})
    for function in (
        "RELU", "RELU6", "LEAKY_RELU", "ELU", "GELU", "SILU", "HARD_SWISH", "SIGMOID", "HARD_SIGMOID", "TANH"
    )
} | {
    f"tensor_product {images}, stored {left} {right} {written}, seen {seen}, pooled {pooled}, deep {a} {b}": (
        "tensor_product",
        {images.upper(): 1, "SEEN": seen, "POOLED": pooled, "A_DEEP": a, "B_DEEP": b}
        | {"SPREAD": int(seen == 1 and not pooled)}
        | {"KERNEL_HEIGHT": 3, "KERNEL_WIDTH": 3, "A_STORED": left, "B_STORED": right, "IMAGE": written}
        | cut_of(64, pooled == 1),
    )
    for images in STORED
    for it in [images.capitalize()]
    for left, right, written, seen, pooled, a, b in [
        ("REAL", it, it, 1, 0, 1, 0), ("REAL", it, it, 1, 1, 1, 0), ("REAL", "REAL", it, 1, 0, 0, 0),
        (it, it, "REAL", 2, 0, 1, 1), (it, "REAL", "REAL", 0, 0, 0, 1), ("REAL", it, it, 0, 0, 1, 0),
    ]
} | {
    f"{source} {' '.join(map(str, constants.values()))}, stored as {stored}": (source, {"IMAGE": stored, **constants})
    for stored in ("Bfloat16", "Float16")
    for source, constants in [
        ("activations", {"FUNCTION": "SILU"}), ("dropout", {}), ("finish_product", {}), ("global_average", {}),
        ("merging", {}), ("normalization", {}), ("pooled_normalization", {"WINNER": "unsigned char", "POOL": 2}),
        ("pooling", {"WINNER": "unsigned char", "POOL": 2}),
        ("pooling", {"WINNER": "unsigned short", "X_STORED": "REAL"}),
    ]
} | {
    "loss_scale": ("loss_scale", {"PERIOD": 2000}),
} | {
    name: (name, {})
    for name in (
        "adam", "copies", "counts", "cross_entropy", "dropout", "finish_product", "global_average", "merging",
        "normalization", "parts",
    )
}  # fmt: skip
#: Variants that differ in more than numbers are compiled for every card, all of them for the newest.
EVERYWHERE = [
    name
    for name in CONSTANTS
    if "16 filters" in name
    or "64 rows, seen" in name
    or "stored" in name
    or not name.startswith(("correlate ", "weight_gradient 4", "tensor"))
]


class Compiler:
    """NVIDIA's run-time compiler, from the wheel nvidia-cuda-nvrtc-cu12."""

    def __init__(self):
        found = importlib.util.find_spec("nvidia.cuda_nvrtc")
        assert found, "NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12, as `nox -s kernels` does"
        (folder,) = found.submodule_search_locations
        names = ("libnvrtc.so.12", "nvrtc64_120_0.dll")
        (library,) = (path for path in Path(folder).rglob("*nvrtc*") if path.name in names)
        self.library = ctypes.CDLL(str(library))

    def compile(self, source, options):
        """Return the machine code of a source, or raise AssertionError with what the compiler said."""
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        made = self.library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
        assert made == 0
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        done = self.library.nvrtcCompileProgram(program, len(options), given)
        self.library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.library.nvrtcGetProgramLog(program, log)
        assert done == 0, log.value.decode()
        self.library.nvrtcGetCUBINSize(program, ctypes.byref(size))
        code = ctypes.create_string_buffer(size.value)
        self.library.nvrtcGetCUBIN(program, code)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return code.raw


@pytest.fixture(scope="module")
def nvrtc():
    if sys.platform == "darwin":
        pytest.skip("NVIDIA has no compiler for macOS")
    return Compiler()


@pytest.mark.parametrize("column", ["kernels"])
@pytest.mark.parametrize(
    ("name", "card", "real"),
    [
        (name, card, "float")
        for name in CONSTANTS
        for card in (WITH_TENSOR_CORES if name.startswith("tensor") or "stored" in name else CARDS)
        if card == CARDS[-1] or name in EVERYWHERE
    ]
    + [
        (name, CARDS[-1], "double")
        for name in EVERYWHERE
        if not any(word in name for word in ("tiles", "tensor", "stored"))
    ],
)
def test_every_source_is_accepted_for_every_card(nvrtc, column, name, card, real):
    source, constants = CONSTANTS[name]
    options = ["--std=c++17", "-ftz=true", f"-arch={card}"]
    assert nvrtc.compile(text(source, REAL=real, **constants), options).startswith(b"\x7fELF")


@pytest.mark.parametrize("column", ["kernels"])
def test_what_is_wrong_is_refused(nvrtc, column):
    with pytest.raises(AssertionError, match="no_such_function"):
        nvrtc.compile('extern "C" __global__ void broken() { no_such_function(); }', ["-arch=sm_90"])


def test_every_source_is_among_them():
    sources = {path.stem for path in Path(compiler.__file__).parent.glob("*.cu")}
    assert sources == {source for source, _ in CONSTANTS.values()}


def test_what_a_source_includes_is_part_of_it():
    assert "struct Correlation" in text("correlate")
    assert "#include" not in text("correlate")


def test_a_kernel_is_compiled_once_for_the_same_constants():
    made = []

    class Module:
        def __init__(self, code, options):
            self.code = code, options

        def get_function(self, name):
            made.append(self.code)
            return lambda grid, block, arguments, shared_mem: launches.append((grid, block, arguments, shared_mem))

    class Device:
        RawModule = Module

    launches = []
    for dtype in (np.float32, np.float32, np.float64):
        adam = kernel(Device, "adam", "adam", dtype, SIZE=3)
        adam.for_each(257, 1, True, 0.5, None, np.uint64(7))
    assert [code.splitlines()[:2] for code, _ in made] == [
        ["#define REAL float", "#define SIZE 3"], ["#define REAL double", "#define SIZE 3"]
    ]  # fmt: skip
    assert {options for _, options in made} == {("--std=c++17",)}, "CuPy compiles an empty source for each other"
    adam((2, 3), (64,), shared=10)
    (grid, block, arguments, _), (_, _, _, shared) = launches[-2:]
    assert (grid, block, shared) == ((2,), (256,), 80)
    assert [type(argument) for argument in arguments] == [np.int32, np.int32, np.float64, type(None), np.uint64]


def test_a_structure_is_ints_in_order():
    of = structure(n=3, relu=True)
    assert of.tobytes() == np.array([3, 1], np.int32).tobytes()


def test_more_elements_than_an_int_counts_are_refused():
    class Huge:
        shape, size = (2**16, 2**15), 2**31

    check_size(strict.xp.ones(3))
    with pytest.raises(ValueError, match=r"shape \(65536, 32768\) has more than 2,147,483,647 .*smaller batch_size"):
        check_size(Huge())
