"""The backends of the test matrix (numpy, numba, strict, kernels, cupy), and what the tests need from outside."""

import importlib
import os
from pathlib import Path

import hypothesis
import numpy
import pytest

from tests import kernels, strict, tally
from xpcnn import backend

COLUMNS = ("numpy", "numba", "strict", "kernels", "cupy")

# A test that does not name a backend gets the same one on every machine.
os.environ.setdefault(backend.ENVIRONMENT_VARIABLE, "numpy")

hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if "CI" in os.environ else "here")

#: What even a complete run may lack: what has a session of its own, or is there on some systems alone.
ABSENT = ("cupy", "fcntl", "mlflow", "mpi4py", "resource", "tensorboard", "tensorboardX", "torch")


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help=f"run only these columns of the matrix: {', '.join(COLUMNS)} (repeat, or separate by commas); "
        f"tests without columns belong to that of {backend.ENVIRONMENT_VARIABLE}, which is numpy if it is not set",
    )
    parser.addoption(
        "--cases",
        type=int,
        metavar="N",
        help="how many cases the tests of faults and of hostile input try, in place of a few; ends with a table",
    )
    parser.addoption(
        "--complete", action="store_true", help="a test that would skip for want of a package fails, but for some"
    )
    parser.addoption("--brief", action="store_true", help="a shorter last line of the table: tried and failed")
    parser.addoption("--seed", type=int, default=0, metavar="N", help="what the cases are drawn with (default: 0)")


def pytest_configure(config):
    if config.getoption("--cases") is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(tally.Table(brief=config.getoption("--brief")))
    if config.getoption("--complete"):
        pytest.importorskip = _import_or_fail


def _import_or_fail(name, *arguments, _skip=pytest.importorskip, **keywords):
    if name.partition(".")[0] in ABSENT:
        return _skip(name, *arguments, **keywords)
    return importlib.import_module(name)


def pytest_collection_modifyitems(config, items):
    wanted = ",".join(config.getoption("--backend") or COLUMNS).split(",")
    for name in wanted:
        if name not in COLUMNS:
            raise pytest.UsageError(f"--backend: there is no column {name!r}. Use: {', '.join(COLUMNS)}.")
    others = [item for item in items if _column(item) not in wanted]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _column(item) in wanted]


def _column(item):
    default = os.environ[backend.ENVIRONMENT_VARIABLE]
    default = default if default in COLUMNS else "numpy"
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return next((parameters[name] for name in ("xp", "device", "column") if name in parameters), default)


# The scope is the session so that Hypothesis, which runs one test many times, can use it.
@pytest.fixture(scope="session", params=COLUMNS)
def xp(request):
    """The array module of one column; a column skips, saying why, where it cannot compute."""
    return _array_module(request.param)


@pytest.fixture(scope="session", params=COLUMNS[2:])
def device(request):
    """The array module of one column that stands for a device, or is one."""
    return _array_module(request.param)


def _array_module(column):
    if column == "numpy":
        return numpy
    if column == "numba":
        compiled, seen, _ = backend.probe_numba()
        if compiled is None:
            pytest.skip(f"numba column: {seen}")
        return compiled
    if column == "strict":
        return strict.xp
    if column == "kernels":
        if kernels.COMPILER is None:
            pytest.skip("kernels column: there is no C++ compiler for the shim (g++ or clang++, on Linux)")
        return kernels.xp
    cupy, seen, _ = backend.probe_cupy()
    if cupy is None:
        pytest.skip(f"cupy column: {seen}")
    return cupy


@pytest.fixture(scope="session")
def cases(request):
    """A function that returns how many cases to try: as many as were asked for, else the few that it is given."""
    asked = request.config.getoption("--cases")
    return lambda few: few if asked is None else asked


@pytest.fixture(scope="session")
def seed(request):
    """What cases are drawn with."""
    return request.config.getoption("--seed")


@pytest.fixture(name="tally")
def _tally(record_property):
    """Counts the cases of a test; it fails at its end if one of them did."""
    counted = tally.Tally()
    yield counted
    record_property("tally", [[kind, outcome, number] for (kind, outcome), number in counted.counts.items()])
    counted.check()


@pytest.fixture(scope="session")
def host():
    """The function that copies an array of any column to NumPy."""
    return backend.to_host


@pytest.fixture(scope="session")
def data_folder():
    """The folder with the real data sets (MNIST and the blood cells)."""
    if not os.environ.get("XPCNN_DATA"):
        pytest.skip("XPCNN_DATA is not set: real data (MNIST, blood cells) is missing")
    folder = Path(os.environ["XPCNN_DATA"])
    assert folder.is_dir(), f"XPCNN_DATA names no folder: {folder.absolute()}"
    return folder
