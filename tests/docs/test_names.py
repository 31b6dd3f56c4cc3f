"""Files and functions named in the docs exist."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import xpcnn

ROOT = Path(__file__).parents[2]
SOURCES = Path(xpcnn.__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests")


def defined_in(path):
    """Return the names that a file defines at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def missing_names(text):
    """Return what the rows of tables, | `file` | `name`, … |, name that is not in that file."""
    rows = re.findall(r"^\| `(xpcnn/[\w/]+\.py)` \| (.+) \|$", text, re.MULTILINE)
    assert rows
    return [
        (file, name)
        for file, cell in rows
        for name in re.findall(r"`([A-Za-z_]\w*)`", cell)
        if name not in defined_in(SOURCES / file)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_exist(page):
    named = re.findall(r"`(xpcnn/[\w/]+(?:\.py|/))`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (SOURCES / name).exists()] == []


def test_the_names_that_the_tour_looks_at_are_in_the_files_it_names():
    assert missing_names((ROOT / "docs" / "code-tour.md").read_text(encoding="utf-8")) == []


def test_a_name_that_is_gone_is_noticed():
    assert missing_names("| `xpcnn/files.py` | `atomic_write`, `gone` |") == [("xpcnn/files.py", "gone")]


def test_every_public_name_of_the_package_is_in_the_reference():
    reference = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name == "reference")
    documented = set(re.findall(r"^\.\. auto\w+:: xpcnn\.(\w+)", reference, re.MULTILINE))
    assert set(xpcnn.__all__) - {"__version__"} - documented == set()


def test_fit_lists_its_arguments_with_types_and_defaults():
    parameters = list(inspect.signature(xpcnn.Sequential.fit).parameters.values())[1:]
    lines = re.findall(r"^- ``(\w+)`` \((.*?)\): ", inspect.getdoc(xpcnn.Sequential.fit), re.MULTILINE)
    assert [name for name, _ in lines] == [parameter.name for parameter in parameters]
    for (name, kind), parameter in zip(lines, parameters, strict=True):
        default = re.search(r"default (.+)$", kind)
        if parameter.default is parameter.empty:
            assert default is None, name
        else:
            assert ast.literal_eval(default[1]) == parameter.default, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_vanishes_as_a_comment(page):
    assert re.findall(r"^ *%.*", page.read_text(encoding="utf-8"), re.MULTILINE) == []
