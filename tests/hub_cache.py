"""Repositories of the Hugging Face hub in the cache of its library, as that lays them out; nothing reaches the hub."""

import hashlib
import json

import pytest
from safetensors.numpy import save

from xpcnn import hub

COMMIT = "5c" * 20


def add(cache, repository="owner/net", commit=COMMIT, branch="main", **contents):
    """Put files into a repository of a cache; contents: by name, where ``_`` stands for a full stop."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for place in (folder / "blobs", folder / "refs", snapshot):
        place.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / branch).write_text(commit)
    for name, content in contents.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / name.replace("_json", ".json").replace("_safetensors", ".safetensors").replace("_bin", ".bin")
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def add_network(cache, arrays, description=None, **where):
    """Put weights, with a configuration or without, into a repository."""
    described = {} if description is None else {"config_json": json.dumps(description).encode()}
    return add(cache, model_safetensors=save(arrays), **described, **where)


def offline(patch, cache):
    """Make the library look into a cache only."""
    constants = pytest.importorskip("huggingface_hub.constants")
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    hub.fetch.cache_clear()
