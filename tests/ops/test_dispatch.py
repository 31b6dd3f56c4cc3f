"""Functions with a CUDA kernel: the same name and signature, and the choice between the two."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from tests import strict
from xpcnn import ops
from xpcnn.backend import kernels
from xpcnn.ops.dispatch import WITH_KERNELS, counterpart

for module in pkgutil.iter_modules(ops.__path__):
    importlib.import_module(f"xpcnn.ops.{module.name}")


TWINS = [(function, package) for function, packages in WITH_KERNELS.items() for package in packages]


@pytest.mark.parametrize(("function", "package"), TWINS, ids=lambda part: getattr(part, "__name__", part))
def test_a_kernel_has_the_signature_of_the_function_it_stands_in_for(function, package):
    if package == "cpu":
        pytest.importorskip("numba")
    assert inspect.signature(counterpart(function, package)) == inspect.signature(function)


def test_these_have_cuda_kernels():
    assert {function.__name__ for function, packages in WITH_KERNELS.items() if "cuda" in packages} == {
        "convolution", "dense", "extreme_pool", "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hard_swish",
        "sigmoid", "hard_sigmoid", "tanh", "moments", "statistics", "batch_normalization",
        "softmax_cross_entropy", "dropout", "adam", "gather", "next_rows", "count_step", "hits", "confusion",
        "global_average_pool", "copy_each", "update_scale", "add",
    }  # fmt: skip


def test_kernels_compute_where_the_array_module_has_them(xp, monkeypatch):
    package, calls = kernels(xp), []
    compiled = [function for function, packages in WITH_KERNELS.items() if package in packages]
    for function in compiled:
        monkeypatch.setattr(
            importlib.import_module(counterpart(function, package).__module__),
            function.__name__,
            lambda *arguments, name=function.__name__, **keywords: calls.append(name),
        )
        function(xp, None)
    assert calls == [function.__name__ for function in compiled]
    assert kernels(np) is None
    assert kernels(strict.xp) is None
