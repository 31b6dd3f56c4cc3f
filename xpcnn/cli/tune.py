"""Search for a good learning rate, width, augmentation and image size, and train with the best ones."""

from __future__ import annotations

import argparse
import os
from typing import Any

from xpcnn.cli import resume, train, train_arguments
from xpcnn.cli.train_arguments import NOT_OF_THE_RUN

#: The variables in which MPI tells the processes that it starts how many they are, and which one each is.
RANKS = (("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn tune``: those of ``xpcnn train`` that can be the same in all trials."""
    train_arguments.add_arguments(parser, tunes=True)
    parser.epilog = "--lr, --width, --augment and --image-size are varied around their defaults, unless they are given."


def run(options_: argparse.Namespace) -> int:
    """Try settings for some minutes, evaluate the best ones, and print the command that repeats them."""
    if _refuse_several_processes():
        return 2
    from xpcnn.cli.run_directory import NewRun, ResumedRun, RunDirectory
    from xpcnn.cli.search import Search
    from xpcnn.cli.signals import noting_how_to_go_on
    from xpcnn.cli.study import import_optuna

    import_optuna()
    given = {key: value for key, value in vars(options_).items() if value is not None and key not in NOT_OF_THE_RUN}
    claimed: RunDirectory
    if options_.resume is None:
        _refuse_what_means_nothing(options_, given)
        claimed = NewRun(options_.out, "tune")
    elif options_.out is not None:
        raise argparse.ArgumentError(None, "--resume writes to the run's own directory, so --out has no effect")
    else:
        claimed = ResumedRun(options_.resume, "tune")
    with claimed as whole, noting_how_to_go_on(whole):
        if options_.resume is not None:
            recorded, *_ = resume.recall(whole.path, "tune")
            resume.refuse_other_arguments(whole.path, recorded, given)
            given = recorded | given
        return Search(options_, whole, given).run()


def _refuse_several_processes() -> bool:
    """Return whether this is one of several processes but the first, which raises a usage error for all of them."""
    for count, rank in RANKS:
        if os.environ.get(count, "1") != "1":
            if os.environ.get(rank, "0") != "0":
                return True
            raise argparse.ArgumentError(
                None, f"the search is for one process, received {os.environ[count]}; omit mpiexec"
            )
    return False


def _refuse_what_means_nothing(options_: argparse.Namespace, given: dict[str, Any]) -> None:
    """Raise an error for arguments that contradict each other, and for minutes that are missing."""
    if "minutes" not in given:
        raise argparse.ArgumentError(None, "--minutes is needed: the time for all trials, such as --minutes 60")
    if given.get("validation_fraction") == 0:
        raise argparse.ArgumentError(None, "--validation-fraction is 0, and trials are compared on validation images")
    train.refuse_among_images(options_.out, given.get("data", "digits"))
    others = {key: value for key, value in given.items() if key != "minutes"}
    train.refuse_what_means_nothing(argparse.Namespace(**{**vars(options_), **train.completed(others)}))
