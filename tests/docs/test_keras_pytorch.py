"""What the page for users of Keras and PyTorch calls xpcnn's is there, and takes the arguments that it shows."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import xpcnn
from xpcnn import layers, losses, optimizers, schedules

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "keras-pytorch.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not beside the tests")


def xpcnn_column(text):
    """Return the code in the last column of every table."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row.rstrip(" |").rpartition(" | ")[2])]


def meant(node):
    """Return what a name or an attribute is, None for what the reader has, such as x; AttributeError for nothing."""
    if isinstance(node, ast.Attribute):
        owner = meant(node.value)
        return None if owner is None else getattr(owner, node.attr)
    if not isinstance(node, ast.Name) or node.id in ("x", "y", "loader", "print", "epoch"):
        return None
    if node.id == "model":
        return xpcnn.Sequential
    return xpcnn if node.id == "xpcnn" else getattr(xpcnn, node.id)


def check(code):
    """Raise AttributeError for a name in an expression that xpcnn lacks, TypeError for arguments it does not take."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            meant(node)
        called = meant(node.func) if isinstance(node, ast.Call) else None
        if called is not None:
            method = isinstance(node.func, ast.Attribute) and meant(node.func.value) is xpcnn.Sequential
            given = [None] * (len(node.args) + method)
            inspect.signature(called).bind(*given, **{keyword.arg: None for keyword in node.keywords})


CODE = xpcnn_column(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else []


@pytest.mark.parametrize("code", CODE)
def test_what_the_page_names_is_there(code):
    check(code)


@pytest.mark.parametrize("code", [code for code in CODE if code.startswith(("layers.", "losses.", "optim", "sched"))])
def test_what_the_page_makes_can_be_made(code):
    kinds = {"layers": layers, "losses": losses, "optimizers": optimizers, "schedules": schedules}
    eval(compile(code, "page", "eval"), kinds)


def test_the_page_shows_most_layers_losses_and_optimisers():
    shown = " ".join(CODE)
    assert len(CODE) > 60
    for name in ("Conv2D", "Dense", "MaxPool2D", "BatchNorm", "CrossEntropy", "BinaryCrossEntropy", "Adam", "fit"):
        assert re.search(rf"\.{name}\b", shown), name


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("layers.Linear(3)", AttributeError),
        ("optimizers.SGD(schedules.Gone(1))", AttributeError),
        ("model.forward(x)", AttributeError),
        ("layers.Dense(10, activations='relu')", TypeError),
        ("model.fit(x, y, 1, 2, epoch=3)", TypeError),
    ],
)
def test_a_name_that_is_gone_is_noticed(code, error):
    with pytest.raises(error):
        check(code)
