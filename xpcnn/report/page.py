"""The page: its frame, its style, and escaping that makes any name in a run safe."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files

#: Longer names are shortened in the middle, with the whole name in the title.
MOST_CHARACTERS = 40
#: Longer tables scroll in a box of their own.
_MOST_ROWS = 25
#: The most characters of a name in a title.
_MOST_IN_TITLE = 1000
#: The beginning of a section, as :func:`section` writes it; names in a run are escaped and cannot look like one.
_SECTION = re.compile(r'<section id="([a-z-]+)">\n<h2>(.+?)</h2>')


def text(value: object) -> str:
    r"""Return text as HTML, with markup escaped and unprintable characters as backslash escapes.

    >>> text("<b>\n")
    '&lt;b&gt;\\n'
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))
    return html.escape("".join(shown))


def name(value: object, most: int = MOST_CHARACTERS) -> str:
    """Return a foreign name as HTML, shortened in the middle if long, and isolated in its writing direction."""
    whole = str(value)
    if len(whole) <= most:
        return f"<bdi>{text(whole)}</bdi>"
    kept = most // 2
    return f'<bdi title="{text(whole[:_MOST_IN_TITLE])}">{text(whole[:kept])}…{text(whole[-kept:])}</bdi>'


def plain_name(value: object) -> str:
    """Return a foreign name for an attribute, such as the alternative text of an image."""
    whole = str(value)
    kept = MOST_CHARACTERS // 2
    return text(whole if len(whole) <= MOST_CHARACTERS else f"{whole[:kept]}…{whole[-kept:]}")


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "image"), counted(2000, "image"), counted(2, "class", "classes")
    ('1 image', '2,000 images', '2 classes')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def section(title: str, *parts: str, note: str = "", more: str = "") -> str:
    """Return a section: its heading, a note on what it shows, its parts, and what else helps to read them, folded."""
    anchor = re.sub("[^a-z]+", "-", title.lower())
    intro = f'<p class="note">{note}</p>' if note else ""
    help_ = folded("How to read this", f'<p class="note">{more}</p>') if more else ""
    return f'<section id="{anchor}">\n<h2>{title}</h2>\n{intro}\n{"".join(parts)}{help_}\n</section>\n'


def columns(wide: str, narrow: str) -> str:
    """Return two sections side by side, where there is room."""
    return f'<div class="columns">{wide}{narrow}</div>\n'


def figure(content: str, caption: str = "") -> str:
    """Return a figure with its caption."""
    return f"<figure>{content}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Return a table that scrolls in its own box; all cells are HTML, the first ``texts`` columns contain text."""
    kinds = ["words" if column < texts else "" for column in range(len(headings))]
    head = "".join(f'<th scope="col"{_class(kind)}>{cell}</th>' for cell, kind in zip(headings, kinds, strict=True))
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{_class(kind)}>{cell}</td>" for cell, kind in zip(others, kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row" class="words">{first}</th>{cells}</tr>')
    tall = " tall" if len(lines) > _MOST_ROWS else ""
    return (
        f'<div class="scroll{tall}" tabindex="0"><table><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return what things are called and what they are, as a list of two columns."""
    return f"<dl>{''.join(f'<div><dt>{term}</dt><dd>{value}</dd></div>' for term, value in pairs)}</dl>"


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the few figures that matter most, large."""
    return f'<div class="tiles">{"".join(f"<p><b>{value}</b><span>{term}</span></p>" for term, value in pairs)}</div>\n'


def gallery(cards: Iterable[str], kind: str = "") -> str:
    """Return pictures side by side, as many as the width allows."""
    return f'<ul class="gallery {kind}">{"".join(f"<li>{card}</li>" for card in cards)}</ul>'


def strip(cards: Iterable[str]) -> str:
    """Return pictures in one row, which scrolls if it is wider than the page."""
    return f'<ul class="strip" tabindex="0">{"".join(f"<li>{card}</li>" for card in cards)}</ul>'


def folded(title: str, content: str) -> str:
    """Return what is read only by those who unfold it."""
    return f"<details><summary>{title}</summary>{content}</details>"


def contents(body: str) -> str:
    """Return links to the sections of a page."""
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in _SECTION.findall(body))
    return f'<nav aria-label="Contents">{links}</nav>\n' if links else ""


def page(title: str, status: str, state: str, body: str) -> str:
    """Return the whole page; all texts are HTML, ``state`` is the class of the line that says how the run stands."""
    style = files("xpcnn.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<h1>{title}</h1>\n<p class="state {state}">{status}</p>\n</header>\n'
        f"{contents(body)}{body}</main>\n</body>\n</html>\n"
    )
