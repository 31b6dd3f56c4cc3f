"""Cases in separate processes, each with limited memory and time, so that a crash is one failed case.

A module of cases has ``cases(seed, count)``, which yields (kind, name, attempt) in the same order each time. An attempt
returns "survived" or "refused"; any exception is a failure.
"""

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pytest

import xpcnn
from xpcnn.cli.text import one_line

#: Beyond what a process has taken once everything is imported.
MOST_BYTES = 3 * 2**30
SECONDS = 20
MOST_CHARACTERS = 1500
#: Processes that one test starts at most: each crash costs one.
MOST_PROCESSES = 20

#: Where memory can be limited so.
linux = pytest.mark.skipif(sys.platform != "linux", reason="a process's memory and time are limited as on Linux")

HOME = Path(xpcnn.__file__).parents[1]
TESTS = Path(__file__).parents[2]


def refused(error):
    """Assert that an error is a refusal that the command line tells in one line; returns "refused"."""
    assert isinstance(error, ValueError | OSError), f"{type(error).__name__} is no refusal"
    line = one_line(error)
    assert "\n" not in line
    assert line.isprintable()
    assert 0 < len(line) <= MOST_CHARACTERS, f"a refusal of {len(line)} characters"
    assert not line.startswith("unexpected")
    return "refused"


def run(tally, module, seed, count, part=0, parts=1):
    """Try every ``parts``-th case of a module, and count what came of them."""
    start = 0
    for _ in range(MOST_PROCESSES):
        line = [sys.executable, "-m", "tests.fuzz.child", *map(str, (module, seed, count, part, parts, start))]
        environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{HOME}", "OPENBLAS_NUM_THREADS": "1"}
        with (
            tempfile.TemporaryDirectory() as environment["TMPDIR"],
            tempfile.TemporaryFile() as said,
            subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=said) as process,
        ):
            begun = None
            for report in map(json.loads, process.stdout):
                if "outcome" in report:
                    with tally.case(begun["kind"], _named(begun, module, seed)) as case:
                        case.outcome = report["outcome"]
                        assert case.outcome != "failed", report["trace"]
                    start, begun = begun["index"] + 1, None
                else:
                    begun = report
            code = process.wait()
            said.seek(max(0, said.seek(0, os.SEEK_END) - 2000))
            last_words = said.read().decode(errors="replace")
        if begun is None:
            assert code == 0, f"{module} ended with {code} between two cases: {last_words}"
            return
        with tally.case(begun["kind"], _named(begun, module, seed)):
            ended = f"took longer than {SECONDS} s" if code == -signal.SIGALRM else f"ended with {code}: {last_words}"
            raise AssertionError(f"the process {ended}")
        start = begun["index"] + 1
    raise AssertionError(f"{module}: {MOST_PROCESSES} processes crashed")


def _named(begun, module, seed):
    return f"{begun['name']!r} (tests.fuzz.{module}, case {begun['index']} of seed {seed})"


def main(module, seed, count, part, parts, start):
    """Try cases and print, for each, a line when it begins and a line with its outcome."""
    cases = importlib.import_module(f"tests.fuzz.{module}").cases(int(seed), int(count))
    _limit_memory()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what decoders print
    for index, (kind, name, attempt) in enumerate(cases):
        if index % int(parts) != int(part) or index < int(start):
            continue
        print(json.dumps({"index": index, "kind": kind, "name": name}), file=out, flush=True)
        signal.alarm(SECONDS)
        try:
            report = {"outcome": attempt()}
        except Exception:
            report = {"outcome": "failed", "trace": traceback.format_exc()[-2000:]}
        signal.alarm(0)
        print(json.dumps(report), file=out, flush=True)


def _limit_memory():
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def some(items, count):
    """Return ``count`` of the items, evenly apart, or all where there are no more."""
    items = list(items)
    step = max(1.0, len(items) / count)
    return [
        items[int(place * step)] for place in itertools.takewhile(lambda i: i * step < len(items), itertools.count())
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
