"""What each rank runs: ``mpiexec -n 4 python -m tests.mpi.fits fit '{"batch_size": 33}'``; the last line is JSON."""

import functools
import hashlib
import json
import os
import signal
import sys
import threading
import time

import numpy as np

import xpcnn
from tests.models import frozen, mixed, plain, samples
from xpcnn import losses
from xpcnn.training.callbacks import Callback, Checkpoint, EarlyStopping, KeepFeatures, ReduceLROnPlateau

MODELS = {"plain": plain, "mixed": mixed, "frozen": functools.partial(frozen, dropout=0.3)}


def together(**options):
    return xpcnn.distributed.world(**options)


def outcome(model, history):
    """What a fit came to, as it must be on every rank."""
    weights = b"".join(array.tobytes() for array in model.get_weights().values())
    columns = {name: column for name, column in history.history.items() if name != "seconds"}
    return {"weights": hashlib.blake2b(weights).hexdigest(), "history": columns, "steps": history.steps}


def fit(
    model="mixed",
    n=70,
    validation=True,
    weigh=False,
    exact=True,
    alone=False,
    save=None,
    smoothing=0.0,
    stop_after=None,
    keep=None,
    plateau=False,
    **options,
):
    """Train one of the small models, and tell what it came to."""
    x, y = samples(n)
    made = MODELS[model](loss=losses.CrossEntropy(smoothing))
    arguments = {"epochs": 3, "batch_size": 16, "seed": 5, "augment": "shift", "verbose": 0, **options}
    if validation:
        arguments["validation_data"] = samples(20, seed=1)
    if weigh:
        arguments["sample_weight"] = np.arange(n) % 3
    if save:
        arguments["callbacks"] = [
            Checkpoint(save),
            EarlyStopping(50),
            *([] if stop_after is None else [Stop(stop_after)]),
        ]
    if plateau:
        arguments["callbacks"] = [
            *arguments.get("callbacks", ()),
            ReduceLROnPlateau(factor=0.5, patience=1, min_delta=1),
        ]
    if keep:
        arguments["callbacks"] = [*arguments.get("callbacks", ()), KeepFeatures(keep)]
    if not alone:
        arguments["communicator"] = together(exact=exact)
    told = outcome(made, made.fit(x, y, **arguments))
    if not exact:
        told["values"] = [float(value) for array in made.get_weights().values() for value in array.ravel()]
    return told


class Stop(Callback):
    """The fit is broken off after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, fit):
        if fit.step == self.steps:
            fit.interrupt("SIGTERM")


#: The second of the five steps of the second epoch.
STEP = 7


class Trouble(Callback):
    """Something happens to one rank in a step."""

    def __init__(self, what, rank):
        self.what, self.rank = what, rank

    def on_step_end(self, fit):
        if fit.communicator.rank != self.rank or fit.step != STEP:
            return
        print(f"now {time.time()}", file=sys.stderr, flush=True)
        if self.what == "error":
            raise RuntimeError("the disk of this rank is gone")
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "hang":
            time.sleep(600)
        if self.what == "stop":
            fit.interrupt("SIGTERM")
        if self.what == "late":  # while it waits for the others, who take longer
            threading.Timer(0.2, lambda: fit.interrupt("SIGTERM")).start()


class Slow(Callback):
    """All ranks but one take longer."""

    def __init__(self, rank):
        self.rank = rank

    def on_step_end(self, fit):
        if fit.communicator.rank != self.rank:
            time.sleep(0.5 if fit.step == STEP else 0)


def trouble(what, rank, patience=300.0):
    """Train until something happens to a rank."""
    x, y = samples(70)
    communicator = together(patience=patience)
    made = mixed()
    history = made.fit(
        x,
        y,
        epochs=50,
        batch_size=16,
        verbose=0,
        callbacks=[Trouble(what, rank), Slow(rank)],
        communicator=communicator,
    )
    return outcome(made, history)


def different(what):
    """Train where the last rank has something else than the others."""
    communicator = together()
    other = communicator.rank == communicator.size - 1
    x, y = samples(70)
    made = mixed()
    arguments = {"epochs": 1, "batch_size": 16, "verbose": 0, "communicator": communicator}
    if other and what == "data":
        y = (y + 1) % 3
    if other and what == "rows":
        x, y = x[:60], y[:60]
    if other and what == "arguments":
        arguments["batch_size"] = 32
    if other and what == "code":
        from xpcnn.training import loop

        loop.code_digest = lambda: "another"
    if communicator.rank == 0 and what == "past":
        made.fit(x, y, batch_size=16, verbose=0)
    made.fit(x, y, **arguments)


if __name__ == "__main__":
    name, options = sys.argv[1], json.loads(sys.argv[2])
    told = json.dumps(globals()[name](**options))
    sys.stdout.write(f"{told}\n")
    sys.stdout.flush()
