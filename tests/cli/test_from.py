"""Training from pretrained weights: what is kept, what is trained, and the run's end, interrupted or not."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xpcnn
from tests import hub_cache
from tests.cli.conftest import fill, in_every_step
from tests.cli.test_resume import interrupted, same_run
from tests.timm_files import config
from xpcnn import hub, presets

NETWORK, SIDE = "mobilenet-v3-small", 32
HEAD = {"classifier.3.weight", "classifier.3.bias"}
#: Few steps on small images.
FEW = ["--image-size", SIDE, "--epochs", "2", "--batch-size", "8"]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A state dict of a network that distinguishes five classes, as PyTorch's users have them."""
    original = xpcnn.Sequential(presets.get(NETWORK)((3, SIDE, SIDE), 5), (3, SIDE, SIDE), "numpy", seed=3)
    save_file(original.get_weights(), tmp_path_factory.mktemp("weights") / "net.safetensors")
    return tmp_path_factory.getbasetemp() / "weights0" / "net.safetensors"


def changed(weights, model):
    """The names of the arrays that a run has changed."""
    from safetensors.numpy import load_file

    before, after = load_file(weights), xpcnn.load(model).get_weights()
    return {name for name in after if before[name].shape != after[name].shape or (before[name] != after[name]).any()}


def test_by_default_the_last_layer_alone_is_new_and_trained(run, here, photos, weights):
    done = run("train", photos, "--from", weights, *FEW, "--out", "run")
    assert done.code == 0, done.err
    assert changed(weights, "run/last.safetensors") == HEAD
    arguments = json.loads((here / "run" / "args.json").read_text())
    assert (arguments["fine_tune"], arguments["augment"]) == ("head", "none")
    model = xpcnn.load("run/best.safetensors")
    assert model.class_names == ("centre", "left", "right")
    assert model.preprocessing.decoding.height == SIDE
    assert run("predict", "run/best.safetensors", photos / "left").code == 0


@pytest.mark.parametrize("part", ["last", "all"])
def test_more_layers_are_trained_on_request_but_never_batch_normalisation(run, here, photos, weights, part):
    done = run("train", photos, "--from", weights, "--fine-tune", part, *FEW, "--out", "run")
    assert done.code == 0, done.err
    new, model = changed(weights, "run/last.safetensors"), xpcnn.load("run/last.safetensors")
    kinds = {node.layer.name: node.layer.kind() for node in model.network.nodes}
    trained = {name.rpartition(".")[0] for name in new}
    assert all(kinds[name] != "batch_norm" for name in trained)
    assert ("features.0.0" in trained) == (part == "all")
    assert {"classifier.0", "classifier.3"} <= trained


def test_freeze_keeps_the_first_layers_and_trains_the_others_as_ever(run, here, photos, weights):
    done = run("train", photos, "--from", weights, "--freeze", "2", *FEW, "--out", "run")
    assert done.code == 0, done.err
    new = changed(weights, "run/last.safetensors")
    assert not any(name.startswith(("features.0.0.", "features.0.1.")) for name in new)
    assert "features.1.block.0.1.running_mean" in new


@pytest.mark.parametrize("part", ["head", "all"])
def test_interrupted_and_resumed_it_ends_with_the_same_bits(run, here, photos, weights, part):
    options = [photos, "--from", weights, "--fine-tune", part, *FEW]
    assert run("train", *options, "--out", "whole").code == 0
    with interrupted(4):
        assert run("train", *options, "--out", "run").code == 130
    assert run("train", "--resume", "run").code == 0
    same_run(here / "run", here / "whole")


def test_images_of_several_labels_get_a_new_last_layer_of_sigmoids(run, here, photos, weights):
    images = sorted(path.relative_to(photos) for path in photos.glob("*/*.[pjb]*"))
    lines = [f"{path},{path.parent}{';odd' if number % 2 else ''}" for number, path in enumerate(images)]
    (here / "labels.csv").write_text("\n".join(["path,labels", *lines]))
    options = [photos, "--labels", "labels.csv", "--from", weights, *FEW]
    assert run("train", *options, "--out", "whole").code == 0
    assert changed(weights, "whole/last.safetensors") == HEAD
    model = xpcnn.load("whole/last.safetensors")
    assert model.class_names == ("centre", "left", "odd", "right")
    assert len(model.thresholds) == 4
    assert repr(model.layers[-1]) == "Dense(units=4, activation='sigmoid')"
    with interrupted(4):
        assert run("train", *options, "--out", "run").code == 130
    assert run("train", "--resume", "run").code == 0
    same_run(here / "run", here / "whole")


@pytest.fixture
def cache(tmp_path, monkeypatch, weights):
    """A cache of the Hugging Face hub with a repository that has those weights, without a network."""
    arrays, description = load_file(weights), config("mobilenetv3_small_100", classes=5, label_names=[*"abcde"])
    hub_cache.offline(monkeypatch, tmp_path / "hub")
    hub_cache.add_network(tmp_path / "hub", arrays, description)
    yield tmp_path / "hub"
    hub.fetch.cache_clear()


def test_a_run_from_the_hub_records_what_was_loaded_and_is_resumed_without_it(run, here, photos, cache):
    options = [photos, "--from", "hf:owner/net", "--fine-tune", "all", "--checkpoint-every", "1", *FEW]
    copied = []

    def copy(step):
        if step == 2:  # as a process that is killed leaves it, in the first epoch
            copied.append(shutil.copytree(here / "whole", here / "killed"))

    with pytest.MonkeyPatch.context() as patched:
        in_every_step(patched, copy)
        assert run("train", *options, "--out", "whole").code == 0
    assert copied
    shutil.rmtree(cache)
    hub.fetch.cache_clear()
    done = run("train", "--resume", "killed")
    assert done.code == 0, done.err
    same_run(here / "killed", here / "whole")
    for name in ("killed", "whole"):
        arguments = json.loads((here / name / "args.json").read_text())
        assert arguments["start"] == "hf:owner/net"
        assert arguments["weights"]["revision"] == hub_cache.COMMIT
        assert len(arguments["weights"]["sha256"]) == 64
    assert xpcnn.load("whole/best.safetensors").preprocessing.mean == (127.5, 63.75, 51.0)


def test_a_repository_that_is_not_there_or_misspelled_is_refused_in_one_line(refuses, here, photos, cache):
    refuses("train", photos, "--from", "hf:owner/other", words=["config.json of 'hf:owner/other' is not in the cache"])
    refuses("train", photos, "--from", "hf:resnet18.a1_in1k", words=["Did you mean hf:timm/resnet18.a1_in1k?"])


#: Twice what each of 8 views needs to be computed once, of 18 images to train on and 6 to validate with.
TURNED = ["--augment", "dihedral", "--epochs", "16", "--batch-size", "8", "--validation-fraction", "0.2"]


@pytest.mark.parametrize(
    ("which", "first"), [(["--fine-tune", "head"], "dropout_1"), (["--freeze", "6"], "batch_norm_4")]
)
def test_every_flip_and_turn_of_an_image_passes_the_frozen_layers_once(run, here, photos, model, which, first):
    done = run("train", photos, "--from", model, *which, *TURNED, "--out", "run")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "features" in line]
    assert line == f"computing features of 150 views of 24 images, once: the layers before {first!r} are frozen"
    assert json.loads((here / "run" / "args.json").read_text())["augment"] == "dihedral"
    assert run("evaluate", "run/best.safetensors", photos, "--augment", "dihedral").code == 0


def test_interrupted_and_resumed_among_views_it_ends_with_the_same_bits(run, here, photos, model):
    options = [photos, "--from", model, "--fine-tune", "head", *TURNED]
    assert run("train", *options, "--out", "whole").code == 0
    with interrupted(7):
        assert run("train", *options, "--out", "run").code == 130
    assert run("train", "--resume", "run").code == 0
    same_run(here / "run", here / "whole")


def test_a_model_of_ones_own_goes_on_with_other_classes(run, here, model):
    fill(here / "others", classes=("left", "right"), each=6)
    (here / "others" / "right").rename(here / "others" / "above")
    done = run("train", "others", "--from", model, "--epochs", "1", "--out", "run")
    assert done.code == 0
    assert "has other classes, so its last layer is replaced" in done.err
    after, before = xpcnn.load("run/last.safetensors"), xpcnn.load(model)
    assert after.class_names == ("above", "left")
    assert after.preprocessing == before.preprocessing
    np.testing.assert_allclose(
        after.get_weights()["conv2d_1.weight"], before.get_weights()["conv2d_1.weight"], atol=0.05
    )


def test_weights_of_no_known_network_are_refused_before_an_image_is_read(refuses, here, photos):
    save_file({"fc.weight": np.zeros((2, 3), np.float32)}, here / "other.safetensors")
    refuses("train", photos, "--from", "other.safetensors", words=["1 arrays, which are not those of resnet-18"])


def test_weights_lists_names_licences_and_what_is_installed(run):
    done = run("weights")
    assert done.code == 0
    assert "efficientnet-lite0  224" in done.out
    assert "Apache 2.0" in done.out
    assert "resnet-18" in done.out
    assert "--from hf:owner/name" in done.out
