"""Weights on the Hugging Face hub: what is in the cache is found, and what is not is said in one line."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import xpcnn
from tests.hub_cache import COMMIT, add, offline
from xpcnn import hub
from xpcnn.extras import install_line

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import errors  # noqa: E402


@pytest.fixture
def cache(tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    yield tmp_path
    hub.fetch.cache_clear()


def test_a_repository_in_the_cache_is_found_with_its_description(cache):
    snapshot = add(cache, config_json=b"{}", model_safetensors=b"weights")
    found = hub.fetch("hf:owner/net")
    assert found == snapshot / "model.safetensors"
    assert found.with_name("config.json").read_bytes() == b"{}"


def test_a_revision_is_a_branch_or_a_commit(cache):
    old = add(cache, commit="0d" * 20, branch="old", config_json=b"{}", model_safetensors=b"old weights")
    add(cache, config_json=b"{}", model_safetensors=b"weights")
    assert hub.fetch("hf:owner/net@old") == old / "model.safetensors"
    assert hub.fetch(f"hf:owner/net@{'0d' * 20}") == old / "model.safetensors"
    assert hub.fetch("hf:owner/net").parent.name == COMMIT


def test_the_weights_are_of_the_commit_of_their_description(cache, monkeypatch):
    first = add(cache, config_json=b"{}", model_safetensors=b"weights")
    download = huggingface_hub.hf_hub_download

    def download_as_the_branch_moves(repository, name, **options):
        found = download(repository, name, **options)
        add(cache, commit="0d" * 20, config_json=b"{}", model_safetensors=b"new weights")
        return found

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download_as_the_branch_moves)
    assert hub.fetch("hf:owner/net") == first / "model.safetensors"


def test_the_older_format_is_taken_where_there_is_no_other(cache):
    snapshot = add(cache, config_json=b"{}", pytorch_model_bin=b"weights")
    assert hub.fetch("hf:owner/net") == snapshot / "pytorch_model.bin"


def test_weights_without_a_description_are_taken_only_if_the_hub_has_none(cache):
    snapshot = add(cache, model_safetensors=b"weights")
    with pytest.raises(FileNotFoundError, match=r"config\.json of 'hf:owner/net' is not in the cache"):
        hub.fetch("hf:owner/net")
    place = snapshot.parents[1] / ".no_exist" / COMMIT
    place.mkdir(parents=True)
    (place / "config.json").touch()
    assert hub.fetch("hf:owner/net") == snapshot / "model.safetensors"


def test_what_is_not_in_the_cache_is_said_with_what_to_do(cache):
    told = (
        r"config\.json of 'hf:owner/net' is not in the cache, and the hub cannot be reached, or HF_HUB_OFFLINE is set\."
    )
    with pytest.raises(FileNotFoundError, match=told):
        hub.fetch("hf:owner/net")
    add(cache, config_json=b"{}")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors of 'hf:owner/net' is not in the cache"):
        hub.fetch("hf:owner/net")
    with pytest.raises(FileNotFoundError, match="is not in the cache"):
        hub.fetch("hf:owner/net@other")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("hf:resnet18.a1_in1k", "Did you mean hf:timm/resnet18.a1_in1k?"),
        ("hf:", "An example: hf:timm/resnet18.a1_in1k."),
        ("hf:a/b/c", "An example: hf:timm/resnet18.a1_in1k."),
        ("hf:a/b@", "An example: hf:timm/resnet18.a1_in1k."),
        ("hf:../net", "An example: hf:timm/resnet18.a1_in1k."),
        ("hf_hub:timm/resnet18", "Did you mean hf:timm/resnet18?"),
        ("hf-hub:timm/resnet18@old", "Did you mean hf:timm/resnet18@old?"),
        ("HF://timm/resnet18", "Did you mean hf:timm/resnet18?"),
    ],
)
def test_another_spelling_is_refused_with_the_right_one(cache, wrong, told):
    assert hub.is_meant(wrong)
    with pytest.raises(ValueError, match=r"is not hf:owner/name or hf:owner/name@revision\.") as caught:
        hub.fetch(wrong)
    assert str(caught.value).endswith(told)


def test_a_path_or_a_name_is_not_meant():
    assert not any(map(hub.is_meant, ["owner/net", "runs/hf", r"C:\net.pth", "efficientnet-lite0"]))


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (errors.RepositoryNotFoundError, FileNotFoundError, "The hub has no repository 'owner/net' that you may read"),
        (errors.RevisionNotFoundError, FileNotFoundError, "'hf:owner/net' has no such revision"),
        (errors.GatedRepoError, PermissionError, "'hf:owner/net' is only for those who have accepted its terms"),
        (errors.RemoteEntryNotFoundError, FileNotFoundError, r"'hf:owner/net' has no model\.safetensors or pytorch_m"),
        (errors.HfHubHTTPError, OSError, r"config\.json of 'hf:owner/net' cannot be fetched \(HfHubHTTPError: first\)"),
    ],
)
def test_what_the_hub_answers_is_said_in_one_line(cache, monkeypatch, error, raised, told):
    def answer(*arguments, **options):
        raise error("first\nsecond", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    with pytest.raises(raised, match=told) as caught:
        hub.fetch("hf:owner/net")
    assert "\n" not in str(caught.value)


def test_any_other_error_of_the_library_is_said_in_one_line(cache, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("a cable\nis loose")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(OSError, match=r"config\.json of 'hf:owner/net' cannot be fetched \(RuntimeError: a cable\)\.$"):
        hub.fetch("hf:owner/net")


def test_without_the_library_its_extra_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"'hf:owner/net' needs huggingface_hub \(.*\)\. Run `") as caught:
        hub.fetch("hf:owner/net")
    assert str(caught.value).endswith(f"Run `{install_line('hub')}`.")


def test_the_library_finds_its_cache_by_its_own_variables_and_is_imported_only_then(tmp_path):
    snapshot = add(tmp_path / "hub", config_json=b"{}", model_safetensors=b"weights")
    environment = {
        **os.environ, "PYTHONPATH": str(Path(xpcnn.__file__).parents[1]), "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    environment.pop("HF_HUB_CACHE", None)
    code = (
        "import sys; from xpcnn import hub, pretrained\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "print(hub.fetch('hf:owner/net'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(snapshot / "model.safetensors")
