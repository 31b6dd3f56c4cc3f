"""The package loads nothing until it is used, and says clearly when OpenCV is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import xpcnn.data
from tests.data.conftest import png
from xpcnn.data import opencv


def run(code):
    """Run code in a process of its own, with the package that is tested here."""
    environment = {**os.environ, "PYTHONPATH": str(Path(xpcnn.data.__file__).parents[2])}
    environment.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_importing_the_room_does_not_load_opencv():
    assert run("import sys, xpcnn.data; print('cv2' in sys.modules)") == "False"


def test_using_the_room_without_images_does_not_load_opencv():
    code = (
        "import sys, xpcnn.data as d; d.load_digits(); d.Decoding(8, 8, 1);"
        "[getattr(d, name) for name in d.__all__]; print('cv2' in sys.modules)"
    )
    assert run(code) == "False"


@pytest.mark.parametrize("name", xpcnn.data.__all__)
def test_every_public_name_can_be_reached(name):
    thing = getattr(xpcnn.data, name)
    assert thing.__name__.rpartition(".")[2] == name
    assert xpcnn.data.__getattr__(name) is thing
    assert name in dir(xpcnn.data)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_cats'"):
        xpcnn.data.load_cats  # noqa: B018


def test_opencv_is_held_to_one_thread():
    assert run("from xpcnn.data.opencv import load_opencv; print(load_opencv().getNumThreads())") == "1"


def test_opencv_is_held_to_2_to_the_27_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2**14, 2**14, 0, 8, b""))
    path = str(tmp_path / "a.png")
    code = f"from xpcnn.data import Decoding, read_image; read_image({path!r}, Decoding(8, 8, 1))"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(code)
    assert "OpenCV refuses it (pixels <= CV_IO_MAX_IMAGE_PIXELS)" in caught.value.stderr


def test_a_failing_opencv_is_one_error_that_names_the_package(monkeypatch):
    def fail(name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(opencv.importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"libGL\.so\.1.*opencv-python-headless"):
        opencv.load_opencv.__wrapped__()
