"""The array module is chosen by name, by the environment or by what works, and says why."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests import strict
from xpcnn import backend
from xpcnn.extras import install_line


@pytest.fixture(autouse=True)
def fresh_probe(monkeypatch):
    """Probe anew in each test, without the caller's environment and without Numba."""
    monkeypatch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    backend.probe_cupy.cache_clear()
    yield
    backend.probe_cupy.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """Return a function that puts a module (or None: nothing) where CuPy is imported from."""
    return lambda module: monkeypatch.setitem(sys.modules, "cupy", module)


def fake_cupy(
    ones=strict.xp.ones,
    properties=lambda device: {"name": b"Pretend GPU"},
    module=lambda code: SimpleNamespace(get_function=lambda name: lambda grid, block, arguments: None),
):
    runtime = SimpleNamespace(getDeviceProperties=properties)
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    return SimpleNamespace(__name__="cupy", __version__="14.0", ones=ones, cuda=cuda, RawModule=module)


def failing(error):
    """Return a function that raises."""

    def fail(*args, **keywords):
        raise error

    return fail


fail = failing(RuntimeError("cudaErrorNoDevice: no CUDA-capable device\nand a long trace"))


def test_numpy_by_name_needs_no_cupy(install):
    install(None)
    choice = backend.choose("numpy")
    assert choice.xp is np
    assert choice.reason == "numpy was requested"
    assert backend.probe_cupy.cache_info().misses == 0


@pytest.mark.parametrize("name", ["cupy", "auto", None])
def test_cupy_is_chosen_where_it_computes(install, name):
    cupy = fake_cupy()
    install(cupy)
    choice = backend.choose(name)
    assert choice.xp is cupy
    assert choice.reason == "CuPy 14.0 computes on Pretend GPU"


@pytest.mark.parametrize(
    ("cupy", "why"),
    [
        (None, "CuPy cannot be imported"),
        (fake_cupy(ones=fail), "no CUDA device works (cudaErrorNoDevice: no CUDA-capable device)"),
        (fake_cupy(properties=fail), "no CUDA device works"),
        (fake_cupy(ones=lambda *a, **k: strict.xp.ones(*a, **k) * 2.0), "computed a wrong matrix product"),
    ],
    ids=["not installed", "no driver", "no properties", "wrong result"],
)
def test_without_a_working_cupy_auto_is_numpy_and_an_explicit_request_fails(install, cupy, why):
    install(cupy)
    choice = backend.choose("auto")
    assert choice.xp is np
    assert why in choice.reason
    assert choice.reason.endswith("and Numba is not installed, so NumPy computes")
    assert "\n" not in choice.reason
    with pytest.raises(backend.BackendError) as error:
        backend.choose("cupy")
    assert why in str(error.value)
    assert str(error.value).endswith("Or choose the backend 'numpy'.")
    assert "\n" not in str(error.value)


TOO_OLD = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
INSTEAD = f"uninstall it and run `{install_line('cuda12')}`."


@pytest.mark.parametrize(
    ("cupy", "driver", "advice"),
    [
        (None, False, f"Run `{install_line('cuda12')}` or, for CUDA 13, `{install_line('cuda13')}`."),
        (fake_cupy(ones=failing(TOO_OLD)), False, "There is no NVIDIA driver on this machine: install it"),
        (fake_cupy(ones=failing(TOO_OLD)), True, f"update it, or replace cupy-cuda13x: {INSTEAD}"),
        (fake_cupy(ones=failing(ImportError("libcublas.so.12: cannot open"))), True, "libraries are missing: run `pip"),
        (fake_cupy(module=failing(RuntimeError("DynamicLibNotFoundError: nvrtc"))), True, '[ctk]"`, which includes'),
        (fake_cupy(ones=fail), True, "Check `nvidia-smi`"),
    ],
    ids=["not installed", "no driver", "old driver", "no library", "no compiler", "no device"],
)
def test_the_error_says_what_to_do(install, monkeypatch, cupy, driver, advice):
    install(cupy)
    monkeypatch.setattr(backend, "_has_driver", lambda: driver)
    with pytest.raises(backend.BackendError) as error:
        backend.choose("cupy")
    assert advice in str(error.value)


def test_where_cupy_is_not_there_no_other_package_is_looked_at(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'cupy'", name="cupy")

    monkeypatch.setattr("importlib.metadata.distributions", failing(AssertionError("looked at packages")))
    monkeypatch.setattr(backend.importlib, "import_module", missing)
    assert backend.choose("auto").xp is np


def test_two_packages_of_cupy_are_refused(install, monkeypatch):
    names = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "cupy-xarray", None)
    installed = [SimpleNamespace(metadata={"Name": name}) for name in names]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: installed)
    install(fake_cupy())
    with pytest.raises(backend.BackendError, match="cupy-cuda12x and cupy-cuda13x are installed together") as error:
        backend.choose("cupy")
    assert "pip uninstall cupy-cuda12x cupy-cuda13x" in str(error.value)
    assert backend.choose("auto").xp is np


def test_cupy_is_probed_once(install):
    calls = []

    def ones(*args, **keywords):
        calls.append(args)
        return strict.xp.ones(*args, **keywords)

    install(fake_cupy(ones=ones))
    backend.choose("auto")
    backend.choose("cupy")
    assert len(calls) == 1


def test_the_environment_decides_where_nothing_is_asked_for(monkeypatch, install):
    install(fake_cupy())
    monkeypatch.setenv("XPCNN_BACKEND", "numpy")
    assert backend.choose().xp is np
    assert backend.choose("auto").xp is not np
    monkeypatch.setenv("XPCNN_BACKEND", "cupy")
    assert backend.choose().xp is not np
    assert backend.choose("numpy").xp is np


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_or_empty_environment_means_auto(monkeypatch, install, value):
    install(None)
    if value is not None:
        monkeypatch.setenv("XPCNN_BACKEND", value)
    assert "so NumPy computes" in backend.choose().reason


def test_unknown_names_list_the_known_ones(monkeypatch):
    with pytest.raises(backend.BackendError, match=r"no backend 'torch'\. Use one of: numpy, numba, cupy, auto\."):
        backend.choose("torch")
    monkeypatch.setenv("XPCNN_BACKEND", "gpu")
    with pytest.raises(backend.BackendError, match="no backend 'gpu' in XPCNN_BACKEND"):
        backend.choose()


def test_an_error_says_that_the_environment_asked(monkeypatch, install):
    install(None)
    monkeypatch.setenv("XPCNN_BACKEND", "cupy")
    with pytest.raises(backend.BackendError, match="was requested in XPCNN_BACKEND"):
        backend.choose()


def test_only_numpy_is_on_the_host():
    assert backend.is_host(np)
    assert not backend.is_host(strict.xp)


def test_to_host_gives_numpy_and_copies_only_from_a_device(xp):
    array = xp.asarray(np.arange(3, dtype=np.float32))
    host = backend.to_host(array)
    assert isinstance(host, np.ndarray)
    assert host.tolist() == [0, 1, 2]
    assert (host is array) == backend.is_host(xp)


def test_masked_values_are_refused_and_a_mask_of_none_is_dropped():
    values = np.ma.array([1.0, 2.0, 3.0], mask=[True, False, True])
    with pytest.raises(ValueError, match=r"2 of the array's 3 values are masked.*filled"):
        backend.host_array(values)
    with pytest.raises(ValueError, match="are masked"):
        backend.host_array([np.ma.array([1.0, 2.0, 3.0]), values])
    taken = backend.host_array(np.ma.array([1.0, 2.0]))
    assert type(taken) is np.ndarray
    assert taken.tolist() == [1, 2]


def test_to_device_brings_host_and_device_arrays(xp):
    host = np.arange(3, dtype=np.float32)
    device = backend.to_device(xp, host)
    assert isinstance(device, xp.ndarray)
    assert device.dtype == np.float32
    assert backend.to_device(xp, device) is device
    assert backend.to_host(device).tolist() == [0, 1, 2]
    assert (device is host) == backend.is_host(xp)


# Numba


@pytest.fixture
def install_numba(monkeypatch):
    """Return a function that puts a module (or None: nothing) where Numba is imported from."""
    backend.probe_numba.cache_clear()
    yield lambda module: monkeypatch.setitem(sys.modules, "numba", module)
    backend.probe_numba.cache_clear()


def fake_numba(disabled=0):
    return SimpleNamespace(__version__="1.2", __spec__="found", config=SimpleNamespace(DISABLE_JIT=disabled))


def test_numba_is_numpy_with_kernels(install_numba):
    install_numba(fake_numba())
    choice = backend.choose("numba")
    assert choice.reason == "Numba 1.2 compiles kernels for NumPy's arrays"
    assert choice.xp.__name__ == "numba"
    assert choice.xp.exp is np.exp
    assert backend.is_host(choice.xp)
    assert (backend.kernels(choice.xp), backend.kernels(np)) == ("cpu", None)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "The backend 'numba' was requested, but Numba is not installed. Run .* Or choose the backend 'numpy'."),
        (fake_numba(1), "but NUMBA_DISABLE_JIT is set. Unset it. Or choose the backend 'numpy'."),
    ],
)
def test_a_numba_that_compiles_nothing_is_refused(install_numba, module, message):
    install_numba(module)
    with pytest.raises(backend.BackendError, match=message):
        backend.choose("numba")


@pytest.fixture
def auto(install, install_numba):
    """Return what auto chooses without CuPy, with some Numba."""

    def choose(numba):
        install(None)
        install_numba(numba)
        return backend.choose("auto").xp

    return choose


def test_auto_compiles_for_long_runs_alone(auto):
    xp = auto(fake_numba())
    assert (xp.__name__, backend.request_of(xp), backend.is_host(xp), backend.kernels(xp)) == (
        "numba", "auto", True, None,
    )  # fmt: skip
    assert backend.for_run(xp, backend.WORTH_COMPILING - 1) is np
    assert backend.for_run(xp, backend.WORTH_COMPILING) is backend.choose("numba").xp


def test_auto_does_not_import_numba_before_the_first_long_run(auto):
    xp = auto(fake_numba())
    backend.for_run(xp, 1)
    assert backend.probe_numba.cache_info().misses == 0


def test_a_long_run_says_in_one_line_that_numba_does_not_work(auto):
    xp = auto(fake_numba(disabled=1))
    with pytest.warns(UserWarning, match=r"^NUMBA_DISABLE_JIT is set, so NumPy computes .* Unset it\.$"):
        assert backend.for_run(xp, backend.WORTH_COMPILING) is np


@pytest.mark.parametrize("multiplications", [0, 1e15])
def test_what_is_named_computes_runs_of_any_length(install_numba, multiplications):
    install_numba(fake_numba())
    for xp in (np, backend.choose("numba").xp, strict.xp):
        assert backend.for_run(xp, multiplications) is xp
