"""Resources of a long run stay constant: no more memory or open files after 2,000 steps than after 500."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import xpcnn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process holds is read from /proc"),
]

SCRIPT = """
import gc, json, os, sys, tempfile
import numpy as np
from tests.models import mixed, samples
from xpcnn import callbacks

class Watch(callbacks.Callback):
    seen = []
    def on_step_end(self, fit):
        if fit.step % 500 == 0:
            gc.collect()
            pages = int(open("/proc/self/statm").read().split()[1])
            self.seen.append({"step": fit.step, "pages": pages, "files": len(os.listdir("/proc/self/fd"))})

x, y = samples(320)
with tempfile.TemporaryDirectory() as folder:
    kept = [callbacks.Checkpoint(folder + "/c", steps=100), callbacks.SaveLast(folder + "/l"), callbacks.StopOnNaN()]
    mixed().fit(x, y, epochs=100, batch_size=16, verbose=0, callbacks=[*kept, Watch()], validation_split=0.0)
print(json.dumps(Watch.seen))
"""


def test_memory_and_open_files_are_the_same_after_2000_steps_as_after_500():
    home = str(Path(xpcnn.__file__).parents[1])
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=False,
        env={"PYTHONPATH": f"{tests}:{home}", "XPCNN_BACKEND": "numpy", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert [row["step"] for row in seen] == [500, 1000, 1500, 2000]
    assert seen[-1]["files"] == seen[0]["files"]
    assert seen[-1]["pages"] <= 1.01 * seen[0]["pages"], seen
