"""What can be tested of ranks without MPI; tests/mpi has the rest."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests import strict
from xpcnn.backend import to_host
from xpcnn.communicator import ALONE
from xpcnn.program.shards import add_tree
from xpcnn.training import callbacks, distributed
from xpcnn.training.distributed import Ranks


def ranks(rank, size, **options):
    return Ranks(SimpleNamespace(Get_rank=lambda: rank, Get_size=lambda: size), **options)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 13, 64])
def test_the_pieces_of_a_rank_are_a_branch_of_the_tree_that_one_process_adds(size, count):
    shares = ranks(0, size).shards(count)
    assert [i for share in shares for i in range(count)[share]] == [*range(count)]
    join = "({}+{})".format
    names = [str(i) for i in range(count)]
    branches = [add_tree(names[share], join) for share in shares if names[share]]
    assert add_tree(branches, join) == add_tree(names, join)
    assert len({len(names[share]) for share in shares}) <= 3
    assert len(names[shares[0]]) == max(len(names[share]) for share in shares)


def test_what_writes_is_left_to_the_first_rank():
    writers = {name for name in dir(callbacks) if getattr(getattr(callbacks, name), "writes", False)}
    assert writers == {
        "Checkpoint",
        "CSVLog",
        "JSONLines",
        "KeepFeatures",
        "MLflow",
        "SaveBest",
        "SaveLast",
        "TensorBoard",
    }


def test_alone_there_is_nobody_to_talk_to():
    flat = np.ones(3)
    assert ALONE.add(np, flat, 1) is flat
    assert ALONE.allgather("value") == ["value"]
    assert ALONE.parallel_map(lambda number: number * 2, 4) == [0, 2, 4, 6]


class Group:
    """What NCCL does on two devices that hold the same."""

    def all_reduce(self, given, out):
        out[...] = given * 2


@pytest.mark.parametrize(("rank", "holders", "expected"), [(0, 2, 6.0), (1, 2, 6.0), (1, 1, 0.0)])
def test_fast_sums_stay_on_the_devices_where_all_ranks_have_nccl(monkeypatch, rank, holders, expected):
    monkeypatch.setattr(distributed, "has_device_groups", lambda: True)
    monkeypatch.setattr(distributed, "device_group", lambda size, rank: Group())
    one = ranks(rank, 2, exact=False)
    monkeypatch.setattr(one, "allgather", lambda value: [value, True])
    flat = strict.xp.asarray(np.full(4, 3.0, np.float32))
    assert one.add(strict.xp, flat, holders) is flat
    assert to_host(flat).tolist() == [expected] * 4


def test_nccl_is_left_alone_where_one_rank_lacks_it(monkeypatch):
    monkeypatch.setattr(distributed, "device_group", lambda size, rank: pytest.fail("it waits for all ranks"))
    one = ranks(0, 2, exact=False)
    monkeypatch.setattr(one, "allgather", lambda value: [value, False])
    assert one._on_devices() is None
