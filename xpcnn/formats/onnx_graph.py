"""An ONNX graph under construction."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np


class Graph:
    """Nodes and constants of an ONNX graph, added one at a time, each with a unique name such as ``conv2d_1/Conv``.

    Raises ImportError if onnx is not installed.
    """

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._make_node, self._make_tensor = helper.make_node, numpy_helper.from_array
        self._type_of = helper.np_dtype_to_tensor_dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        #: The layer whose nodes are being added; their names begin with it.
        self.layer = ""
        self._names: set[str] = set()

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = self._free(f"{self.layer}/{operator}")
        self.nodes.append(self._make_node(operator, inputs, [name], name, **attributes))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """Add a node that converts to another dtype and return the name of its output."""
        return self.add("Cast", x, to=self._type_of(np.dtype(dtype)))

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add an array and return its name."""
        name = self._free(name)
        self.constants.append(self._make_tensor(np.array(value, dtype, order="C"), name))
        return name

    def _free(self, name: str) -> str:
        """Return the name, with a number if it is taken; what is not UTF-8 in a layer's name is escaped."""
        name = name.encode("utf-8", errors="backslashreplace").decode("utf-8")
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        free = next(name for name in names if name not in self._names)
        self._names.add(free)
        return free
