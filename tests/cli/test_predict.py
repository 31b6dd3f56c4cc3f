"""``xpcnn predict``: a row for every image, whatever its name and whether or not it can be read."""

import csv
import io
import json
import os
import shutil
import stat
import sys

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import CLASSES, picture, save, truncated_jpeg
from xpcnn import data, layers
from xpcnn.cli import predict
from xpcnn.model import prediction
from xpcnn.program import memory_bound

FORMATS = ["table", "csv", "json", "jsonl"]
#: For tests that start a process for each.
FORMATS_OF_PROCESSES = ["table", *(pytest.param(form, marks=pytest.mark.slow) for form in FORMATS[1:])]


@pytest.fixture
def images(photos):
    """Nine images that can be read."""
    return [str(path) for path in sorted(photos.glob("*/* [0-2].*"))]


@pytest.fixture
def broken(here):
    """Files that cannot be read, with a word of the reason of each."""
    (here / "empty.png").touch()
    (here / "text.jpg").write_text("no image")
    reasons = {"empty.png": "empty", "text.jpg": "not one that xpcnn reads", "nowhere.png": "No such"}
    return {"half.jpg": "truncated", **reasons} if truncated_jpeg(here / "half.jpg") else {}


def answers(done, code=0):
    assert done.code == code, done
    return json.loads(done.out)


class TestAnswers:
    def test_they_are_the_models(self, run, model, images):
        done = run("predict", model, *images, "--format", "json")
        assert done.err == ""
        loaded = xpcnn.load(model)
        for path, row in zip(images, answers(done), strict=True):
            x = loaded.preprocessing.normalize(data.read_image(path, loaded.preprocessing.decoding)[None])
            expected = dict(zip(CLASSES, loaded.predict(x)[0].tolist(), strict=True))
            assert list(row) == ["path", "label", "probability", "top", "error", "guess"]
            assert (row["path"], row["error"]) == (path, None)
            assert {one["label"]: one["probability"] for one in row["top"]} == pytest.approx(expected, rel=1e-4)
            probabilities = [one["probability"] for one in row["top"]]
            assert probabilities == sorted(probabilities, reverse=True)
            assert (row["label"], row["probability"]) == tuple(row["top"][0].values())
            assert row["guess"] == row["label"]

    def test_they_are_right_for_images_like_those_learned(self, run, here, model):
        new = [save(here / f"{kind}.png", picture(kind, 40, 33, True, seed=99)) for kind in CLASSES]
        rows = answers(run("predict", model, *new, "--format", "json"))
        assert [row["label"] for row in rows] == list(CLASSES)

    def test_they_come_in_the_order_given_each_time_it_is_given(self, run, model, images, broken):
        given = [images[3], "half.jpg", images[0], images[3], "empty.png", images[8]]
        rows = answers(run("predict", model, *given, "--format", "json"))
        assert [row["path"] for row in rows] == given
        assert rows[0] == rows[3]

    @pytest.mark.parametrize("chunk", [1, 2, 4, 5])
    def test_many_are_answered_as_few_are(self, run, model, images, broken, monkeypatch, chunk):
        given = [*images[:3], *broken, *images[3:]]
        whole = answers(run("predict", model, *given, "--format", "json"))
        monkeypatch.setattr(prediction, "TOGETHER", chunk)
        pieces = answers(run("predict", model, *given, "--format", "json"))
        assert [row["path"] for row in pieces] == given
        for row, other in zip(pieces, whole, strict=True):
            assert (row["label"], row["error"]) == (other["label"], other["error"])
            if row["error"] is None:
                assert row["probability"] == pytest.approx(other["probability"], rel=1e-4)

    @pytest.mark.parametrize(("k", "listed"), [(1, 1), (2, 2), (3, 3), (50, 3)])
    def test_top_k_classes_are_listed(self, run, model, images, k, listed):
        for row in answers(run("predict", model, *images, "--format", "json", "--top-k", k)):
            assert len(row["top"]) == listed

    def test_those_of_a_large_network_are_taken_a_few_at_a_time(self, run, model, images, monkeypatch):
        lengths = []
        read = prediction.read_images
        monkeypatch.setattr(
            prediction, "read_images", lambda paths, *o, **k: lengths.append(len(paths)) or read(paths, *o, **k)
        )
        numbers, _ = memory_bound.demand(xpcnn.load(model).network)
        monkeypatch.setattr(memory_bound, "MOST_NUMBERS", 4 * numbers + 1)
        assert len(answers(run("predict", model, *images, "--format", "json"))) == 9
        assert lengths == [4, 4, 1]

    def test_that_are_not_finite_are_refused(self, refuses, images, overflowing):
        refuses("predict", overflowing, *images, words=["NaN or infinite outputs"])

    def test_below_the_threshold_the_label_is_uncertain(self, run, here, model, images):
        unsure = xpcnn.load(model)
        unsure.parameters["dense_1.weight"][...] *= 0.1
        unsure.save(here / "unsure.safetensors")
        rows = answers(run("predict", "unsure.safetensors", *images, "--format", "json"))
        middle = sorted(row["probability"] for row in rows)[4]
        options = ["--format", "json", "--threshold", repr(middle)]
        strict = answers(run("predict", "unsure.safetensors", *images, *options))
        for row, other in zip(rows, strict, strict=True):
            assert other["label"] == (row["label"] if row["probability"] >= middle else "uncertain")
            assert (other["guess"], other["top"]) == (row["label"], row["top"])
        assert "uncertain" in {row["label"] for row in strict} != {"uncertain"}

    def test_a_class_that_is_named_so_itself_takes_no_threshold(self, run, refuses, here, model, images):
        named = xpcnn.load(model)
        named.class_names = ("uncertain", *named.class_names[1:])
        named.save(here / "named.safetensors")
        refuses("predict", "named.safetensors", *images, "--threshold", "0.9", words=["a class 'uncertain'"])
        answers(run("predict", "named.safetensors", *images, "--format", "json"))

    def test_they_are_calibrated(self, run, here, model, images):
        softer = xpcnn.load(model)
        for name, temperature in (("surer", 1.0), ("softer", 20.0)):
            softer.temperature = temperature
            softer.save(here / f"{name}.safetensors")
        sure = answers(run("predict", "surer.safetensors", *images, "--format", "json"))
        soft = answers(run("predict", "softer.safetensors", *images, "--format", "json"))
        for row, other in zip(sure, soft, strict=True):
            assert other["label"] == row["label"]
            assert other["probability"] < row["probability"]
        highest = max(row["probability"] for row in soft)
        assert highest < min(row["probability"] for row in sure)
        done = run("predict", "softer.safetensors", *images, "--format", "json", "--threshold", repr(highest + 1e-6))
        assert {row["label"] for row in answers(done)} == {"uncertain"}

    def test_with_augment_they_are_the_mean_over_flips(self, run, model, images):
        loaded = xpcnn.load(model)
        image = data.read_image(images[0], loaded.preprocessing.decoding)[None]
        row = answers(run("predict", model, images[0], "--format", "json", "--augment", "light"))[0]
        expected = loaded.predict(loaded.preprocessing.normalize(image), augment="light")[0]
        assert row["probability"] == pytest.approx(float(expected.max()), rel=1e-5)

    def test_one_output_tells_two_classes_apart(self, run, here, images):
        stack = [layers.Flatten(), layers.Dense(1, activation="sigmoid")]
        made = xpcnn.Sequential(stack, input_shape=(1, 4, 4))
        made.compile(loss="binary_cross_entropy")
        made.preprocessing = data.Preprocessing(data.Decoding(4, 4, 1), (100.0,), (50.0,))
        made.class_names = ("dark", "bright")
        made.save(here / "two.safetensors")
        for name, value in (("dark", 0), ("bright", 255)):
            save(here / f"{name}.png", np.full((4, 4), value, np.uint8))
        made.parameters["dense_1.weight"][...] = 0.05
        made.save(here / "two.safetensors")
        for row in answers(run("predict", "two.safetensors", "dark.png", "bright.png", "--format", "json")):
            assert row["label"] == row["path"].removesuffix(".png")
            assert sum(one["probability"] for one in row["top"]) == pytest.approx(1)
            assert row["probability"] > 0.5

    @pytest.mark.parametrize("threads", [1, 3])
    def test_the_number_of_threads_changes_nothing(self, run, model, images, threads):
        done = run("predict", model, *images, "--format", "json", "--threads", threads)
        assert answers(done) == answers(run("predict", model, *images, "--format", "json"))


class TestFormats:
    def test_a_table(self, run, model, images, broken):
        rows = answers(run("predict", model, *images, *broken, "--format", "json"))
        lines = run("predict", model, *images, *broken).out.splitlines()
        start = max(len(row["path"]) for row in rows) + 2
        for line, row in zip(lines, rows, strict=True):
            assert line[:start].rstrip() == row["path"]
            first, *others = (f"{one['label']} {one['probability']:.3f}" for one in row["top"]) if row["top"] else [""]
            assert line[start:] == (
                f"cannot be read: {row['error']}" if row["error"] else f"{first}  ({', '.join(others)})"
            )

    def test_one_class_in_a_table(self, run, model, images):
        (line,) = run("predict", model, images[0], "--top-k", "1").out.splitlines()
        (row,) = answers(run("predict", model, images[0], "--format", "json"))
        assert line == f"{images[0]}  {row['label']} {row['probability']:.3f}"

    def test_csv(self, run, model, images, broken):
        given = [*images, *broken]
        rows = answers(run("predict", model, *given, "--format", "json"))
        table = list(csv.DictReader(io.StringIO(run("predict", model, *given, "--format", "csv").out)))
        classes = [f"p:{name}" for name in xpcnn.load(model).class_names]
        assert list(table[0]) == ["path", "label", "probability", "top", "error", "guess", *classes]
        for line, row in zip(table, rows, strict=True):
            assert line["path"] == row["path"]
            assert line["label"] == line["guess"] == (row["label"] or "")
            assert line["error"] == (row["error"] or "")
            assert line["probability"] == (f"{row['probability']:.6f}" if row["label"] else "")
            assert line["top"] == ";".join(f"{one['label']}={one['probability']:.6f}" for one in row["top"])
            for one in row["top"]:
                assert line[f"p:{one['label']}"] == f"{one['probability']:.6f}"

    def test_json_lines(self, run, model, images, broken):
        given = [*images, *broken]
        lines = run("predict", model, *given, "--format", "jsonl").out.splitlines()
        assert [json.loads(line) for line in lines] == answers(run("predict", model, *given, "--format", "json"))


class TestUnreadable:
    def test_each_is_a_row_with_its_reason_and_the_rest_is_answered(self, run, model, images, broken):
        done = run("predict", model, *broken, images[0], "--format", "json")
        *rows, last = answers(done)
        for (path, word), row in zip(broken.items(), rows, strict=True):
            assert (row["path"], row["label"], row["probability"], row["top"]) == (path, None, None, [])
            assert word in row["error"]
        assert last["error"] is None
        assert done.err.startswith(
            "4 of 5 images could not be read, the first: 'half.jpg' (it is a JPEG that is truncated"
        )
        assert done.err.count("\n") == 1

    @pytest.mark.parametrize("form", FORMATS)
    def test_if_none_can_be_read_the_exit_is_1(self, run, model, broken, form):
        done = run("predict", model, *broken, "--format", form)
        assert done.code == 1
        for path in broken:
            assert path in done.out
        assert done.err.startswith("4 of 4 images could not be read")

    def test_strict_makes_the_exit_1_at_any(self, run, model, images, broken):
        assert run("predict", model, *images, "--strict").code == 0
        assert run("predict", model, *images, "half.jpg").code == 0
        done = run("predict", model, *images, "half.jpg", "--strict", "--format", "json")
        assert len(answers(done, code=1)) == len(images) + 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems forbid such names")
class TestOddNames:
    NAMES = ("a b.png", "ünï-細胞.png", "new\nline.png", "\r.png", "\x1b[31mred.png", "-dash.png", ",;'\".png")
    BYTES = (b"bad\xff\xfe.png", b"\x80\n.jpg")

    @pytest.fixture
    def odd(self, here, images):
        names = [*self.NAMES, *map(os.fsdecode, self.BYTES)]
        for name in names:
            shutil.copy(images[0], name)
        (here / self.NAMES[2]).write_bytes(b"no image")
        (here / names[-1]).write_bytes(b"no image")
        return [f"./{name}" for name in names]

    @pytest.mark.parametrize("form", FORMATS_OF_PROCESSES)
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_they_never_end_in_a_trace(self, process, model, odd, form, encoding):
        place = ["-o", "answers"] if form == "csv" else []  # its bytes are no text to read from a pipe
        done = process("predict", model, *odd, "--format", form, *place, PYTHONIOENCODING=encoding)
        assert done.code == 0
        assert done.err == (
            f"2 of {len(odd)} images could not be read, the first: './new\\nline.png' "
            "(its format is not one that xpcnn reads (its first bytes: 6e 6f 20 69 6d 61 67 65))\n"
        )

    def test_in_json_they_come_back_as_they_were(self, run, model, odd):
        for form, read in (
            ("json", json.loads),
            ("jsonl", lambda out: [json.loads(line) for line in out.splitlines()]),
        ):
            done = run("predict", model, *odd, "--format", form, "-o", form)
            assert done.code == 0
            with open(form, encoding="utf-8") as file:
                assert [row["path"] for row in read(file.read())] == odd

    def test_in_csv_they_come_back_as_the_bytes_they_are(self, run, model, odd):
        assert run("predict", model, *odd, "--format", "csv", "-o", "csv").code == 0
        with open("csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
            assert [row["path"] for row in csv.DictReader(file)] == odd

    def test_in_a_table_each_stays_on_its_line(self, run, model, odd):
        lines = run("predict", model, *odd).out.split("\n")
        assert len(lines) == len(odd) + 1
        assert all(line.isprintable() for line in lines)
        assert lines[7].startswith(r"./bad\udcff\udcfe.png ")


class TestOutputFile:
    @pytest.mark.parametrize("form", FORMATS)
    def test_it_holds_what_would_have_been_printed(self, run, here, model, images, form):
        printed = run("predict", model, *images, "--format", form)
        done = run("predict", model, *images, "--format", form, "--output", "answers")
        assert (done.code, done.out, done.err) == (0, "", "")
        assert (here / "answers").read_text(encoding="utf-8") == printed.out
        assert [path.name for path in here.iterdir()] == ["answers"]

    @pytest.mark.parametrize("name", ["nowhere/answers", "file/answers", "folder"])
    def test_one_that_cannot_be_written_is_refused_before_the_work(
        self, refuses, here, model, images, name, monkeypatch
    ):
        (here / "file").write_text("a file")
        (here / "folder").mkdir()
        monkeypatch.setattr(prediction, "read_images", None)
        refuses("predict", model, *images, "-o", name, words=[repr(name)])

    def test_an_earlier_one_is_replaced_whole_or_not_at_all(self, run, here, model, images, monkeypatch):
        (here / "answers").write_text("earlier")
        with monkeypatch.context() as patch:
            patch.setattr(predict, "_answer", None)
            assert run("predict", model, *images, "-o", "answers").code == 1
        assert (here / "answers").read_text() == "earlier"
        assert run("predict", model, *images, "-o", "answers").code == 0
        assert "earlier" not in (here / "answers").read_text()

    @pytest.mark.skipif(sys.platform == "win32", reason="no devices among the files")
    def test_a_device_is_written_to_and_not_replaced(self, run, model, images):
        assert run("predict", model, *images, "-o", os.devnull).code == 0
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)

    @pytest.mark.skipif(sys.platform == "win32", reason="no such names")
    @pytest.mark.parametrize("form", FORMATS_OF_PROCESSES)
    def test_a_pipe_by_name_is_written_to(self, process, model, images, form):
        named = process("predict", model, *images, "--format", form, "-o", "/dev/stdout")
        assert (named.code, named.err) == (0, "")
        assert named.out == process("predict", model, *images, "--format", form).out

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
    def test_a_link_stays_a_link(self, run, here, model, images):
        (here / "link").symlink_to("target")
        assert run("predict", model, *images, "-o", "link").code == 0
        assert (here / "link").is_symlink()
        assert (here / "target").read_text() == run("predict", model, *images).out

    @pytest.mark.parametrize("name", ["1.png", "other.JPG", "best.safetensors"])
    def test_an_image_or_a_model_is_not_written_over(self, refuses, here, model, images, name):
        (here / name).write_bytes(b"as it was")
        refuses("predict", model, "-o", name, *images, words=["-o needs the file for the predictions", name], code=2)
        assert (here / name).read_bytes() == b"as it was"


class TestModels:
    def test_what_is_no_model_is_refused(self, refuses, here, images, trained):
        refuses("predict", "nowhere", *images, words=["no model file 'nowhere'"])
        refuses("predict", trained, *images, words=["is a directory", trained / "best.safetensors"])
        refuses("predict", images[1], images[0], words=[images[1], "not a model file"])

    def test_a_model_for_arrays_is_refused(self, refuses, here, images):
        made = xpcnn.Sequential([xpcnn.layers.Flatten(), xpcnn.layers.Dense(3)], input_shape=(1, 8, 8))
        made.compile()
        made.save(here / "made.safetensors")
        refuses("predict", "made.safetensors", *images, words=["takes arrays only"])

    def test_a_truncated_one_is_refused(self, refuses, here, model, images):
        (here / "cut.safetensors").write_bytes(model.read_bytes()[:-10])
        refuses("predict", "cut.safetensors", *images, words=["'cut.safetensors'", "damaged"])


def test_a_process_of_its_own_answers_and_is_silent_otherwise(process, model, images):
    done = process("predict", model, *images, "--format", "json")
    assert (done.code, done.err) == (0, "")
    labels = [row["label"] for row in json.loads(done.out)]
    assert np.mean([path.split(os.sep)[-2] == label for path, label in zip(images, labels, strict=True)]) > 0.5
