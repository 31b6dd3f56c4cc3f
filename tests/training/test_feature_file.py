"""Features kept on disk are those that would be computed, or they are computed."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from tests.models import bits, frozen, samples, without_seconds
from tests.training.test_features import Interrupt, fit
from tests.training.test_features import seen as seen
from xpcnn import files
from xpcnn.callbacks import Checkpoint, KeepFeatures
from xpcnn.training import feature_file

VIEWS = 8 * 30 + 10


@pytest.fixture
def folder(tmp_path):
    """Where features are kept."""
    return tmp_path / "above" / "features"


@pytest.fixture
def keep(folder):
    """A function that trains with features kept there."""
    return lambda model=None, **options: fit(
        model or frozen(), **{"epochs": 8, "augment": "dihedral", "callbacks": [KeepFeatures(folder)], **options}
    )


def the_file(folder):
    (path,) = folder.iterdir()
    return path


def test_the_second_fit_reads_what_the_first_has_computed(folder, keep, seen, capsys):
    keep(verbose=8)
    assert capsys.readouterr().out.startswith("computing features of 250 views of 40 images, once")
    assert sum(seen) == VIEWS
    keep(verbose=8)
    line = f"features of 250 views of 40 images read from {str(the_file(folder))!r}: the layers before 'dropout_1' are"
    assert capsys.readouterr().out.startswith(line)
    assert sum(seen) == VIEWS


def test_the_fit_has_the_same_bits_without_a_file_with_a_new_one_and_with_an_old_one(xp, folder, keep):
    models = [frozen(dropout=0.3, xp=xp) for _ in range(3)]
    histories = [keep(models[0], callbacks=[]), keep(models[1]), keep(models[2])]
    assert bits(models[0]) == bits(models[1]) == bits(models[2])
    assert without_seconds(histories[0]) == without_seconds(histories[1]) == without_seconds(histories[2])


def test_a_resumed_fit_reads_them_too(keep, seen, tmp_path):
    whole, part = frozen(dropout=0.3), frozen(dropout=0.3)
    keep(whole)
    keep(part, callbacks=[Checkpoint(tmp_path / "checkpoint"), Interrupt(11)])
    resumed, before = frozen(dropout=0.3), sum(seen)
    keep(resumed, resume=tmp_path / "checkpoint")
    assert bits(resumed) == bits(whole) != bits(part)
    assert sum(seen) == before


def test_its_folder_is_for_this_user_alone_and_so_are_those_above(folder, keep):
    keep()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]


def test_by_default_it_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert KeepFeatures().folder == tmp_path / "xpcnn" / "features"


def test_a_fit_without_frozen_layers_keeps_nothing(folder, keep):
    model = frozen()
    model.layers[0].trainable = True
    keep(model)
    assert not folder.exists()


@pytest.mark.parametrize("other", ["weights", "layers", "images", "validation images", "views", "rows"])
def test_other_features_are_others(folder, keep, seen, other):
    keep()
    model, options, (x, y) = frozen(), {}, samples(40)
    if other == "weights":
        model.parameters["counted.bias"][2] += 1e-3
    if other == "layers":
        model.layers[1].epsilon = 0.5
    if other == "images":
        x[7, 0, 0, 0] += 1e-3
    if other == "validation images":
        options = {"validation_split": 0.0, "validation_data": samples(10, seed=1)}
    if other == "views":
        options = {"augment": "flip"}
    if other == "rows":
        options = {"seed": 6}
    before = sum(seen)
    model.fit(x, y, **{"epochs": 8, "augment": "dihedral", "validation_split": 0.25, "seed": 5, "batch_size": 16,
                       "verbose": 0, "callbacks": [KeepFeatures(folder)], **options})  # fmt: skip
    assert sum(seen) > before
    assert len(list(folder.iterdir())) == 2


def test_what_comes_after_the_frozen_layers_does_not_matter(folder, keep, seen):
    keep()
    model = frozen(dropout=0.4)
    model.compile("sgd")
    keep(model, epochs=9)
    assert sum(seen) == VIEWS


def damage_a_number(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def of_another_version(path):
    tensors, description = files.load_tensors(path)
    description["features"]["versions"]["numpy"] = "1.0"
    files.save_tensors(path, tensors, description)


def of_another_shape(path):
    tensors, description = files.load_tensors(path)
    files.save_tensors(path, {name: array[1:] for name, array in tensors.items()}, description)


def a_model(path):
    path.unlink()
    frozen().save(path)


TROUBLES = {
    "damaged": (damage_a_number, "it is damaged"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "it is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "it is damaged"),
    "of another version": (of_another_version, "it was written by another version, or on another processor"),
    "of another shape": (of_another_shape, "it was written by another version, or on another processor"),
    "a model": (a_model, "it was written by another version, or on another processor"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_file_that_is_not_what_it_should_be_is_replaced_in_one_line(folder, keep, seen, trouble):
    model, again = frozen(), frozen()
    keep(model)
    good = the_file(folder).read_bytes()
    spoil, reason = TROUBLES[trouble]
    spoil(the_file(folder))
    with pytest.warns(UserWarning, match=rf"can't be used, so they are computed: {reason}\.$") as told:
        keep(again)
    assert len(told) == 1
    assert bits(again) == bits(model)
    assert sum(seen) == 2 * VIEWS
    assert the_file(folder).read_bytes() == good


def test_a_place_that_cannot_be_used_is_one_line_and_the_fit_goes_on(folder, keep):
    model, again = frozen(), frozen()
    keep(model)
    name = the_file(folder).name
    the_file(folder).unlink()
    (folder / name).mkdir()
    with pytest.warns(UserWarning, match=r"Is a directory") as told:
        keep(again)
    assert len(told) == 1
    assert bits(again) == bits(model)


def test_a_file_in_the_way_of_the_folder_is_one_line_too(folder, keep):
    folder.parent.write_text("a file")
    with pytest.warns(UserWarning, match=r"can't be used, so they are computed: File exists\.$") as told:
        keep()
    assert len(told) == 1


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_a_folder_that_others_can_write_to_is_not_used(folder, keep, seen):
    keep()
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match=rf"others own it or can write to it; run `chmod go-w {folder}`") as told:
        keep()
    assert len(told) == 1
    assert sum(seen) == 2 * VIEWS


def test_features_that_are_too_large_to_be_read_again_are_not_written(folder, keep, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", files.MOST_HEADER_BYTES + VIEWS * 4 * 4 - 1)
    with pytest.warns(UserWarning, match="it would be larger than") as told:
        keep()
    assert len(told) == 1
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_one_line(folder, keep, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_file.files, "save_tensors", full)
    with pytest.warns(UserWarning, match=r"can't be kept in .*: No space left on device\.$") as told:
        keep()
    assert len(told) == 1


FIT = """
import sys
from tests.models import bits, frozen
from tests.training.test_features import fit
from xpcnn.callbacks import KeepFeatures
model = frozen()
sys.stdin.readline()
fit(model, epochs=8, augment="dihedral", callbacks=[KeepFeatures(sys.argv[1])])
print(hash(b"".join(bits(model).values())))
"""


def test_two_processes_at_once_both_get_them(folder):
    line = [sys.executable, "-c", FIT, str(folder)]
    surroundings = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(line, env=surroundings, **pipes) for _ in range(2)]
    for one in both:
        one.stdin.write("go\n")
        one.stdin.flush()
    told = [one.communicate(timeout=60) for one in both]
    assert told[0] == told[1]
    assert told[0][1] == ""
    assert the_file(folder).suffix == ".safetensors"


def test_the_file_says_what_computed_it(folder, keep):
    keep()
    tensors, description = files.load_tensors(the_file(folder))
    assert {name: array.shape for name, array in tensors.items()} == {"train": (240, 4), "held": (10, 4)}
    assert description["features"].keys() >= {"versions", "backend", "sources", "blas", "instructions", "batch_size"}
    assert json.dumps(description)
    np.testing.assert_array_equal([array.dtype for array in tensors.values()], [np.float32] * 2)


def test_libraries_that_come_with_other_packages_decide_nothing():
    code = (
        "from xpcnn.precision import resolve; from xpcnn.training.feature_file import maker_of; "
        "before = maker_of(resolve('numpy'), 64); import cv2; assert maker_of(resolve('numpy'), 64) == before; "
        "assert before['blas']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
