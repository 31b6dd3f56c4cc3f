"""Distributed training over MPI."""

from xpcnn.training.distributed import RankLost, Ranks, use_own_device, world

__all__ = ["RankLost", "Ranks", "use_own_device", "world"]
