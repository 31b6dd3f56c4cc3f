"""Functions with a CUDA kernel: the same name and signature, and the choice between the two."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from tests import strict
from xpcnn import ops
from xpcnn.backend import has_kernels
from xpcnn.ops.fused import FUSED

for module in pkgutil.iter_modules(ops.__path__):
    importlib.import_module(f"xpcnn.ops.{module.name}")


def twin(function):
    module = importlib.import_module(function.__module__.replace("xpcnn.ops.", "xpcnn.ops.cuda."))
    return getattr(module, function.__name__)


@pytest.mark.parametrize("function", FUSED, ids=lambda function: function.__name__)
def test_a_kernel_has_the_signature_of_the_function_it_stands_in_for(function):
    assert inspect.signature(twin(function)) == inspect.signature(function)


def test_nothing_else_is_public_there_under_a_name_of_the_generic_room():
    assert {function.__name__ for function in FUSED} == {
        "convolution", "dense", "extreme_pool", "relu", "moments", "statistics", "normalize", "gradient_sums",
        "normalize_backward", "softmax_cross_entropy", "dropout", "adam", "gather", "next_rows", "count_step", "hits",
        "confusion",
    }  # fmt: skip


def test_kernels_compute_where_the_array_module_has_them(xp, monkeypatch):
    calls, twins = [], {function: twin(function) for function in FUSED}
    for function in FUSED:
        monkeypatch.setattr(
            importlib.import_module(twins[function].__module__),
            function.__name__,
            lambda *arguments, name=function.__name__, **keywords: calls.append(name),
        )
        if has_kernels(xp):
            function(xp, None)
    assert calls == ([function.__name__ for function in FUSED] if has_kernels(xp) else [])
    assert not has_kernels(np)
    assert not has_kernels(strict.xp)
