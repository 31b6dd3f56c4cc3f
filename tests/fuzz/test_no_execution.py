"""Nothing in the package executes the content of a file, or imports what could."""

import ast
from pathlib import Path

import pytest

import xpcnn

SOURCES = sorted(Path(xpcnn.__file__).parent.rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code", "pty"}
NAMES = {"eval", "exec", "compile", "__import__"}
#: Of the module ``os``.
STARTS = ("system", "popen", "exec", "spawn", "posix_spawn")


def forbidden(source):
    """Yield (line, what) for everything in a source that could run what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or "", *(alias.name for alias in node.names)]
        else:
            imported = []
        yield from ((node.lineno, name) for name in imported if name.split(".")[0] in MODULES | {"subprocess"})
        if isinstance(node, ast.Call):
            name, owner = _called(node.func)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if (owner is None and name in NAMES) or owner in MODULES or (owner == "os" and name.startswith(STARTS)):
                yield node.lineno, name
            if (
                owner in ("np", "numpy", "xp", "cupy")
                and name == "load"
                and not _is(keywords.get("allow_pickle"), False)
            ):
                yield node.lineno, "load without allow_pickle=False"
            if "shell" in keywords or ("allow_pickle" in keywords and not _is(keywords["allow_pickle"], False)):
                yield node.lineno, "shell or allow_pickle"


def _called(function):
    if isinstance(function, ast.Attribute):
        return function.attr, getattr(function.value, "id", getattr(function.value, "attr", ""))
    return getattr(function, "id", ""), None


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def test_no_source_runs_what_a_file_says():
    found = {path: list(forbidden(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert len(found) > 50
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import os, marshal", "eval(x)", "exec(text)",
        "compile(x, 'a', 'b')", "os.system(x)", "import subprocess", "np.load(x)", "np.load(x, allow_pickle=True)",
        "yaml.load(x)", "run(x, shell=True)", "np.load(x, allow_pickle=flag)", "__import__(a)", "from . import shelve",
    ],
)  # fmt: skip
def test_such_a_source_would_be_found(source):
    assert list(forbidden(source))


def test_a_source_that_is_harmless_is_not_found():
    harmless = (
        "import json, re\nmodel.compile('adam')\nre.compile('a')\nnp.load(x, allow_pickle=False)\njson.loads(text)\n"
    )
    assert list(forbidden(harmless)) == []
