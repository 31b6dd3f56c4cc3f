"""Running a command on several processes."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING

from xpcnn.cli.text import one_line

if TYPE_CHECKING:
    from xpcnn.communicator import Communicator


def run_together(options_: argparse.Namespace, run: Callable[[Communicator], int]) -> int:
    """Run a command, with --distributed on all processes that mpiexec has started, and return its exit code.

    Only the first process prints. An error in one ends all; with --elastic the command runs again without a lost
    process, and must know where to continue.
    """
    communicator, lost = _communicator(options_), False
    while True:
        try:
            with redirect_stdout(None) if communicator.rank else nullcontext():
                code = run(communicator)
        except BaseException as error:
            if not options_.elastic or not _is_loss(error):
                _abort(communicator, error, options_.debug)
                raise
            communicator, lost = _without_the_lost(communicator), True
        else:
            if lost:  # finalising MPI would wait for the lost processes
                sys.stdout.flush()
                os._exit(code)
            return code


def _communicator(options_: argparse.Namespace) -> Communicator:
    """Return the communicator of mpiexec's processes, or of this one alone."""
    from xpcnn.communicator import ALONE

    if options_.distributed:
        from xpcnn.training import distributed

        return distributed.world(exact=not options_.fast_sums)
    for option, given in (("--fast-sums", options_.fast_sums), ("--elastic", options_.elastic)):
        if given:
            raise argparse.ArgumentError(None, f"{option} needs --distributed")
    return ALONE


def _is_loss(error: BaseException) -> bool:
    from xpcnn.training.distributed import RankLost

    return isinstance(error, RankLost)


def _without_the_lost(communicator: Communicator) -> Communicator:
    from xpcnn.training.distributed import Ranks

    assert isinstance(communicator, Ranks)
    left = communicator.survivors()
    if left.rank == 0:
        print(
            f"xpcnn train: {communicator.size - left.size} of {communicator.size} processes lost; {left.size} continue",
            file=sys.stderr,
            flush=True,
        )
    return left


def _abort(communicator: Communicator, error: BaseException, debug: bool) -> None:
    """End the other processes, instead of letting them wait for this one, which has failed."""
    if debug and communicator.size > 1:
        traceback.print_exc()
    usage = isinstance(error, argparse.ArgumentError)
    told = one_line(error) if isinstance(error, Exception) and not usage else str(error) or type(error).__name__
    communicator.abort(told)
