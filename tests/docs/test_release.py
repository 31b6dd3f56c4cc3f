"""What a release says of itself in several places agrees."""

import re
import tomllib

import pytest

from tests.docs.pages import PAGES, ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def project():
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture
def released(project):
    """The version; between releases, nothing need agree with it."""
    if ".dev" in project["version"]:
        pytest.skip(f"{project['version']} is not a release")
    return project["version"]


def citation():
    """Return the citation file's plain lines: {key: value}."""
    return dict(re.findall(r'^([\w-]+): "?(.+?)"?$', read("CITATION.cff"), re.MULTILINE))


def test_the_citation_is_of_this_version(released):
    assert citation()["version"] == released


def test_the_citation_says_what_the_package_says(project):
    cited = citation()
    assert cited["title"] == project["name"]
    assert cited["abstract"] == project["description"]
    assert cited["license"] == project["license"]


def test_the_newest_version_in_the_changelog_is_this_one_with_its_day(released):
    newest = re.search(r"^## (\d.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert newest[1] == f"{released} - {citation()['date-released']}"


def test_the_authors_are_those_of_the_licence(project):
    (author,) = project["authors"]
    assert f"Copyright (c) 2026 {author['name']}\n" in read("LICENSE")
    assert f"\nauthors:\n  - name: {author['name']}\n" in read("CITATION.cff")
    assert f'\nauthor = "{author["name"]}"\n' in read("docs/conf.py")


def test_what_an_index_shows_needs_no_file_beside_it():
    """No picture, and no link that is not a whole address."""
    page = read("docs/package-index.md")
    assert [target for target in re.findall(r"\]\(([^)]*)\)", page) if not target.startswith("https://")] == []
    assert re.findall(r"!\[|<img|<a ", page) == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "package-index.md"], ids=lambda page: page.name
)
def test_a_page_installs_from_the_clone(page):
    """Only the page that an index shows may take xpcnn from there."""
    assert re.findall(r'pip install "?xpcnn.*', page.read_text(encoding="utf-8")) == []
