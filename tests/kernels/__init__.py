"""The stand-in for CuPy with CUDA kernels: their sources, compiled by a C++ compiler and run on NumPy's memory.

``kernels.xp`` is :mod:`tests.strict` with ``RawModule``, so that the results of the fused kernels, barriers included,
are tested on every machine with a C++ compiler. It says nothing about their speed.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from tests import strict

SHIM = Path(__file__).with_name("shim.h")
COMPILER = (shutil.which("g++") or shutil.which("clang++")) if sys.platform == "linux" else None
OPTIONS = ["-O2", "-w", "-std=c++17", "-fPIC", "-U_FORTIFY_SOURCE", "-ffp-contract=off"]
OPTIONS += ["-fno-strict-aliasing"]  # kernels read several numbers as one, as CUDA allows
MOST_THREADS, MOST_SHARED_BYTES = 1024, 48 * 1024


class RawModule:
    """Kernels of one source, as CuPy's class of that name."""

    def __init__(self, *, code, options=()):
        defined = (option.removeprefix("-D").split("=") for option in options if option.startswith("-D"))
        self._code, self._library = "".join(f"#define {name} {value}\n" for name, value in defined) + code, None

    def compile(self):
        names = re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(", self._code)
        constants, code = re.fullmatch(r"((?:#define [^\n]*\n)*)(.*)", self._code, re.DOTALL).groups()
        code = code.replace("extern __shared__", "extern")
        text = f'{constants}#include "{SHIM}"\n{code}\n' + "".join(f"OFFER({name})\n" for name in names)
        # PyDLL keeps the interpreter locked: the shim runs one kernel at a time.
        self._library = ctypes.PyDLL(str(_compiled(text)))

    def get_function(self, name):
        if self._library is None:
            self.compile()
        sizes = (ctypes.c_int * 64)()
        count = getattr(self._library, f"sizes_{name}")(sizes)
        return RawKernel(name, getattr(self._library, f"launch_{name}"), list(sizes[:count]))


class RawKernel:
    """One kernel: called with a grid, a block and its arguments, which it checks as no device would."""

    def __init__(self, name, launch, sizes):
        self.name, self._launch, self._sizes = name, launch, sizes

    def __call__(self, grid, block, args, *, shared_mem=0):
        grid, block = (tuple((*map(int, d), 1, 1)[:3]) for d in (grid, block))
        assert np.prod(block) <= MOST_THREADS, f"{self.name}: a block of {block} threads"
        assert min(*grid, *block) > 0, f"{self.name}: an empty launch, grid {grid}, block {block}"
        assert max(grid[1:]) < 2**16, f"{self.name}: a grid of {grid}"
        assert shared_mem <= MOST_SHARED_BYTES, f"{self.name}: {shared_mem} bytes of shared memory"
        assert len(args) == len(self._sizes), f"{self.name} takes {len(self._sizes)} arguments, not {len(args)}"
        held = [self._held(arg, size, place) for place, (arg, size) in enumerate(zip(args, self._sizes, strict=True))]
        pointers = (ctypes.c_void_p * len(held))(*(array.ctypes.data for array in held))
        three = ctypes.c_uint * 3

        def launch(kept=(held, args)):  # what the pointers lead to lives as long as the launch may be repeated
            self._launch(three(*grid), three(*block), pointers)

        strict.launch(self.name, launch)

    def _held(self, argument, size, place):
        """Return a NumPy array of one element, whose memory is what the kernel is given."""
        if argument is None or isinstance(argument, strict.ndarray):
            address = 0 if argument is None else argument._host.ctypes.data
            held = np.array(address, dtype=np.uint64)
        else:
            assert isinstance(argument, np.generic) or (isinstance(argument, np.ndarray) and argument.size == 1), (
                f"{self.name}, argument {place}: {type(argument)} has no size of its own; pass a NumPy scalar"
            )
            held = np.array(argument)
        assert held.itemsize == size, f"{self.name}, argument {place}: {held.itemsize} bytes, the kernel takes {size}"
        return held


def _compiled(text):
    """Return the shared library of a source, compiled once for all processes and runs."""
    text += SHIM.read_text(encoding="utf-8")
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"xpcnn-kernels-{os.getuid() if hasattr(os, 'getuid') else 'all'}"
    folder.mkdir(exist_ok=True)
    library = folder / f"{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            source, made = Path(place, "kernel.cpp"), Path(place, "kernel.so")
            source.write_text(text.removesuffix(SHIM.read_text(encoding="utf-8")), encoding="utf-8")
            _run("-shared", "-include", _parsed(folder), source, "-o", made)
            made.replace(library)
    return library


def _parsed(folder):
    """Return a header of what the shim includes, parsed once: for each kernel, it would be half of the work."""
    lines = [line for line in SHIM.read_text(encoding="utf-8").splitlines() if line.startswith("#include")]
    text = "\n".join([*lines, ""])
    header = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.h"
    parsed = header.with_suffix(".h.gch")
    if not parsed.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            source, made = Path(place, header.name), Path(place, parsed.name)
            source.write_text(text, encoding="utf-8")
            _run("-x", "c++-header", source, "-o", made)
            source.replace(header)
            made.replace(parsed)
    return header


def _run(*arguments):
    done = subprocess.run([COMPILER, *OPTIONS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _matmul(*arguments, **keywords):
    """A product by cuBLAS, which CuPy does not allow while a stream captures."""
    if strict.captures():
        raise RuntimeError("calling cuBLAS API during stream capture is currently unsupported")
    return strict.xp.matmul(*arguments, **keywords)


xp = ModuleType("kernels")
vars(xp).update({name: value for name, value in vars(strict.xp).items() if not name.startswith("__")})
vars(xp).update(__getattr__=strict._missing, RawModule=RawModule, matmul=_matmul)
