"""``xpcnn report``, and ``xpcnn train --open``: the page of a run, rewritten or shown."""

import os
import shutil
import webbrowser

import pytest

from tests.cli.conftest import FILES, names


@pytest.fixture
def finished(here, trained):
    """A copy of a run, in the directory ``run``."""
    return shutil.copytree(trained, here / "run")


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser was asked to open."""
    addresses = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


class TestReport:
    def test_it_prints_where_the_page_is(self, run, finished):
        (finished / "report.html").unlink()
        done = run("report", "run")
        assert (done.code, done.err) == (0, "")
        assert done.out == os.path.join("run", "report.html") + "\n"
        assert names(finished) == FILES

    def test_it_needs_the_run_of_an_epoch(self, run, finished, refuses):
        (finished / "history.csv").unlink()
        refuses("report", "run", words=["has not completed an epoch", "xpcnn train --resume run"])

    def test_it_needs_a_run(self, refuses, here):
        refuses("report", "nothing", words=["'nothing' is not a run's directory"])
        (here / "empty").mkdir()
        refuses("report", "empty", words=["'empty' does not contain a run"])

    @pytest.mark.parametrize("name", ["args.json", "history.csv", "metrics.json", "parts.csv", "best.safetensors"])
    def test_it_names_a_damaged_file(self, refuses, finished, name):
        (finished / name).write_bytes(b"\0\xff{")
        refuses("report", "run", words=[name])

    def test_a_run_without_a_model_yet(self, refuses, finished):
        for name in ("best.safetensors", "last.safetensors"):
            (finished / name).unlink()
        refuses("report", "run", words=["There is no model file"])

    @pytest.mark.parametrize("content", [None, "image,class,part\n"], ids=["gone", "empty"])
    def test_a_run_of_bundled_images_whose_list_is_lost(self, run, here, content):
        assert run("train", "--epochs", "1", "--out", "run").code == 0
        (here / "run" / "parts.csv").unlink()
        if content is not None:
            (here / "run" / "parts.csv").write_text(content)
        done = run("report", "run")
        assert (done.code, done.err) == (0, "")
        assert "The images are no longer in their place" in (here / "run" / "report.html").read_text(encoding="utf-8")

    def test_one_that_another_process_writes_into(self, refuses, finished):
        fcntl = pytest.importorskip("fcntl")
        descriptor = os.open(finished, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        refuses("report", "run", words=["Another process is writing to the run's directory 'run'"])
        os.close(descriptor)


class TestOpen:
    def test_the_page_is_shown_at_the_end(self, run, here, opened):
        assert run("train", "--epochs", "1", "--out", "run", "--open").code == 0
        assert opened == [(here / "run" / "report.html").as_uri()]

    def test_also_of_a_run_that_is_resumed(self, run, finished, opened):
        assert run("train", "--resume", "run", "--open").code == 0
        assert opened == [(finished / "report.html").as_uri()]

    def test_that_it_is_to_be_shown_is_no_argument_of_the_run(self, run, here, opened):
        assert run("train", "--epochs", "1", "--out", "run", "--open").code == 0
        assert '"open"' not in (here / "run" / "args.json").read_text()

    def test_without_a_browser_one_line_says_where_it_is(self, run, monkeypatch):
        monkeypatch.setattr(webbrowser, "open", lambda address: False)
        done = run("train", "--epochs", "1", "--out", "run", "--open")
        assert done.code == 0
        path = os.path.join("run", "report.html")
        assert done.err == f"xpcnn train: no browser could be opened; the report is {path}\n"
