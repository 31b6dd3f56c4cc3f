"""With a cache, the memory for a folder does not grow with the number of images."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpcnn
from tests.data.conftest import picture, save

FEW, MANY = 500, 6000
#: Megabytes of the images that MANY files are more than FEW.
MORE = (MANY - FEW) * 3 * 64 * 64 / 1e6

LOAD = """
import sys
from xpcnn.data import Decoding, load_folder
images = load_folder(sys.argv[1], Decoding(64, 64, 3), threads=2, cache=sys.argv[2] or None)
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(len(images.y), line.split()[1])
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of images, one with more of them."""
    source = save(tmp_path_factory.mktemp("source") / "1.png", picture(9, 9))
    made = []
    for number in (FEW, MANY):
        root = tmp_path_factory.mktemp("images")
        for name in ("a", "b"):
            (root / name).mkdir()
        for i in range(number):
            shutil.copyfile(source, root / "ab"[i % 2] / f"{i}.png")
        made.append(root)
    return made


def peak(root, cache):
    """The most memory that a process takes which loads a folder, in megabytes."""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(xpcnn.__file__).parents[1])}
    line = [sys.executable, "-c", LOAD, str(root), str(cache)]
    done = subprocess.run(line, env=surroundings, capture_output=True, text=True, check=True)
    count, kilobytes = np.array(done.stdout.split(), dtype=int)
    assert count == len(list(root.glob("*/*")))
    return kilobytes * 1024 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="a process's own peak can't be told here")
def test_the_peak_does_not_grow_with_the_images(folders, tmp_path):
    few, many = folders
    assert peak(many, "") - peak(few, "") > 0.8 * MORE  # held in memory, they show
    for time in ("first", "later", "after a change"):
        if time == "after a change":  # the others are copied
            for root in folders:
                (root / "a" / "0.png").touch()
        # Up to 6 MB of images wait to be written, more often so many where there are more; and there are more paths.
        assert peak(many, tmp_path / "kept") - peak(few, tmp_path / "kept") < 0.7 * MORE, time
