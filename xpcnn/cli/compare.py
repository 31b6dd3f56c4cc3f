"""Compare runs: their curves, settings and accuracies, and their predictions for the same images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xpcnn.cli.text import bounds, printable

if TYPE_CHECKING:
    from xpcnn.report.paired import Finished, Pair


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn compare``."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the directories of 2 to 8 runs, such as runs/train")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="comparison.html", help="the page (default: comparison.html)"
    )


def run(options_: argparse.Namespace) -> int:
    """Write the page, and print a table, one line for every two runs, and where the page is."""
    from xpcnn import files
    from xpcnn.report import comparison, paired

    if not 2 <= len(options_.runs) <= comparison.MOST_RUNS:
        expected = f"2 to {comparison.MOST_RUNS} runs are compared, received {len(options_.runs)}"
        raise argparse.ArgumentError(None, f"{expected}; `xpcnn report RUN` describes one")
    if Path(options_.output).suffix.lower() != ".html":  # a run's file would be overwritten
        raise argparse.ArgumentError(None, f"the output file must end in .html, received {options_.output!r}")
    runs = list(map(paired.read, options_.runs))
    paired.refuse_incomparable(runs)
    pairs = paired.pairs(runs)
    files.write_text(options_.output, comparison.write_up(runs, pairs))
    print(_table(runs))
    for pair in pairs:
        if pair.shared:
            print(_line(pair))
    for line in comparison.unpaired(pairs):
        print(printable(line))
    print(printable(options_.output))
    return 0


def _table(runs: list[Finished]) -> str:
    """Return a line for each run."""
    several = runs[0].run.several_labels
    names = [printable(one.name) for one in runs]
    width = max(map(len, ["run", *names]))
    lines = [f"{'run':{width}}  {'test macro F1' if several else 'test accuracy'}  {'95 %':>16}  images"]
    for name, one in zip(names, runs, strict=True):
        figure, interval = (
            one.figure("test", "f1" if several else "accuracy"),
            one.f1_interval() if several else one.interval(),
        )
        told = "—" if figure is None else f"{figure:.4f}"
        between = "—" if interval is None else bounds(interval)
        lines.append(f"{name:{width}}  {told:>13}  {between:>16}  {one.run.part('test'):6}")
    return "\n".join(lines)


def _line(pair: Pair) -> str:
    """Return what two runs predicted for the images that they share."""
    from xpcnn.report.comparison import p_value

    first, second = printable(pair.first.name), printable(pair.second.name)
    better = pair.better
    what = "have all labels right" if pair.first.run.several_labels else "are right"
    return (
        f"{first} and {second} share {pair.shared} test images: {pair.only_first} {what} in the first alone, "
        f"{pair.only_second} in the second alone, p {p_value(pair.p)}: "
        f"{'this may be chance' if better is None else f'{printable(better.name)} is better'}"
    )
