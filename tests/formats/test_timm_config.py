"""The configuration beside timm's weights: read, or refused in one line that says what is wrong with it."""

import json

import pytest

from tests.timm_files import config
from xpcnn.formats import timm_config
from xpcnn.formats.timm_config import Config, read_beside


@pytest.fixture
def beside(tmp_path):
    """Read a configuration, given as a value or a text."""

    def read(value):
        text = value if isinstance(value, str) else json.dumps(value)
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        return read_beside(tmp_path / "model.safetensors")

    return read


def test_it_says_the_architecture_the_images_and_the_classes(beside):
    expected = Config("resnet18", (64, 48), (127.5, 63.75, 51.0), (51.0, 102.0, 127.5), 3)
    assert beside(config("resnet18")) == expected
    assert beside(config("resnet18", label_names=["a", "b", "c"])) == expected._replace(labels=("a", "b", "c"))
    assert beside(config("resnet18", label_names={"0": "a"})) == expected


def test_that_of_an_older_version_has_all_in_one_object(beside):
    fields = config("resnet18")
    assert beside({"architecture": "resnet18", **fields["pretrained_cfg"]}) == beside(fields)


def test_none_and_that_of_another_library_are_passed_over(beside, tmp_path):
    assert read_beside(tmp_path / "model.safetensors") is None
    assert beside({"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}) is None


def test_arguments_that_change_nothing_are_taken(beside):
    arguments = {"num_classes": 3, "in_chans": 3, "global_pool": "avg", "act_layer": None}
    assert beside(config("resnet18", model_args=arguments, global_pool="avg")) == beside(config("resnet18"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{", "does not describe these weights"),
        ("\N{SNOWMAN}", "does not describe these weights"),
        ("[" * 100_000, "does not describe these weights"),
        ("[1, 2]", r"it must be an object\. Received: \[1, 2\]"),
        ({"architecture": "resnet18", "pretrained_cfg": 3}, r"pretrained_cfg must be an object\. Received: 3"),
        ({"pretrained_cfg": {}}, "xpcnn does not have the architecture null"),
        (config("resnetblur18"), r'the architecture "resnetblur18"\. Did you mean resnet18\? It has resnet18, '),
        (config(["resnet18"]), r'the architecture \["resnet18"\]'),
        (config("resnet18", model_args=[1]), "model_args must be an object"),
        (config("resnet18", model_args={"act_layer": "silu"}), 'the architecture with act_layer = "silu"'),
        (config("resnet18", model_args={"global_pool": "max"}), 'the architecture with global_pool = "max"'),
        (config("resnet18", global_pool="catavgmax"), 'the architecture with global_pool = "catavgmax"'),
        (config("resnet18", classes=0), r"num_classes must be one number from 1 on\. Received: \[0, 0\]"),
        (config("resnet18", classes=True), "num_classes must be one number"),
        (config("resnet18", num_classes=4), r"num_classes must be one number from 1 on\. Received: \[3, 4\]"),
        (config("resnet18", mean=0.5), r"mean must be three numbers from 0 to 1\. Received: 0\.5"),
        (config("resnet18", mean=[123.675, 116.28, 103.53]), "mean must be three numbers from 0 to 1"),
        (config("resnet18", mean=["0", "0", "0"]), "mean must be three numbers from 0 to 1"),
        (config("resnet18", std=[0.2, 0.2]), "std must be three numbers from 0 to 1"),
        (config("resnet18", std=[0, 0.2, 0.2]), r"std must be positive\. Received: \[0, 0\.2, 0\.2\]"),
        (config("resnet18", std=[float("nan")] * 3), "std must be three numbers from 0 to 1"),
        (config("resnet18", input_size=[224, 224]), r"input_size must be \[3, height, width\]"),
        (config("resnet18", input_size=[1, 224, 224]), r"input_size must be \[3, height, width\]"),
        (config("resnet18", input_size=[3, 224.0, 224]), r"input_size must be \[3, height, width\]"),
        (config("resnet18", input_size=None), r"input_size must be .* Received: null"),
        (config("resnet18", label_names=["a", "b"]), r'label_names must be 3 different texts\. Received: \["a", "b"\]'),
        (config("resnet18", label_names=["a", "b", "a"]), "label_names must be 3 different texts"),
        (config("resnet18", label_names=[1, 2, 3]), "label_names must be 3 different texts"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(beside, wrong, told):
    with pytest.raises(ValueError, match=told) as caught:
        beside(wrong)
    assert "config.json' does not describe these weights" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_that_is_too_large_is_not_read(beside, monkeypatch):
    monkeypatch.setattr(timm_config, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="it is larger than 100 bytes"):
        beside(config("resnet18"))
