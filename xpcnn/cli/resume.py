"""Resuming an interrupted run: its arguments, and whether images and arguments are still the same."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import zlib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn.cli.datasets import NAMED
from xpcnn.cli.text import printable
from xpcnn.cli.train_arguments import add_arguments
from xpcnn.data.names import below, nfc

if TYPE_CHECKING:
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding, LabelledImages, Split
    from xpcnn.training.checkpoints import SavedFit

#: Arguments that may change on resuming: the weights do not depend on them (or, for the precision, the change is told);
#: images are compared themselves.
FREE = frozenset([
    "data", "labels", "group_by", "backend", "precision", "threads", "verbose", "no_plots", "checkpoint_every",
    "strict", "cache",
])  # fmt: skip
#: The fields of args.json besides the arguments.
ABOUT = frozenset(
    [
        "command",
        "version",
        "computed_by",
        "classes",
        "working_directory",
        "environment",
        "decoding",
        "weights",
        "several_labels",
    ]
)
#: Images whose checksums are computed by one process at a time.
_TOGETHER = 1024
#: The side to which version 0.1.0 resized the images of folders.
_FIRST_SIDE = 64
#: Arguments whose option has another name.
OPTIONS = {"start": "--from"}


def recall(folder: Path, command: str = "train") -> tuple[dict[str, Any], SavedFit | None, Decoding | None]:
    """Return a run's arguments, given and default, its checkpoint, None before the first, and its :func:`decoding_of`.

    Raises ValueError or OSError if they cannot be read, or are those of another command.
    """
    from xpcnn.training import checkpoints

    if not (folder / checkpoints.NAME).exists():
        path = folder / "args.json"
        try:
            recorded = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} cannot be read ({error}). Start a new run, without --resume.") from error
        _refuse_other_command(folder, recorded, command)
        arguments, decoding = _checked(path, recorded)
        return arguments, None, decoding
    _refuse_other_command(folder, {}, command)  # a run of several has no checkpoint
    saved = checkpoints.read(folder, "Remove it to start this run again, or start a new run, without --resume.")
    record = saved.record
    arguments, decoding = _checked(saved.path, record["arguments"] if isinstance(record, dict) else record)
    return arguments, saved, decoding


def _refuse_other_command(folder: Path, recorded: Any, command: str) -> None:
    """Raise ValueError if a run was started by another command."""
    started = recorded.get("command", "train") if isinstance(recorded, dict) else "train"
    if started != command:
        raise ValueError(
            f"{str(folder)!r} is a run of `xpcnn {started}`. Resume it: xpcnn {started} --resume "
            f"{shlex.quote(str(folder))}"
        )


def _checked(path: Path, recorded: Any) -> tuple[dict[str, Any], Decoding | None]:
    """Return recorded arguments as parsed by the command line, which refuses what nobody could have given, and the
    decoding."""
    from xpcnn.data.groups import is_table

    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    add_arguments(parser)
    try:
        where = Path(recorded["working_directory"])
        options, unknown = parser.parse_known_args(as_options(recorded))
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}")
        decoding = decoding_of(recorded)
    except (ValueError, TypeError, KeyError, AttributeError, argparse.ArgumentError) as error:
        raise ValueError(
            f"{str(path)!r} does not contain a run's arguments ({error}). Start a new run, without --resume."
        ) from error
    given = {key: value for key, value in vars(options).items() if value is not None}
    given.setdefault("copies", "anywhere")  # as in runs from before copies were looked for
    given.setdefault("precision", "float32")  # as in runs from before there were others
    for key in ("data", "start", "labels", "group_by"):
        named = key not in given or (key == "data" and given[key] in NAMED)
        if (
            not named
            and where != Path.cwd()
            and (is_table if key == "group_by" else os.path.exists)(where / given[key])
        ):
            given[key] = str(where / given[key])
    return given, decoding


def as_options(recorded: Mapping[str, Any]) -> list[str]:
    """Return recorded arguments as command-line options."""
    arguments = {key: value for key, value in recorded.items() if key not in ABOUT and value is not None}
    data = str(arguments.pop("data", "digits"))
    line = []
    for key, value in arguments.items():
        if value is False:
            continue
        option = "--" + key.replace("_", "-") if key not in OPTIONS else OPTIONS[key]
        if key == "range":
            line += [option, *map(_plain, value)]
        else:
            line += [option] if value is True else [f"{option}={value}"]
    if recorded.get("color") is False:
        line.append("--gray")
    return [*line, "--", data]


def _plain(value: float) -> str:
    """Return a number without an exponent, which argparse would take for an option if negative."""
    return format(Decimal(repr(value)), "f")


def decoding_of(recorded: Mapping[str, Any]) -> Decoding | None:
    """Return the decoding of a run's images, None for a run that starts from a model.

    Version 0.1.0 recorded none: by default it resized the images of folders to 64 pixels.
    """
    from xpcnn.data import Decoding
    from xpcnn.data.decoding import FIRST

    if recorded.get("decoding") is not None:
        return Decoding.from_json(recorded["decoding"])
    if recorded.get("start"):
        return None
    named = recorded.get("data", "digits") in NAMED
    side = recorded.get("image_size") or NAMED.get(str(recorded.get("data", "digits")), _FIRST_SIDE)
    color = recorded.get("color")
    channels = 3 if (not named if color is None else color) else 1
    return Decoding(side, side, channels, generation=FIRST)


def refuse_other_arguments(run: Path, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise ValueError, listing every difference, if arguments differ from those of the run."""
    different = [
        f"{OPTIONS.get(key, '--' + key.replace('_', '-'))} was {recorded.get(key)}, is {value}"
        for key, value in given.items()
        if key not in FREE and recorded.get(key) != value
    ]
    if different:
        raise ValueError(
            f"The run {str(run)!r} has other arguments: {'; '.join(different)}. "
            "Omit them to resume it, or start a new run, without --resume."
        )


def list_images(images: LabelledImages, split: Split, data: str, communicator: Communicator) -> list[list[Any]]:
    """Return the path, class, part and CRC-32 of every image as JSON values; paths are relative to the folder.

    The fit itself compares everything that it learns from, but knows neither paths nor the test part.
    """
    from xpcnn.data import labels

    rows = []
    count = len(images.y)

    def checksums(number: int) -> list[int]:
        some = images.x[number * _TOGETHER : min((number + 1) * _TOGETHER, count)]
        return [zlib.crc32(image.tobytes()) for image in some]

    sums = [one for some in communicator.parallel_map(checksums, -(-count // _TOGETHER)) for one in some]
    for part, numbers in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        for number in numbers.tolist():
            name = below(images.paths[number], data) if images.paths else str(number)
            rows.append([name, labels.text(images.y[number], images.classes), part, sums[number]])
    return rows


def refuse_other_images(
    run: Path, saved: SavedFit, now: list[list[Any]], same_parts: bool = True, same_values: bool = True
) -> None:
    """Raise ValueError, giving the first image of each kind, if the images are not those of the run.

    Names may be in another Unicode form, as after moving them between macOS and Linux. same_parts: False for another
    fold of the same images. same_values: False if they were decoded in another way.
    """
    try:
        before = {str(name): tuple(rest) for name, *rest in saved.record["images"]}
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{str(saved.path)!r} lists no images ({error}). Start anew, without --resume.") from error
    recorded = {nfc(name): name for name in before}
    after = {name if name in before else recorded.get(nfc(name), name): tuple(rest) for name, *rest in now}
    both = [name for name in before if name in after]
    found = {
        "missing": [name for name in before if name not in after],
        "new": [name for name in after if name not in before],
        "changed": [name for name in both if same_values and before[name][2:] != after[name][2:]],
        "of another class": [name for name in both if _class(before[name]) != _class(after[name])],
        "in another part": [name for name in both if before[name][1:2] != after[name][1:2]],
    }
    if found["missing"] or found["new"] or not same_parts:
        del found["in another part"]  # a consequence, since parts are drawn
    told = [f"{len(names)} {how}, the first {printable(names[0])!r}" for how, names in found.items() if names]
    if told:
        raise ValueError(
            f"The images are not those of the run {str(run)!r}: {'; '.join(told)}. "
            "Restore them to resume it, or start a new run, without --resume."
        )


def _class(rest: tuple[Any, ...]) -> str:
    """Return the class of an image from the fields listed after its name."""
    return nfc(str(rest[0])) if rest else ""
