"""Prediction on a device, captured as one CUDA graph per batch size."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule, is_out_of_memory, to_host
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import infer
from xpcnn.program.lru_cache import LRUCache
from xpcnn.program.network import Network
from xpcnn.program.program import Program
from xpcnn.training.engine.graphs import Captured, own_stream
from xpcnn.training.engine.out_of_memory import out_of_memory

HostArray = np.ndarray[Any, Any]

#: Graphs are kept for the most recent kinds of batch only, since each holds the memory of a batch.
MOST_KINDS = 4


class DevicePrediction:
    """Computes the outputs of a network batch by batch on a device."""

    def __init__(self, xp: ArrayModule) -> None:
        self._xp = xp
        self._kinds: LRUCache[tuple[Array, Captured[Array]]] = LRUCache(MOST_KINDS)
        self._stack = ExitStack()
        self._folded: dict[str, dict[str, Array]] = {}

    def prepare(self, network: Network) -> None:
        """Update the weights that captured graphs read, in place."""
        self._params = network.prediction_params(self._folded)

    def __enter__(self) -> DevicePrediction:
        self._stack.enter_context(own_stream(self._xp))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def infer(self, network: Network, x: HostArray, program: Program, y: HostArray) -> None:
        """Write the output of a network's program for a batch of host arrays into the host array ``y``."""
        xp = self._xp
        alive, params = weakref.proxy(network), self._params  # the network owns this object: avoid a cycle

        def make() -> tuple[Array, Captured[Array]]:
            sent = Workspace(xp).batch_last(x.shape, network.dtype)
            return sent, Captured(xp, lambda: infer(alive, sent, Context(Workspace(xp)), program, params))

        sent, captured = self._kinds.get((len(x), program.from_logits, network.changes), make)
        try:
            sent[...] = xp.asarray(x)
            y[...] = to_host(captured() if network.knows() else captured.function())
        except Exception as error:
            if not is_out_of_memory(xp, error):
                raise
            raise out_of_memory(error, len(x), network) from error
