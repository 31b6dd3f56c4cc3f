"""Communication between the processes of a distributed fit; here, the trivial case of a single process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from xpcnn.backend import Array, ArrayModule

T = TypeVar("T")


class Communicator:
    """The ranks of a fit, here a single process. Every method is called by all ranks, in the same order."""

    rank = 0
    size = 1
    #: The rank among those on the same machine.
    rank_here = 0
    #: What the fit is doing, for the error message if another rank is lost.
    doing = ""

    def shards(self, count: int) -> list[slice]:
        """Return which of ``count`` shards of a batch each rank computes."""
        return [slice(0, count)]

    def all_reduce(self, part: T, holders: int) -> T:
        """Return the sum of the parts of the first ``holders`` ranks, added in a binary tree; only they call this."""
        return part

    def add(self, xp: ArrayModule, flat: Array, holders: int) -> Array:
        """Return the sum of a flat array over the ranks, of which the first ``holders`` have something to add."""
        return flat

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks, in rank order."""
        return [value]

    def parallel_map(self, function: Callable[[int], T], count: int) -> list[T]:
        """Return function(0) to function(count - 1), each computed by one rank."""
        own = [function(number) for number in range(self.rank, count, self.size)]
        everyone = self.allgather(own)
        return [everyone[number % self.size][number // self.size] for number in range(count)]

    def one_first(self, make: Callable[[], T]) -> T:
        """Return the result of ``make`` on each rank, called on the first rank of a machine before the others there."""
        return make()

    def abort(self, message: str) -> None:
        """End the processes of all ranks with a message, if there is more than one."""

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on all ranks."""
        return value

    def same(self, what: str, values: Mapping[str, Any]) -> None:
        """Raise ValueError on every rank if one has different values from rank 0, naming the rank and the value."""


#: The communicator of a fit that is not distributed.
ALONE = Communicator()
