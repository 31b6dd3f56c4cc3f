"""The first origin's network as loops over filters and positions, against xpcnn: ``python -m benchmarks.plain_loops``.

The loops follow the author's style, with the bugs fixed so that both sides can be compared before they are timed.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, samples, xpcnn_model
from benchmarks.sides import xpcnn_train


def convolve(image: Any, filters: Any, bias: Any) -> Any:
    count, _, size, _ = filters.shape
    out = np.zeros((count, image.shape[1] - size + 1, image.shape[2] - size + 1))
    for f in range(count):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[f, r, c] = np.sum(filters[f] * image[:, r : r + size, c : c + size]) + bias[f]
    return out


def convolve_back(dout: Any, image: Any, filters: Any) -> tuple[Any, Any, Any]:
    size = filters.shape[2]
    dimage, dfilters = np.zeros(image.shape), np.zeros(filters.shape)
    for f in range(len(filters)):
        for r in range(dout.shape[1]):
            for c in range(dout.shape[2]):
                dfilters[f] += dout[f, r, c] * image[:, r : r + size, c : c + size]
                dimage[:, r : r + size, c : c + size] += dout[f, r, c] * filters[f]
    return dimage, dfilters, dout.sum(axis=(1, 2))


def pool(image: Any) -> Any:
    out = np.zeros((image.shape[0], image.shape[1] // 2, image.shape[2] // 2))
    for k in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[k, r, c] = np.max(image[k, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2])
    return out


def pool_back(dout: Any, image: Any) -> Any:
    dimage = np.zeros(image.shape)
    for k in range(dout.shape[0]):
        for r in range(dout.shape[1]):
            for c in range(dout.shape[2]):
                row, column = np.unravel_index(np.argmax(image[k, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]), (2, 2))
                dimage[k, 2 * r + row, 2 * c + column] = dout[k, r, c]
    return dimage


def gradients(image: Any, label: int, arrays: list[Any]) -> list[Any]:
    """Return the gradients of one image's loss with respect to all filters, weights and biases, in xpcnn's order."""
    f1, b1, f2, b2, w3, b3, w4, b4 = arrays
    first = np.maximum(convolve(image, f1, b1), 0)
    pooled1 = pool(first)
    second = np.maximum(convolve(pooled1, f2, b2), 0)
    pooled2 = pool(second)
    flat = pooled2.reshape(-1)
    z = np.maximum(w3 @ flat + b3, 0)
    logits = w4 @ z + b4
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    dout = probabilities - np.eye(len(b4))[label]
    dz = (w4.T @ dout) * (z > 0)
    dsecond = pool_back((w3.T @ dz).reshape(pooled2.shape), second) * (second > 0)
    dpooled1, df2, db2 = convolve_back(dsecond, pooled1, f2)
    dfirst = pool_back(dpooled1, first) * (first > 0)
    _, df1, db1 = convolve_back(dfirst, image, f1)
    return [df1, db1, df2, db2, np.outer(dz, flat), dz, np.outer(dout, z), dout]


def main() -> None:
    from contextlib import ExitStack

    shape, batch, description = NETWORKS["blood"]
    model, (x, y) = xpcnn_model(shape, description), samples(shape, batch)
    arrays = [np.array(array, np.float64) for array in model.parameters.values()]
    _, expected = model.loss_and_gradients(x[:1], y[:1])
    for ours, theirs in zip(expected.values(), gradients(x[0], int(y[0]), arrays), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-3 * max(np.abs(theirs).max(), 1e-3), "the two sides differ"
    with ExitStack() as stack:
        step = xpcnn_train(model, x, y, 2, stack)
        for _ in range(5):
            step()
        times = []
        for _ in range(50):
            before = time.perf_counter()
            step()
            times.append(time.perf_counter() - before)
        before = time.perf_counter()
        for image, label in zip(x, y, strict=True):
            gradients(image, int(label), arrays)
        loops = time.perf_counter() - before
    ours = statistics.median(times)
    print(f"a step of blood, batch {batch}: loops {loops:.1f} s, xpcnn {ours * 1e3:.2f} ms, factor {loops / ours:,.0f}")


if __name__ == "__main__":
    main()
