"""Cases: checkpoints that are truncated, damaged or inconsistent."""

import itertools
import json
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from tests.fuzz import child
from tests.fuzz.model_files import HOSTILE, described, headers, places, put, several
from tests.fuzz.mutate import mutate
from tests.models import plain, samples
from xpcnn import callbacks, files

FOLDER = Path(tempfile.gettempdir())
FILE = FOLDER / "a.checkpoint"
X, Y = samples(12)


class Interrupt(callbacks.Callback):
    def on_step_end(self, fit):
        if fit.step == 4:
            fit.interrupt("asked to")


def fit(model, *called, resume=None):
    called = [callbacks.StopOnNaN(), callbacks.SaveBest(FOLDER / "best"), *called]
    return model.fit(X, Y, epochs=2, batch_size=4, seed=1, verbose=0, callbacks=called, resume=resume)


def attempt(content):
    """Go on from a checkpoint: to the end of the fit, with finite weights, or not at all."""
    FILE.write_bytes(content)
    model = plain()
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions, and of numbers that overflow
            history = fit(model, resume=FILE)
    except FloatingPointError:  # weights that are finite, and what they give is not
        return "refused"
    except (ValueError, OSError) as error:
        if "the state of callbacks." not in str(error):  # they are asked when the fit has begun
            for name, weight in model.get_weights().items():
                assert weight.tobytes() == before[name].tobytes()
        return child.refused(error)
    assert all(np.isfinite(weight).all() for weight in model.get_weights().values())
    assert isinstance(history.history, dict)
    return "survived"


def cases(seed, count):
    """Yield the cases; of those that can be listed, a part where ``count`` is small."""
    fit(plain(), Interrupt(), callbacks.Checkpoint(FILE))
    tensors, description = files.load_tensors(FILE)
    content = described(tensors, description)  # without a checksum, which would refuse all of these unread
    length = 8 + int.from_bytes(content[:8], "little")

    for cut in child.some(range(len(content)), count):
        yield "checkpoint, cut off", f"at {cut}", partial(attempt, content[:cut])
    for place, mask in child.some(itertools.product(range(length), (1, 16, 128, 255)), count):
        flipped = bytes([*content[:place], content[place] ^ mask, *content[place + 1 :]])
        yield "checkpoint, header byte changed", f"{place} ^ {mask}", partial(attempt, flipped)
    values = list(itertools.product(places(description), range(len(HOSTILE))))
    for path, which in child.some(values, count):
        name, hostile = f"{HOSTILE[which]!r:.40} at {path}", put(description, path, HOSTILE[which])
        yield "checkpoint, one value hostile", name, lambda value=hostile: attempt(described(tensors, value))
    for name in ("history", "callbacks", "record"):
        parsed = json.loads(tensors[name].tobytes())
        for path, hostile in child.some(itertools.product(places(parsed), HOSTILE), count // 2):
            text = np.frombuffer(json.dumps(put(parsed, path, hostile)).encode(), np.uint8)
            changed = {**tensors, name: text}
            yield (
                f"checkpoint, {name} hostile",
                f"{hostile!r:.40} at {path}",
                lambda changed=changed: attempt(described(changed, description)),
            )
    for name, lie in child.some(headers(content), count):
        yield "checkpoint, header that lies", name, partial(attempt, lie)
    for name, value in itertools.product(tensors, (np.nan, np.inf, 3e38)):
        if tensors[name].dtype.kind == "f":
            changed = {**tensors, name: np.full_like(tensors[name], value)}
            yield "checkpoint, numbers not finite", f"{name} {value}", partial(attempt, described(changed, description))
    for number in range(count):
        key = f"checkpoint {seed} {number}"
        if number % 2:
            yield "checkpoint, mutated", key, lambda key=key: attempt(mutate(content, key))
        else:
            yield "checkpoint, values mutated", key, lambda key=key: attempt(several(tensors, description, key))
