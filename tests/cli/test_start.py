"""Starting the command: help, version, wrong usage, and how errors are reported."""

import re
import shlex
import subprocess
import sys
import threading

import pytest

from tests.cli.conftest import from_here
from xpcnn import cli

COMMANDS = ["train", "evaluate", "predict", "report", "compare", "info", "weights"]


class TestHelp:
    def test_it_answers_without_numpy(self):
        code = (
            "import sys\n"
            "from xpcnn.cli import main\n"
            "try:\n"
            "    main(['--help'])\n"
            "finally:\n"
            "    print(sorted({'numpy', 'cv2', 'cupy', 'tqdm', 'safetensors'} & set(sys.modules)))\n"
        )
        _, environment = from_here([])
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("usage: xpcnn")
        assert done.stdout.endswith("[]\n")

    def test_it_names_every_command_and_what_to_type(self, run):
        done = run("--help")
        assert done.code == 0
        for command in COMMANDS:
            assert f"\n    {command} " in done.out
        assert "xpcnn train photos" in done.out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_its_own(self, run, command):
        done = run(command, "--help")
        assert done.code == 0
        assert done.out.startswith(f"usage: xpcnn {command}")

    def test_an_output_that_knows_ascii_only_gets_escapes(self, process):
        done = process("train", "--help", PYTHONIOENCODING="ascii", COLUMNS="200")
        assert (done.code, done.err) == (0, "")
        assert r"runs/train-2, \u2026" in done.out

    def test_the_version_stands_alone(self, run):
        done = run("--version")
        assert (done.code, done.err) == (0, "")
        assert done.out.split()[0] == "xpcnn"
        assert done.out.split()[1][0].isdigit()


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "received"),
        [
            (["trian"], "'trian'"),
            (["train", "--epochs", "0"], "'0'"),
            (["train", "--epochs", "1.5"], "an integer from 1 on, received '1.5'"),
            (["train", "--epochs", "-3"], "--epochs"),
            (["train", "--lr", "nan"], "'nan'"),
            (["train", "--lr", "0"], "'0'"),
            (["train", "--lr", "fast"], "'fast'"),
            (["train", "--test-fraction", "1"], "'1'"),
            (["train", "--validation-fraction", "half"], "'half'"),
            (["train", "--seed", "x"], "'x'"),
            (["train", "--model", "large"], "'large'"),
            (["train", "--augment", "heavy"], "'heavy'"),
            (["train", "--backend", "torch"], "'torch'"),
            (["train", "--gray", "--color"], "--color"),
            (["train", "--model", "blood", "--from", "m"], "--from"),
            (["train", "--from", "m", "--gray"], "--from"),
            (["train", "--fine-tune", "all"], "--from"),
            (["train", "--from", "m", "--fine-tune", "most"], "'most'"),
            (["train", "--from", "m", "--fine-tune", "all", "--freeze", "1"], "--fine-tune"),
            (["train", "--epoch", "3"], "--epoch"),
            (["train", "a", "b"], "b"),
            (["predict", "image.jpg"], "IMAGE"),
            (["predict", "m", "i", "--format", "xml"], "'xml'"),
            (["predict", "m", "i", "--top-k", "0"], "'0'"),
            (["predict", "m", "i", "--threshold", "2"], "'2'"),
            (["evaluate", "m"], "DATA"),
            (["info", "--format", "json"], "--format"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage_exits_with_2_and_names_what_was_received(self, run, here, arguments, received):
        done = run(*arguments)
        assert done.code == 2
        assert done.out == ""
        assert received in done.err
        assert done.err.count("\n") == 1
        assert re.match(r"xpcnn( \w+)?: error: ", done.err)
        assert re.search(r"[.?] See xpcnn( \w+)? --help\n$", done.err)
        assert not list(here.iterdir())

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            (["trian"], "train"),
            (["train", "--epoch", "3"], "--epochs"),
            (["train", "--batchsize=8"], "--batch-size"),
            (["train", "--batch_size", "8"], "--batch-size"),
            (["train", "--learning-rate", "0.1"], "--lr"),
            (["train", "digits", "--epoch", "3", "--batchsize", "8"], "--epochs, --batch-size"),
            (["train", "--augment", "microscope"], "microscopy"),
            (["train", "--model", "smal"], "small"),
            (["train", "--backend", "gpu"], "cupy"),
            (["predict", "m", "i", "--formt", "csv"], "--format"),
            (["--verson"], "--version"),
        ],
        ids=" ".join,
    )
    def test_what_was_probably_meant_is_told(self, run, arguments, meant):
        done = run(*arguments)
        assert done.code == 2
        assert f"; did you mean {meant}? See xpcnn" in done.err

    def test_nothing_is_guessed_where_nothing_is_near(self, run):
        done = run("train", "--quantum")
        assert done.err == "xpcnn train: error: unrecognized arguments: --quantum. See xpcnn train --help\n"

    def test_what_was_typed_cannot_break_the_line(self, run):
        assert run("tra\nin\x1b[31m").err.count("\n") == run("info", "--a\nb").err.count("\n") == 1

    def test_without_a_command_the_help_is_shown(self, run):
        done = run()
        assert (done.code, done.out) == (2, "")
        assert done.err == run("--help").out


class TestErrors:
    def test_an_error_is_one_line_and_with_debug_a_trace(self, run, process):
        short, long = run("info", "nowhere"), process("info", "nowhere", "--debug")
        assert (short.code, long.code) == (1, 1)
        assert short.err.splitlines() == [
            "xpcnn info: There is no model file 'nowhere'. "
            "Give one that xpcnn wrote, such as runs/train/best.safetensors."
        ]
        assert long.err.startswith("Traceback")
        assert "FileNotFoundError: There is no model file 'nowhere'." in long.err

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (ValueError("two\nlines and \x1b[31mred"), r"two lines and \x1b[31mred"),
            (ImportError("OpenCV is missing"), "OpenCV is missing"),
            (FloatingPointError("not finite"), "not finite"),
            (PermissionError(13, "Permission denied", "a file"), "Permission denied: 'a file'"),
            (OSError(28, "No space left on device"), "No space left on device"),
            (OSError("refused"), "refused"),
            (MemoryError("4 GiB"), "out of memory (4 GiB). Use smaller images or batches."),
            (MemoryError(), "out of memory (no details). Use smaller images or batches."),
            (KeyError("x"), "unexpected KeyError: 'x'. Use --debug to see where."),
            (AssertionError(), "unexpected AssertionError: . Use --debug to see where."),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_every_kind_of_error_is_told_in_one_line(self, run, monkeypatch, error, told):
        def fail(options):
            raise error

        monkeypatch.setattr(cli.info, "run", fail)
        done = run("info")
        assert (done.code, done.out) == (1, "")
        assert done.err == f"xpcnn info: {told}\n"


class TestOutput:
    @pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
    def test_a_reader_that_goes_away_ends_the_command_without_complaint(self, here, model, photos):
        line, environment = from_here(["predict", model, *sorted(photos.glob("*/*.png"))])
        with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            child.stdout.close()
            complaint = child.stderr.read()
        assert (child.returncode, complaint) == (1, b"")

    @pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
    def test_a_full_disk_is_told(self, here, model, photos):
        line, environment = from_here(["predict", model, *photos.glob("*/*.png")])
        with open("/dev/full", "wb") as full:
            done = subprocess.run(line, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == "xpcnn predict: No space left on device\n"

    def test_a_command_runs_in_any_thread(self, run, model):
        codes = []
        thread = threading.Thread(target=lambda: codes.append(run("info", model).code))
        thread.start()
        thread.join()
        assert codes == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes the stream")
def test_a_command_runs_without_a_stderr(here):
    line, environment = from_here(["train", "digits", "--epochs", "1"])
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(map(str, line))} 2>&-"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy" in done.stdout
