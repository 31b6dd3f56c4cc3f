"""Dropout whose mask is drawn by one kernel, scaled and with the batch last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xpcnn import random
from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cpu.compiler import compiled, flat
from xpcnn.ops.workspace import Workspace
from xpcnn.recording import each_time, unwatched

#: Features whose mask is drawn for all images, before it is transposed in the cache.
TOGETHER = 64

_FACTORS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


def dropout(
    xp: ArrayModule, x: Array, keep: float, key: Callable[[], random.MaskKey], workspace: Workspace
) -> tuple[Array, Callable[[Array], Array]]:
    """As :func:`xpcnn.ops.dropout.dropout`."""
    scaled_mask, threshold = workspace.like(x), random.keep_threshold(keep)
    memory, features = unwatched(flat(scaled_mask)), x.size // max(1, len(x))

    def draw() -> None:
        of = key()
        numbers = np.uint64(int(of.step)), np.uint64(random.check_seed(of.seed)), np.uint64(of.stream)
        _draw(memory, len(x), features, of.first_row, numbers, threshold, 1.0 / keep)

    each_time(draw)

    def backward(dy: Array) -> Array:
        dx = workspace.like(dy)
        return xp.multiply(dy, scaled_mask, out=dx)

    y = workspace.like(x)
    return xp.multiply(x, scaled_mask, out=y), backward


@compiled
def _draw(mask: Any, images: int, features: int, first_row: int, key: Any, threshold: int, scale: float) -> None:
    """As :func:`xpcnn.random.keep_mask`, times ``scale``; mask: flat, (features, images); key: step, seed, stream."""
    value = mask.dtype.type(scale)
    words = np.empty(TOGETHER // 4 + 8, np.uint64)
    numbers, tile = words.view(np.uint16), np.empty((images, TOGETHER), mask.dtype)
    for first in range(0, features, TOGETHER):
        together = min(TOGETHER, features - first)
        for image in range(images):
            begin = (first_row + image) * features + first
            for i in range((begin % 16 + together + 15) // 16):
                a, b, c, d = _philox(np.uint64(begin // 16 + i + 1), *key)
                words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = a, b, c, d
            drawn, row = numbers[begin % 16 :], tile[image]
            for i in range(together):
                row[i] = value * mask.dtype.type(drawn[i] < threshold)
        for i in range(together):
            column = mask[(first + i) * images : (first + i + 1) * images]
            for image in range(images):
                column[image] = tile[image, i]


@compiled
def _philox(block: Any, step: Any, seed: Any, stream: Any) -> Any:
    """Return the four words of a block of Philox4x64-10."""
    a, b, c, d = block, step, np.uint64(0), np.uint64(0)
    for _ in range(10):
        a, b, c, d = (
            _high(_FACTORS[1], c) ^ b ^ seed,
            _FACTORS[1] * c,
            _high(_FACTORS[0], a) ^ d ^ stream,
            _FACTORS[0] * a,
        )
        seed, stream = seed + _STEPS[0], stream + _STEPS[1]
    return a, b, c, d


@intrinsic
def _high(typing: Any, a: Any, b: Any) -> Any:
    """Return the upper half of the product of two words."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(word, wide) for word in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), write
