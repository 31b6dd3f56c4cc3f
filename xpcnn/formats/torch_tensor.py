"""Tensors as PyTorch's files store them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.parameters import Shape

HostArray: TypeAlias = np.ndarray[Any, Any]

#: The dtypes by their names in safetensors; a bfloat16 is read as an integer of the same bits.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("<i1"),
    "U8": np.dtype("<u1"),
    "BOOL": np.dtype("<u1"),
}
#: The dtypes of weights.
FLOATS = ("F64", "F32", "F16", "BF16")
#: The most dimensions of a tensor; the weight of a three-dimensional convolution has 5.
_MOST_DIMENSIONS = 8


class Tensor(NamedTuple):
    """An array as stored in a file, in any order in memory."""

    dtype: str
    raw: HostArray

    def values(self) -> HostArray:
        """Return the array as float32; a bfloat16 is the upper half of one."""
        raw = self.raw
        if self.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # values that overflow become infinite and are refused later
            numbers: HostArray = raw.astype(np.float32, order="C")
        return numbers


@dataclass(frozen=True)
class Storage:
    """Numbers in a file, which tensors may share."""

    dtype: str
    key: str
    count: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.count * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class View:
    """A tensor as some numbers of a storage; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape

    @classmethod
    def checked(cls, storage: Storage, offset: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> View:
        """Return a view; raise ValueError unless all of its numbers are inside the storage."""
        if len(shape) == len(strides) <= _MOST_DIMENSIONS and all(map(_is_size, (offset, *shape, *strides))):
            last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            if last < storage.count or 0 in shape:
                return cls(storage, offset, shape, strides)
        raise ValueError(
            f"a tensor is not inside its storage {storage.key[:100]!r} of {storage.count} numbers, or has more than "
            f"{_MOST_DIMENSIONS} dimensions"
        )

    @property
    def count(self) -> int:
        """The number of numbers."""
        return math.prod(self.shape)

    def tensor(self, data: bytes) -> Tensor:
        """Return the tensor, given the bytes of its storage."""
        dtype = DTYPES[self.storage.dtype]
        if self.count == 0:
            return Tensor(self.storage.dtype, np.zeros(self.shape, dtype))
        strides = [
            stride * dtype.itemsize if size > 1 else 0 for size, stride in zip(self.shape, self.strides, strict=True)
        ]  # that of a single row may be anything
        raw: HostArray = np.ndarray(self.shape, dtype, data, self.offset * dtype.itemsize, strides)
        return Tensor(self.storage.dtype, raw)


def _is_size(number: Any) -> bool:
    return type(number) is int and number >= 0
