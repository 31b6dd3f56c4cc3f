"""What was requested, and the time and the environment that it took."""

from tests.report.test_sections import a_run
from xpcnn.report import settings
from xpcnn.report.run import Epochs


def test_what_was_asked_for_is_told_without_what_stands_elsewhere():
    section = settings.settings_section(a_run(lr=0.1, model=None, copies="1.2.3"), Epochs(), ["train", "a b"], "")
    assert "0.1" in section
    assert "model" not in section
    assert "1.2.3" not in section
    assert "<span>&#x27;a b&#x27;</span>" in section


def test_speed_is_that_of_the_median_epoch_and_an_odd_environment_is_left_out():
    run = a_run({("cat", "train"): 50}, environment="none")
    section = settings.settings_section(run, Epochs({"loss": [1.0] * 3, "seconds": [2.0, 100.0, 1.0]}), [], "")
    assert "2 s (median)" in section
    assert "25 training images per second" in section
    assert "1 min 43 s" in section
