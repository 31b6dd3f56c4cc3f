"""Pretrained weights: found by name, read from state dicts, and put below a new last layer."""

import hashlib
import json
import re
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import xpcnn
from tests import hub_cache, timm_files
from tests.timm_files import config
from xpcnn import hub, layers, presets, pretrained
from xpcnn.data import Decoding, Preprocessing
from xpcnn.pretrained import WEIGHTS, load_pretrained
from xpcnn.program.network import Network

pytestmark = pytest.mark.filterwarnings("ignore:The images do not look normalised")

SIDE = 40
NAME = "squeezenet"  # the smallest of those that pretrained weights are known for


@pytest.fixture(scope="module")
def original():
    """A model of seven classes, as another library trained it."""
    return xpcnn.Sequential(presets.get(NAME)((3, SIDE, SIDE), 7), (3, SIDE, SIDE), "numpy", seed=5)


@pytest.fixture
def file(tmp_path, original):
    save_file(original.get_weights(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def images():
    return np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)


def test_a_state_dict_is_recognised_and_gives_the_networks_outputs(file, original):
    model = load_pretrained(file, image_size=SIDE, xp="numpy")
    np.testing.assert_array_equal(model.predict(images()), original.predict(images()))
    assert model.class_names is None
    assert model.preprocessing == Preprocessing(Decoding(SIDE, SIDE, 3), pretrained.MEAN, pretrained.STD)
    assert load_pretrained(file, 7, SIDE, "numpy").get_weights().keys() == model.get_weights().keys()


def test_other_classes_get_a_new_last_layer_drawn_by_the_seed(file, original):
    first, again, other = (load_pretrained(file, ["a", "b"], SIDE, "numpy", seed) for seed in (1, 1, 2))
    old, new = original.get_weights(), first.get_weights()
    changed = {name for name in new if not np.array_equal(new[name], old[name])}
    assert changed == {"classifier.1.weight", "classifier.1.bias"}
    assert first.class_names == ("a", "b")
    assert first.predict(images()).shape == (2, 2)
    np.testing.assert_array_equal(again.get_weights()["classifier.1.weight"], new["classifier.1.weight"])
    assert (other.get_weights()["classifier.1.weight"] != new["classifier.1.weight"]).any()


def test_as_many_classes_keep_the_last_layer(file, original):
    model = load_pretrained(file, [*"abcdefg"], SIDE, "numpy")
    np.testing.assert_array_equal(model.predict(images()), original.predict(images()))
    assert model.class_names == tuple("abcdefg")


@pytest.mark.parametrize("name", [name for name in presets.PRETRAINED if name not in ("vgg-11", "alexnet")])
def test_every_network_is_known_by_the_names_and_shapes_of_its_arrays(tmp_path, name):
    size = 64
    network = Network(presets.get(name)((3, size, size), 3), (3, size, size), np)
    save_file({key: np.array(value) for key, value in network.host_values().items()}, tmp_path / "net.safetensors")
    assert pretrained.read(tmp_path / "net.safetensors").preset == name


def test_weights_of_another_network_are_refused_with_what_does_not_fit(tmp_path, original):
    weights = original.get_weights()
    weights["features.3.squeeze.weight"] = np.zeros((17, 64, 1, 1), np.float32)
    del weights["features.0.bias"]
    save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="Closest is squeezenet, where 2 do not fit") as caught:
        load_pretrained(tmp_path / "net.safetensors")
    assert "features.0.bias: the network has (64,), the file none" in str(caught.value)
    assert "the network has (16, 64, 1, 1), the file (17, 64, 1, 1)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape"), [("classifier.1.weight", ()), ("classifier.1.weight", (7, 5, 1, 1)), ("classifier.1.more", (7,))]
)
def test_a_last_layer_of_another_form_is_refused(tmp_path, original, name, shape):
    save_file(original.get_weights() | {name: np.zeros(shape, np.float32)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=f"Closest is squeezenet, where 1 do not fit: {name}: "):
        load_pretrained(tmp_path / "net.safetensors", 3)


def test_an_image_size_that_the_network_cannot_take_is_refused(file):
    with pytest.raises(ValueError, match=r"does not fit the .* input"):
        load_pretrained(file, image_size=4)
    with pytest.raises(ValueError, match="image_size"):
        load_pretrained(file, image_size=0)


def test_a_single_name_is_not_taken_for_its_letters(file):
    with pytest.raises(ValueError, match=r"classes must be a list of names or their number\. Received: 'cat'"):
        load_pretrained(file, "cat")


def test_a_name_that_is_none_and_a_file_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'efficientnet-lite7'\. Did you mean .*efficientnet-lite"):
        load_pretrained("efficientnet-lite7")
    with pytest.raises(FileNotFoundError, match="no weights and no file"):
        load_pretrained(tmp_path / "none.pth")


@pytest.fixture
def timms(tmp_path):
    """Write the weights of one of timm's networks, with a configuration or without, and return their folder."""

    def write(architecture, description=None, **changed):
        save_file(timm_files.arrays(architecture) | changed, tmp_path / "model.safetensors")
        if description is not None:
            (tmp_path / "config.json").write_text(json.dumps(description))
        return tmp_path

    return write


@pytest.mark.parametrize("variant", ["mobilenetv3_small_100", "tf_mobilenetv3_small_100"])
def test_the_weights_of_timm_are_a_network_as_their_configuration_says(timms, variant):
    labels = ["a", "b", "c"]
    folder = timms("mobilenetv3_small_100", config(variant, label_names=labels))
    model = load_pretrained(folder, xp="numpy")
    assert model.preprocessing == Preprocessing(Decoding(64, 48, 3), (127.5, 63.75, 51.0), (51.0, 102.0, 127.5))
    assert model.class_names == tuple(labels)
    stem, norm = model.layers[:2]
    assert (stem.padding, norm.epsilon) == (("same", 1e-3) if variant.startswith("tf_") else ((1, 1), 1e-5))
    weight = timm_files.arrays("mobilenetv3_small_100")["conv_head.weight"]
    np.testing.assert_array_equal(model.get_weights()["classifier.0.weight"], weight[:, :, 0, 0])


def test_a_last_layer_with_other_labels_is_replaced(timms):
    folder = timms("mobilenetv3_small_100", config("mobilenetv3_small_100", label_names=["a", "b", "c"]))
    before = timm_files.arrays("mobilenetv3_small_100")["classifier.weight"]
    for names, kept in ((["a", "b", "c"], True), (["a", "c", "b"], False)):
        model = load_pretrained(folder, names, 32, "numpy")
        assert np.array_equal(model.get_weights()["classifier.3.weight"], before) == kept
        assert model.class_names == tuple(names)


def test_weights_whose_network_is_not_certain_need_a_configuration(timms):
    told = "mobilenetv3_small_100 and tf_mobilenetv3_small_100 of timm have both, .* Put the config.json"
    with pytest.raises(ValueError, match=told):
        load_pretrained(timms("mobilenetv3_small_100"))


def test_weights_of_a_network_without_variants_need_none(timms):
    model = load_pretrained(timms("mobilenetv2_100") / "model.safetensors", image_size=32, xp="numpy")
    assert model.preprocessing == Preprocessing(Decoding(32, 32, 3), pretrained.MEAN, pretrained.STD)
    assert model.layers[0].padding == (1, 1)


def test_a_configuration_that_does_not_fit_the_weights_is_refused(timms):
    with pytest.raises(ValueError, match="which are not those of resnet-18"):
        load_pretrained(timms("mobilenetv2_100", config("resnet18")))
    with pytest.raises(ValueError, match=r"has 3 classes, and config\.json says 4\."):
        load_pretrained(timms("mobilenetv2_100", config("mobilenetv2_100", classes=4)))
    wrong = {"blocks.0.0.bn1.weight": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="Closest is mobilenet-v2, where 1 do not fit"):
        load_pretrained(timms("mobilenetv2_100", config("mobilenetv2_100"), **wrong))


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises((ValueError, OSError), match=re.escape(str(tmp_path))):
        load_pretrained(tmp_path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the Hugging Face hub, without a network."""
    hub_cache.offline(monkeypatch, tmp_path / "hub")
    yield tmp_path / "hub"
    hub.fetch.cache_clear()


def test_weights_of_the_hub_are_those_of_their_files(cache, timms):
    arrays, description = timm_files.arrays("mobilenetv2_100"), config("mobilenetv2_100")
    snapshot = hub_cache.add_network(cache, arrays, description)
    found, expected = (
        load_pretrained(source, 3, xp="numpy") for source in ("hf:owner/net", timms("mobilenetv2_100", description))
    )
    assert found.preprocessing == expected.preprocessing
    for name, array in expected.get_weights().items():
        np.testing.assert_array_equal(found.get_weights()[name], array)
    digest = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    assert pretrained.origin("hf:owner/net") == {"revision": hub_cache.COMMIT, "sha256": digest}


def test_a_model_of_ones_own_may_be_on_the_hub(cache, tmp_path):
    own().save(tmp_path / "own.safetensors")
    hub_cache.add(cache, config_json=b"{}", model_safetensors=(tmp_path / "own.safetensors").read_bytes())
    assert load_pretrained("hf:owner/net", xp="numpy").class_names == ("a", "b", "c")


def test_damaged_files_of_the_hub_are_refused(cache):
    arrays, description = timm_files.arrays("mobilenetv2_100"), config("mobilenetv2_100")
    blob = hub_cache.add_network(cache, arrays, description) / "model.safetensors"
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors.* damaged") as caught:
        load_pretrained("hf:owner/net")
    assert "\n" not in str(caught.value)
    blob.write_bytes(whole)
    (blob.parent / "config.json").write_text(json.dumps(description)[:-1])
    with pytest.raises(ValueError, match=r"config\.json' does not describe these weights"):
        load_pretrained("hf:owner/net")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with the weights of a name, which must not be imported."""
    content = b"weights"
    known = WEIGHTS["efficientnet-lite0"]._replace(
        package="some-model", file="some.pth", sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setitem(WEIGHTS, "efficientnet-lite0", known)
    (tmp_path / "some_model" / "models").mkdir(parents=True)
    (tmp_path / "some_model" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "some_model" / "models" / "some.pth").write_bytes(content)
    about = tmp_path / "some_model-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n")
    (about / "RECORD").write_text("some_model/__init__.py,,\nsome_model/models/some.pth,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path / "some_model" / "models" / "some.pth"


def test_installed_weights_are_found_without_importing_their_package(package):
    assert pretrained.find("efficientnet-lite0") == package
    assert "some_model" not in sys.modules


def test_a_changed_file_is_refused(package):
    package.write_bytes(b"others")
    with pytest.raises(ValueError, match=r"is not the file of 'efficientnet-lite0'.*Install some-model again"):
        pretrained.find("efficientnet-lite0")


def test_what_is_not_installed_is_said_with_how_to_install_it(package):
    package.unlink()
    with pytest.raises(ValueError, match=r"'efficientnet-lite0' \(18.8 MB\) are not installed. Install them: .*pip"):
        load_pretrained("efficientnet-lite0")
    assert pretrained.installed("efficientnet-lite0") is None


def own():
    stack = [
        layers.Conv2D(4, 3, activation="relu"),
        layers.GlobalAveragePool2D(),
        layers.Dense(3, activation="softmax"),
    ]
    model = xpcnn.Sequential(stack, (3, 8, 8), "numpy")
    model.compile()
    model.class_names = ("a", "b", "c")
    model.preprocessing = Preprocessing(Decoding(8, 8, 3), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    return model


def test_a_model_of_ones_own_keeps_all_or_gets_another_last_layer_or_size(tmp_path):
    model = own()
    model.temperature = 2.0
    model.save(tmp_path / "own.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    same = load_pretrained(tmp_path / "own.safetensors", ["a", "b", "c"], xp="numpy")
    np.testing.assert_array_equal(same.predict(x), model.predict(x))
    larger = load_pretrained(tmp_path / "own.safetensors", image_size=16, xp="numpy")
    assert larger.preprocessing.decoding == Decoding(16, 16, 3)
    assert (larger.class_names, larger.temperature) == (("a", "b", "c"), 2)
    other = load_pretrained(tmp_path / "own.safetensors", ["d", "e", "f"], seed=1, xp="numpy")
    assert (other.class_names, other.temperature) == (("d", "e", "f"), 1)
    weights, before = other.get_weights(), model.get_weights()
    assert {name for name in weights if not np.array_equal(weights[name], before[name])} == {"dense_1.weight"}
    assert load_pretrained(tmp_path / "own.safetensors", 5, xp="numpy").predict(x).shape == (2, 5)


def test_one_output_for_two_classes_stays_one(tmp_path):
    stack = [layers.Flatten(), layers.Dense(1, activation="sigmoid")]
    model = xpcnn.Sequential(stack, (1, 4, 4), "numpy")
    model.class_names = ("no", "yes")
    model.save(tmp_path / "own.safetensors")
    x = np.ones((1, 1, 4, 4), np.float32)
    same = load_pretrained(tmp_path / "own.safetensors", ["no", "yes"], seed=1, xp="numpy")
    np.testing.assert_array_equal(same.predict(x), model.predict(x))
    other = load_pretrained(tmp_path / "own.safetensors", ["dark", "light"], seed=1, xp="numpy")
    assert other.predict(x).shape == (1, 1)
    assert other.predict(x) != model.predict(x)
    with pytest.raises(ValueError, match=r"by one output, so it cannot learn 3 classes\."):
        load_pretrained(tmp_path / "own.safetensors", ["a", "b", "c"], xp="numpy")


def test_a_model_of_ones_own_that_takes_one_size_only_says_so(tmp_path):
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], (3, 8, 8), "numpy")
    model.save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"arrays do not fit.*'dense_1.weight'"):
        load_pretrained(tmp_path / "own.safetensors", image_size=9, xp="numpy")
