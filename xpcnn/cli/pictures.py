"""How a folder's images are decoded, as requested or by their properties, and how that is described."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xpcnn.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from xpcnn.data import Decoding
    from xpcnn.data.picture import Facts
    from xpcnn.data.survey import Look


def add_arguments(group: argparse._ActionsContainer) -> None:
    """Add the arguments for decoding images."""
    group.add_argument(
        "--image-size", type=options.positive, metavar="N",
        help="side in pixels (default: that of the images, at most 64; with --from, that of the weights)",
    )  # fmt: skip
    group.add_argument(
        "--resize", choices=("stretch", "crop", "pad"), metavar="WAY",
        help="how to fit images that are not square: stretch (default), crop, pad",
    )  # fmt: skip
    channels = group.add_mutually_exclusive_group()
    channels.add_argument("--gray", dest="color", action="store_false", default=None, help="one grey channel")
    channels.add_argument("--color", dest="color", action="store_true", help="three channels (default for photographs)")
    channels.add_argument(
        "--channels", type=options.count_or_all, metavar="N|all",
        help="the first N channels, or all, as they are (default if images have channels other than colours)",
    )  # fmt: skip
    group.add_argument(
        "--page", type=options.page, metavar="N|max|mean",
        help="of stacks: the page, counted from 0 (default: 0), or the maximum or mean of all pages",
    )  # fmt: skip
    group.add_argument(
        "--range", type=options.finite, nargs=2, metavar=("LOW", "HIGH"),
        help="the values that become black and white (default, above 8 bits: the range of the training images)",
    )  # fmt: skip


#: A range this many times as wide as that of most images leaves them 16 of 256 levels.
_WIDE = 16
#: The arguments that a model given by --from determines.
OF_A_MODEL = ("image_size", "resize", "color", "channels", "page", "range")


def choose(paths: Sequence[Path], options_: argparse.Namespace) -> tuple[Decoding, bool]:
    """Return the decoding, and whether its range of values has yet to be measured."""
    from xpcnn.data import Decoding
    from xpcnn.data.survey import look, side

    page: Any = options_.page if options_.page in ("max", "mean") else int(options_.page)
    looks = look(paths, page, options_.channels is not None, options_.threads)
    count = _channels(looks, options_)
    size = options_.image_size or side(looks)
    decoding = Decoding(
        size,
        size,
        count or (1 if options_.color is False else 3),
        options_.resize,
        as_channels=count is not None,
        range=None if options_.range is None else tuple(options_.range),
        page=page,
    )
    deep = [one for one in looks if one.dtype != "uint8"]
    return decoding, bool(looks) and len(deep) == len(looks) and decoding.range is None


def _channels(looks: Sequence[Look], options_: argparse.Namespace) -> int | None:
    """Return the number of channels to use as they are, None for grey or colour."""
    if options_.color is not None:
        return None
    if options_.channels is None:
        others = Counter(one.samples for one in looks if one.kind == "channels")
        return others.most_common(1)[0][0] if 2 * others.total() >= len(looks) > 0 else None
    if options_.channels != "all":
        return int(options_.channels)
    counts = Counter(one.samples for one in looks)
    if len(counts) > 1:
        (most, _), (other, _), *_ = counts.most_common()
        raise ValueError(
            f"--channels all needs images with equally many channels, but some have {most}, others {other}. "
            f"Use --channels {min(counts)} for the first ones, which all images have."
        )
    return max(counts, default=1)


def arguments_of(decoding: Decoding) -> dict[str, Any]:
    """Return the arguments that were chosen by the images, as args.json keeps them."""
    chosen: dict[str, Any] = {"image_size": decoding.height}
    if decoding.as_channels:
        chosen["channels"] = str(decoding.channels)
    return chosen


def description(facts: Sequence[Facts], decoding: Decoding, source: str) -> list[str]:
    """Return lines that describe the images, their decoding, and what it leaves out.

    source: where the range of values comes from.
    """
    from xpcnn.data.left_out import left_out

    lines = [f"images of {_sizes(facts)}, {_shaped(decoding)}, {colours(decoding)}"]
    if decoding.range is not None:
        lines.append(f"values from {range_in_words(decoding)} become 0 to 255, {source}")
        spans = [max(one.high) - min(one.low) for one in facts if one.is_deep]
        low, high = min(low for low, _ in decoding.ranges or ()), max(high for _, high in decoding.ranges or ())
        if spans and statistics.median(spans) * _WIDE < high - low:
            lines.append(
                f"half of the images use less than a {_WIDE}th of that range, so that little of them remains: "
                "give the range that matters (--range LOW HIGH)"
            )
    advice = " (choose with --page N, max or mean)"
    return lines + [line + advice * ("pages" in line) for line in left_out(facts, decoding)]


def colours(decoding: Decoding) -> str:
    """Describe the channels in words."""
    if decoding.as_channels:
        return "1 channel as it is" if decoding.channels == 1 else f"{decoding.channels} channels as they are"
    return "in colour" if decoding.channels == 3 else "in grey"


def range_in_words(decoding: Decoding) -> str:
    """Describe the ranges of values in words.

    >>> from xpcnn.data import Decoding
    >>> range_in_words(Decoding(8, 8, 2, as_channels=True, range=((0, 4095), (0.5, 2))))
    '0 to 4095, 0.5 to 2'
    """
    ranges: Any = decoding.range or ()
    different = dict.fromkeys(ranges) if len(set(ranges)) == 1 else ranges
    return ", ".join(f"{low:g} to {high:g}" for low, high in different)


def _sizes(facts: Sequence[Facts]) -> str:
    counts = Counter((one.width, one.height) for one in facts)
    if len(counts) == 1:
        ((width, height),) = counts
        return f"{width}x{height} pixels"
    smallest, largest = (f(counts, key=lambda size: (size[0] * size[1], size)) for f in (min, max))
    return f"{len(counts)} sizes, {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]} pixels"


def _shaped(decoding: Decoding) -> str:
    fitted = {"stretch": "stretched", "crop": "cropped and resized", "pad": "padded and resized"}[decoding.resizing]
    return f"{fitted} to {decoding.width}x{decoding.height}"
