"""The command that installs an extra fits how xpcnn was installed."""

import importlib.metadata
import json
import os
import sys
from types import SimpleNamespace

import pytest

from xpcnn import extras


@pytest.fixture(autouse=True)
def prefix(tmp_path, monkeypatch):
    """An environment of plain pip, to begin with."""
    folder = tmp_path / "environment"
    folder.mkdir()
    monkeypatch.setattr(sys, "prefix", str(folder))
    return folder


@pytest.fixture
def installed(monkeypatch):
    """A function that installs xpcnn from what direct_url.json says, or from the index."""

    def install(origin=None):
        requires = ["numpy>=2.0", 'onnx>=1.16; extra == "onnx"', "mpi4py>=4.0; extra == 'mpi'"]
        text = None if origin is None else json.dumps(origin)
        distribution = SimpleNamespace(read_text={"direct_url.json": text}.get, requires=requires)
        monkeypatch.setattr(extras, "distribution", {"xpcnn": distribution}.__getitem__)

    return install


def test_what_an_index_gave_has_a_name(installed):
    installed()
    assert extras.install_line("onnx") == 'pip install "xpcnn[onnx]"'


def test_a_wheel_is_named_by_its_address_while_it_is_there(installed, tmp_path):
    """No index need have it."""
    wheel = tmp_path / "xpcnn-0.2.0-py3-none-any.whl"
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert extras.install_line("onnx") == f'pip install "xpcnn[onnx] @ {wheel.as_uri()}"'
    wheel.unlink()
    assert extras.install_line("onnx") == 'pip install "onnx>=1.16"'


@pytest.mark.parametrize(("editable", "option"), [(False, ""), (True, "-e ")])
def test_a_clone_is_named_by_its_directory_while_it_is_there(installed, tmp_path, editable, option):
    clone = tmp_path / "my clone"
    clone.mkdir()
    installed({"url": clone.as_uri(), "dir_info": {"editable": editable}})
    assert extras.install_line("onnx") == f'pip install {option}"{clone}[onnx]"'
    clone.rmdir()
    assert extras.install_line("onnx") == 'pip install "onnx>=1.16"'


@pytest.mark.skipif(os.name != "posix", reason="there are other shells")
def test_a_directory_with_a_dollar_is_quoted_for_the_shell(installed, tmp_path):
    (tmp_path / "$HOME").mkdir()
    installed({"url": (tmp_path / "$HOME").as_uri(), "dir_info": {}})
    assert extras.install_line("onnx") == f"pip install '{tmp_path}/$HOME[onnx]'"


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ({"url": "https://example.org/xpcnn.zip", "archive_info": {}}, "https://example.org/xpcnn.zip"),
        ({"url": "https://me:secret@example.org/x.zip?token=secret", "archive_info": {}}, "https://example.org/x.zip"),
        (
            {"url": "https://secret@example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://example.org/x.git@abc",
        ),
        (
            {"url": "ssh://git@example.org/x.git", "vcs_info": {"vcs": "git", "requested_revision": "v1"}},
            "git+ssh://git@example.org/x.git@v1",
        ),
    ],
)
def test_an_address_is_named_without_user_and_password(installed, origin, address):
    installed(origin)
    assert extras.install_line("onnx") == f'pip install "xpcnn[onnx] @ {address}"'


def test_pipx_and_uv_have_commands_of_their_own(installed, prefix):
    installed()
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.9.1\n")
    assert extras.install_line("onnx") == 'uv pip install "xpcnn[onnx]"'
    (prefix / "uv-receipt.toml").touch()
    assert extras.install_line("onnx") == 'uv tool install "xpcnn[onnx]"'
    (prefix / "pipx_metadata.json").touch()
    assert extras.install_line("mpi") == 'pipx inject xpcnn "mpi4py>=4.0"'


def test_a_source_tree_that_is_not_installed_names_the_packages(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    (tmp_path / "xpcnn").mkdir()
    monkeypatch.setattr(extras, "distribution", missing)
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "xpcnn" / "extras.py"))
    assert extras.install_line("onnx") == 'pip install "xpcnn[onnx]"'
    (tmp_path / "pyproject.toml").write_text('[project.optional-dependencies]\nonnx = ["onnx>=1.16"]\n')
    assert extras.install_line("onnx") == 'pip install "onnx>=1.16"'
