"""What the wheel and the source archive contain: ``nox -s wheel`` builds them and names their folder in XPCNN_DIST."""

import email
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIST = os.environ.get("XPCNN_DIST")
#: Of the package, everything but Python's sources.
BESIDE_PYTHON = {".cu", ".cuh", ".js", ".css", ".html", ".npz", ".txt", ".typed"}

pytestmark = pytest.mark.skipif(DIST is None, reason="XPCNN_DIST names no folder with the archives")


def only(pattern):
    (path,) = Path(DIST).glob(pattern)
    return path


def on_disk(folder):
    """Return the files of a folder of the checkout, without caches."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel():
    """The files of the wheel: {name: content}."""
    with zipfile.ZipFile(only("*.whl")) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def source():
    """The names of the source archive's files, within its one folder."""
    with tarfile.open(only("*.tar.gz")) as archive:
        names = [member.name.partition("/") for member in archive if member.isfile()]
    assert {folder for folder, _, _ in names} == {only("*.tar.gz").name.removesuffix(".tar.gz")}
    return {name for _, _, name in names}


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel[name])


def test_the_wheel_is_the_package_and_its_metadata_alone(wheel):
    inside = {name for name in wheel if ".dist-info/" not in name}
    assert inside == on_disk("xpcnn")
    assert {Path(name).suffix for name in inside} == {".py", *BESIDE_PYTHON}


def test_the_wheel_has_types_and_licences(wheel, metadata):
    assert "xpcnn/py.typed" in wheel
    folder = f"xpcnn-{metadata['Version']}.dist-info/licenses"
    for name in ("LICENSE", "xpcnn/data/digits.LICENSE.txt"):
        assert wheel[f"{folder}/{name}"] == (ROOT / name).read_bytes()
    assert metadata.get_all("License-File") == ["LICENSE", "xpcnn/data/digits.LICENSE.txt"]


def test_the_source_archive_has_what_tests_and_pages_need_and_nothing_else(source):
    assert {name.partition("/")[0] for name in source} == {
        ".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md", "benchmarks",
        "docs", "examples", "noxfile.py", "pyproject.toml", "tests", "xpcnn",
    }  # fmt: skip
    for folder in ("xpcnn", "tests", "examples"):
        assert {name for name in source if name.startswith(f"{folder}/")} == on_disk(folder)
    assert [name for name in source if "__pycache__" in name or name.startswith("docs/_build")] == []


def test_the_source_archive_builds_the_same_wheel_as_a_checkout():
    built, directly = only("*.whl"), only("checkout/*.whl")  # the first is built from the source archive
    assert built.name == directly.name
    assert built.read_bytes() == directly.read_bytes()


def test_the_archives_are_small():
    assert only("*.whl").stat().st_size < 2**20
    assert only("*.tar.gz").stat().st_size < 4 * 2**20


def test_an_index_shows_the_page_for_it(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = (ROOT / "docs" / "package-index.md").read_text(encoding="utf-8")
    assert metadata.get_payload(decode=True).decode() == page
