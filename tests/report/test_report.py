"""What the report shows: during a run, after an interruption, and at its end."""

import html
import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import fill, rows
from tests.report.conftest import HOSTILE
from xpcnn import report
from xpcnn.cli import main
from xpcnn.training.callbacks import StopOnNaN

SECTIONS = [
    "Learning curves", "Calibration", "Classes", "Mistakes", "Where it looked", "Filters", "Images", "Settings"
]  # fmt: skip
#: Those that need no predictions.
WITHOUT_PREDICTIONS = ["Learning curves", "Images", "Settings"]


def headings(run):
    return re.findall(r"<h2>(.*?)</h2>", (run / "report.html").read_text(encoding="utf-8"))


def words(run):
    """The text of a report, without its markup."""
    body = (run / "report.html").read_text(encoding="utf-8").partition("<body>")[2]
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", body))).replace("\xa0", " ")


class TestAtTheEnd:
    def test_it_has_every_section(self, digits):
        assert headings(digits) == SECTIONS

    def test_its_contents_lead_to_every_section(self, digits):
        page = (digits / "report.html").read_text(encoding="utf-8")
        (contents,) = re.findall('<nav aria-label="Contents">(.*?)</nav>', page)
        links = re.findall('<a href="#(.*?)">(.*?)</a>', contents)
        assert [title for _, title in links] == SECTIONS
        assert [anchor for anchor, _ in links] == re.findall('<section id="(.*?)">', page)

    def test_it_says_what_was_trained_on_what(self, digits):
        text = words(digits)
        assert "Report of run Finished after 3 epochs. digits : 1,295 training images, 143 to choose" in text
        assert "batch size 64" in text
        assert "python" in text

    def test_its_accuracy_is_that_of_the_run(self, digits):
        accuracy = json.loads((digits / "metrics.json").read_text())["test"]["accuracy"]
        text = words(digits)
        assert f"{100 * accuracy:.1f} % test accuracy" in text
        assert f"{round(accuracy * 359)} of 359 images of the test part are right" in text

    def test_it_names_the_command_that_makes_the_run_again(self, digits, tmp_path, monkeypatch):
        command = re.search(r"xpcnn train digits( --\S+)+", words(digits))[0]
        monkeypatch.chdir(tmp_path)
        assert main([*command.split()[1:], "--out", "again"]) == 0
        again = (tmp_path / "again" / "best.safetensors").read_bytes()
        assert again == (digits / "best.safetensors").read_bytes()

    def test_one_file_says_it_all(self, digits):
        page = (digits / "report.html").read_text(encoding="utf-8")
        assert page.endswith("</html>\n")
        assert set(re.findall(r'(?:src|href)="([^:"]*:)', page)) == {"data:"}
        assert not re.search(r"url\(|@import|<script|<link|\son\w+=", page)

    def test_every_picture_says_what_it_shows(self, digits):
        page = (digits / "report.html").read_text(encoding="utf-8")
        pictures = re.findall("<img[^>]*>", page)
        assert len(pictures) > 60
        assert all(re.search('alt="[^"]+"', picture) for picture in pictures)

    def test_of_a_mistake_it_shows_what_speaks_for_either_class(self, digits):
        section = (digits / "report.html").read_text(encoding="utf-8").partition('<section id="where-it-looked">')[2]
        cards = re.findall('<div class="maps">(.*?)</div>(.*?)</li>', section.partition("</section>")[0])
        assert len(cards) == 6
        for pictures, text in cards:
            assert pictures.count("<img") == (3 if "predicted as" in text else 2)

    def test_names_are_text(self, hostile):
        page = (hostile / "report.html").read_text(encoding="utf-8")
        assert "<script" not in page
        assert "<img src=x" not in page
        assert "<i>half" not in page
        text = words(hostile)
        assert HOSTILE[0] in text
        assert r"🦠 e\u202ex\n" in text
        assert HOSTILE[4] not in text
        assert f'title="{HOSTILE[4]}"' in page

    def test_files_that_were_skipped_are_listed_with_the_reason(self, hostile):
        text = words(hostile)
        assert "1 file that could not be read" in text
        assert "truncated" in text


class TestWhileItRuns:
    @pytest.fixture
    def seen(self, tmp_path, monkeypatch):
        """What stood in the report after each epoch of a run of two."""
        texts = []
        write = report.Report.on_epoch_end

        def note(callback, fit):
            write(callback, fit)
            texts.append(words(tmp_path / "run"))
            assert headings(tmp_path / "run") == WITHOUT_PREDICTIONS

        monkeypatch.setattr(report.Report, "on_epoch_end", note)
        monkeypatch.setattr(report, "SHARE_OF_TIME", 1e9)
        assert main(["train", "--epochs", "2", "--out", str(tmp_path / "run")]) == 0
        return texts

    def test_it_says_which_epoch_is_done_and_how_a_run_goes_on(self, seen, tmp_path):
        assert [re.search(r"epoch \d of \d is done", text)[0] for text in seen] == [
            "epoch 1 of 2 is done", "epoch 2 of 2 is done"
        ]  # fmt: skip
        assert f"xpcnn train --resume {tmp_path / 'run'}" in seen[0]

    def test_writing_takes_little_of_the_time(self, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr(report.Report, "_write", lambda self, state, *_: written.append(state))
        ticks = iter(np.arange(0, 1e6, 10.0).tolist())  # writing takes 10 s, and so long there is nothing for 333 s
        clock = SimpleNamespace(monotonic=lambda: next(ticks))
        monkeypatch.setattr(report, "time", clock)
        assert main(["train", "--model", "tiny", "--epochs", "30", "--out", str(tmp_path / "run")]) == 0
        assert written == ["running", "finished"]


class TestBrokenOff:
    def test_it_says_how_the_run_goes_on_and_leaves_the_test_part_alone(self, copy):
        (copy / "metrics.json").unlink()
        assert main(["report", str(copy)]) == 0
        assert f"Interrupted after epoch 3. This resumes it: xpcnn train --resume {copy}" in words(copy)
        assert headings(copy) == WITHOUT_PREDICTIONS

    def test_an_interrupted_run_says_so_at_once(self, tmp_path, monkeypatch):
        def interrupt(callback, fit):
            if fit.epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(StopOnNaN, "on_epoch_begin", interrupt)
        assert main(["train", "--model", "tiny", "--epochs", "3", "--out", str(tmp_path / "run")]) == 130
        assert "Interrupted after epoch 1" in words(tmp_path / "run")
        monkeypatch.undo()
        assert main(["train", "--resume", str(tmp_path / "run")]) == 0
        assert "Finished after 3 epochs" in words(tmp_path / "run")


class TestOtherRuns:
    def test_without_pictures(self, tmp_path):
        assert main(["train", "--model", "tiny", "--epochs", "1", "--no-plots", "--out", str(tmp_path / "run")]) == 0
        assert "<img" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert headings(tmp_path / "run") == [*SECTIONS[:3], *SECTIONS[6:]]

    def test_without_a_test_part_it_is_the_validation_part_that_is_shown(self, tmp_path):
        options = ["--epochs", "1", "--test-fraction", "0", "--out", str(tmp_path / "run")]
        assert main(["train", "--model", "tiny", *options]) == 0
        assert "The test part has no images" in words(tmp_path / "run")
        assert headings(tmp_path / "run") == SECTIONS

    def test_without_any_part_kept_aside(self, tmp_path):
        options = ["--test-fraction", "0", "--validation-fraction", "0", "--out", str(tmp_path / "run")]
        assert main(["train", "--model", "tiny", "--epochs", "1", *options]) == 0
        assert "No images were held out" in words(tmp_path / "run")
        assert headings(tmp_path / "run") == ["Learning curves", "Predictions", "Filters", "Images", "Settings"]

    def test_its_calibration_is_that_of_the_run(self, copy):
        metrics = json.loads((copy / "metrics.json").read_text())
        assert f"temperature {metrics['temperature']:g}" in words(copy)
        metrics["test"]["calibration_error"] = 0.0432
        (copy / "metrics.json").write_text(json.dumps(metrics))
        assert main(["report", str(copy)]) == 0
        assert "calibration error 4.3 %" in words(copy)

    def test_a_model_whose_answers_are_not_finite(self, copy, capfd):
        model = xpcnn.load(copy / "best.safetensors")
        model.set_weights({name: np.full_like(value, 3e38) for name, value in model.get_weights().items()})
        model.save(copy / "best.safetensors")
        capfd.readouterr()
        assert main(["report", str(copy)]) == 0
        assert capfd.readouterr().err == ""
        assert "NaN or infinite" in words(copy)

    def test_figures_that_are_none_are_left_out(self, copy):
        metrics = {"test": {"accuracy": "<b>", "calibration_error": [1]}, "validation": 7}
        (copy / "metrics.json").write_text(json.dumps(metrics))
        assert main(["report", str(copy)]) == 0
        assert headings(copy) == SECTIONS
        assert "test accuracy" not in words(copy)


class TestImages:
    @pytest.fixture
    def run(self, tmp_path):
        fill(tmp_path / "photos", each=6)
        options = ["--epochs", "1", "--image-size", "16", "--out", str(tmp_path / "run")]
        assert main(["train", str(tmp_path / "photos"), *options]) == 0
        return tmp_path / "run"

    def test_what_is_written_anew_is_what_was_written(self, run):
        before = words(run)
        assert main(["report", str(run)]) == 0
        assert words(run).partition("this report")[0] == before.partition("this report")[0]

    def test_that_are_gone_leave_a_report_that_says_so(self, run, tmp_path):
        shutil.rmtree(tmp_path / "photos")
        assert main(["report", str(run)]) == 0
        assert "The images are no longer in their place" in words(run)
        assert headings(run) == ["Advice", "Learning curves", "Predictions", "Images", "Settings"]

    def test_of_which_some_are_gone(self, run):
        (image,) = [row["image"] for row in rows(run / "parts.csv") if row["part"] == "test"][:1]
        (run / image).unlink()
        assert main(["report", str(run)]) == 0
        assert "1 image of the run could not be read again" in words(run)
        assert "of 2 images of the test part" in words(run)
