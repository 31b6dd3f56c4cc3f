"""The task of a fit, and how two tasks differ."""

from __future__ import annotations

import functools
import hashlib
import json
import reprlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn.data.parallel_map import ParallelMap, serial_map
from xpcnn.layers.configs import to_plain
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.optimizers import Optimizer
from xpcnn.program.network import Network

HostArray = np.ndarray[Any, Any]

_ROWS = 1024
#: The number of images sampled to compare the data of processes.
_SAMPLE = 32


@dataclass(frozen=True, eq=False)
class Task:
    """The arguments that determine a fit, and the arrays that it trains and evaluates on."""

    arguments: Mapping[str, Any]
    data: Mapping[str, Any]
    _found: dict[str, HostArray] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, HostArray]:
        """The CRC-32 of every row of every array, uint32 (n,), to detect changed data."""
        return self._found or self.find_digests(serial_map)

    def find_digests(self, parallel_map: ParallelMap) -> dict[str, HostArray]:
        """Compute the digests with a :data:`~xpcnn.data.parallel_map.ParallelMap`, which may distribute the work."""
        for name, rows in self.data.items():
            if rows is not None:
                blocks = parallel_map(functools.partial(_digests_of, rows), -(-len(rows) // _ROWS))
                self._found[name] = np.concatenate([np.empty(0, np.uint32), *blocks])
        return self._found

    def sample_digests(self) -> dict[str, Any]:
        """Return the number of rows of each array, and a digest: of all rows, or of evenly spaced images."""
        found = {}
        for name, rows in self.data.items():
            if rows is not None:
                images = len(rows.shape) > 2
                some = np.linspace(0, len(rows) - 1, _SAMPLE if images else len(rows), dtype=np.int64)
                digest = zlib.crc32(_digests(np.asarray(rows[np.unique(some)])).tobytes())
                found[name] = {"rows": len(rows), "digest": digest}
        return found

    def settings(self, network: Network, optimizer: Optimizer, loss: Loss, metrics: Sequence[Metric]) -> dict[str, Any]:
        """Return everything but the data that determines a fit, as JSON-serialisable values."""
        settings = {
            "input_shape": list(network.input_shape),
            "layers": [to_plain(layer) for layer in network.layers],
            "optimizer": optimizer.config(),
            "loss": loss.config(),
            "metrics": [metric.config() for metric in metrics],
            **self.arguments,
        }
        plain: dict[str, Any] = json.loads(to_json(settings))  # comparable with settings read from a file
        return plain


def code_digest() -> str:
    """Return a digest of the sources of this package."""
    root = Path(__file__).parent.parent
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def to_json(value: Any) -> str:
    """Return JSON in ASCII, NumPy scalars as numbers."""
    return json.dumps(value, default=lambda value: value.item())


def _digests_of(rows: Any, block: int) -> HostArray:
    """Return the digests of a block of rows."""
    return _digests(np.asarray(rows[block * _ROWS : (block + 1) * _ROWS]))


def _digests(block: HostArray) -> HostArray:
    block = np.ascontiguousarray(block)
    # equal values have equal digests, whatever their dtype
    block = block.astype(np.float32 if block.ndim > 2 else np.float64, copy=False)
    return np.array([zlib.crc32(row.data) for row in block.reshape(len(block), -1)], np.uint32)


def differences(where: str, then: Any, now: Any) -> Iterator[str]:
    """Yield a phrase for each difference between two JSON-serialisable values: ``batch_size was 32, is 64``."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:
            inner = f"{where}.{key}" if where else str(key)
            yield from differences(inner, then.get(key), now.get(key))
    elif isinstance(then, list) and isinstance(now, list):
        for index in range(max(len(then), len(now))):
            pair = (part[index] if index < len(part) else None for part in (then, now))
            yield from differences(f"{where}[{index}]", *pair)
    elif then != now:
        yield f"{where} was {reprlib.repr(then)}, is {reprlib.repr(now)}"


def changes(name: str, then: HostArray | None, now: HostArray | None) -> Iterator[str]:
    """Yield how the rows of an array differ from those of a checkpoint."""
    if then is None or now is None:
        yield f"{name} was {'not ' if then is None else ''}given, is {'not ' if now is None else ''}given"
    elif len(then) != len(now):
        yield f"{name} had {len(then)} rows, has {len(now)}"
    elif len(rows := np.flatnonzero(then != now)):
        yield f"{name} differs in {len(rows)} of {len(now)} rows, first in row {rows[0]}"
