"""Every picture of README.md and docs/ is there, is small, and has an alternative text and a caption."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT

#: The most bytes of a picture.
MOST_BYTES = 300_000
#: A picture in Markdown, in a directive, or in HTML.
PICTURE = re.compile(
    r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]+)[^)]*\)|`{3,}\{(?:image|figure)\} (?P<directive>\S+)|<img (?P<html>[^>]*)>"
)
#: What may follow a picture: its caption in a figure, or a line in italics; several may stand side by side.
CAPTION = re.compile(r"(?:\s*<img [^>]*>)*(?:\s*</p>)?\n\n(?:\*[^*\n]+\*\n|[^:\n][^\n]*\n(?:[^:\n][^\n]*\n)*:::)")

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests")


def pictures(text):
    """Return the pictures of a page: path, alternative text, and whether a caption follows; "" for a missing text."""
    found = []
    for one in PICTURE.finditer(text):
        if one["html"] is not None:
            path, alt = (re.search(f'{name}="([^"]*)"', one["html"]) for name in ("src", "alt"))
            path, alt = path[1], alt[1] if alt else ""
        else:
            path, alt = one["path"] or one["directive"], one["alt"] or ""
        found.append((path, alt, CAPTION.match(text, one.end()) is not None))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_pictures_of_a_page(page):
    for path, alt, captioned in pictures(page.read_text(encoding="utf-8")):
        assert (page.parent / path).stat().st_size <= MOST_BYTES, path
        assert len(alt.split()) >= 5, f"{path} needs an alternative text that says what it shows"
        assert captioned, f"{path} needs a caption: a figure-md, or a line in italics below it"


def test_there_are_pictures():
    assert sum(len(pictures(page.read_text(encoding="utf-8"))) for page in PAGES) >= 5


def test_no_picture_is_left_over():
    shown = {
        (page.parent / path).resolve() for page in PAGES for path, *_ in pictures(page.read_text(encoding="utf-8"))
    }
    assert {path for path in (ROOT / "docs").rglob("*.png") if "_build" not in path.parts} == shown


@pytest.mark.parametrize(
    ("text", "alt", "captioned"),
    [
        ("![what it shows](a.png)\n", "what it shows", False),
        ("![](a.png)\n\n*A caption.*\n", "", True),
        (":::{figure-md}\n![what](a.png)\n\nA caption\nof two lines.\n:::\n", "what", True),
        (":::{figure-md}\n![what](a.png)\n:::\n", "what", False),
        ("![what](a.png)\n\nSome other text.\n", "what", False),
        ('<p>\n<img src="a.png" alt="what">\n<img src="b.png">\n</p>\n\n*A caption.*\n', "what", True),
        ('<img src="a.png">\n', "", False),
        ("```{image} a.png\n```\n", "", False),
    ],
)
def test_a_picture_without_its_words_is_noticed(text, alt, captioned):
    assert pictures(text)[0] == ("a.png", alt, captioned)
