"""How the cost of a training step grows with the batch, the image side and the filters, one at a time, by threads."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.networks import samples, xpcnn_model
from benchmarks.sides import xpcnn_train
from benchmarks.timing import take_turns

#: The values of what does not vary. The network is two 3x3 convolutions, each pooled, and a dense layer of ten units.
BASE = {"batch": 32, "side": 32, "filters": 16, "threads": 1}
VALUES = {
    "batch": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
    "side": [16, 32, 64, 128, 256],
    "filters": [4, 8, 16, 32, 64, 128],
}
#: A step that costs this many times more per multiplication than both its neighbours is a cliff.
CLIFF = 1.5


def growth(varied: str, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Time training steps for each value of what varies; return ms, µs per image, and ps per multiplication."""
    rows = []
    for value in VALUES[varied]:
        sizes = {**BASE, varied: value}
        description = [("conv", sizes["filters"], 3, 1), ("relu",), ("pool",)] * 2 + [("flatten",), ("dense", 10)]
        shape = (3, sizes["side"], sizes["side"])
        model = xpcnn_model(shape, description)
        x, y = samples(shape, sizes["batch"])
        with ExitStack() as stack:
            step = xpcnn_train(model, x, y, threads if threads == 1 else None, stack)
            for _ in range(3):  # so that replayed steps are timed
                step()
            ms = min(take_turns({"xpcnn": step}, seconds)["xpcnn"])
        images, work = sizes["batch"], model.network.multiplications
        rows.append(
            {
                "varied": varied,
                "value": value,
                "threads": threads,
                "ms": ms,
                "us_an_image": ms * 1e3 / images,
                "ps_a_multiplication": ms * 1e9 / (3 * work * images),
            }
        )
    return rows


def cliffs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that cost much more per multiplication than the rows before and after them."""
    cost = [row["ps_a_multiplication"] for row in rows]
    return [
        row
        for row, before, here, after in zip(rows[1:], cost, cost[1:], [*cost[2:], 0.0], strict=False)
        if here > CLIFF * max(before, after)
    ]
