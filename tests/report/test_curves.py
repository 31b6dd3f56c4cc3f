"""Curves: every value is in its place, whatever the values are."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from xpcnn.report import curves


def points(svg, kind="training"):
    """The points of a line, (x, y)."""
    line = next(e for e in ElementTree.fromstring(svg).iter("polyline") if e.get("class") == kind)
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_what_falls_goes_down_and_the_epochs_go_right():
    drawn = points(curves.curve("loss", [1, 2, 3], {"training": [3.0, 2.0, 1.0]}))
    assert drawn == sorted(drawn)
    assert [y for _, y in drawn] == sorted(y for _, y in drawn)


@pytest.mark.parametrize(
    "values",
    [[0.0], [1.0, 1.0], [1.0, 1 + 1e-9], [-5.0, 1e99], [1e-300, 2e-300], [float("nan")] * 2, [0.0, float("nan"), 2.0]],
    ids=str,
)  # fmt: skip
def test_any_values_can_be_drawn(values):
    svg = curves.curve("loss", list(range(1, len(values) + 1)), {"training": values})
    assert len(points(svg)) == np.isfinite(values).sum()
    assert "nan" not in svg
    for x, y in points(svg):
        assert 0 <= x <= 420
        assert 0 <= y <= 250


def test_a_thousand_epochs_are_few_points():
    epochs = list(range(1, 1001))
    drawn = points(curves.curve("loss", epochs, {"training": [1 / epoch for epoch in epochs]}))
    assert len(drawn) <= curves.MOST_POINTS + 1


def test_the_best_epoch_is_marked():
    assert "best epoch 2" in curves.curve("loss", [1, 2, 3], {"training": [3.0, 1.0, 2.0]}, best=2)
    assert "best" not in curves.curve("loss", [1, 2], {"training": [3.0, 1.0]}, best=7)


def test_runs_of_several_lengths_share_the_axes():
    lines = {"run run-1": ([1, 2], [3.0, 1.0]), "run run-2": ([1, 2, 3, 4], [3.0, 2.0, 1.0, float("nan")])}
    svg = curves.compared("loss", lines)
    short, long = (points(svg, kind) for kind in lines)
    assert short[0] == long[0]
    assert short[1][1] == long[2][1]
    assert [x for x, _ in short] == [x for x, _ in long[:2]]
    assert len(long) == 3
    assert all(0 <= x <= 420 for x, _ in long)


def test_a_title_is_text():
    assert "<b>" not in curves.curve("<b>", [1], {"training": [1.0]})


def test_reliability_has_a_bar_for_each_tenth_that_holds_an_answer():
    svg = curves.reliability([0.95, 0.99, 1.0, 0.55, 0.51], [True, True, False, True, False])
    bars = list(ElementTree.fromstring(svg).iter("rect"))
    heights = [float(bar.get("height")) for bar in bars]
    whole = 250 - 46 - 38
    assert np.allclose(heights, [whole / 2, whole * 2 / 3], atol=0.2)
    assert re.findall(r'text-anchor="middle">(\d)</text>', svg)[-2:] == ["2", "3"]
