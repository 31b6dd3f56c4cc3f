"""The pages as a website: read on a phone, and searched."""

import functools
import http.server
import threading

import pytest

from tests.docs.pages import ROOT
from tests.report.devtools import CHROMIUM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH"),
]

#: The tables and blocks of code that are wider than the window and do not scroll by themselves.
TOO_WIDE = """[...document.querySelectorAll('div.body :is(table, pre)')].filter(e => e.scrollWidth > e.clientWidth + 1
  && !['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map(e => e.textContent.trim().slice(0, 40))"""


@pytest.fixture(scope="module")
def website(tmp_path_factory):
    """The folder of the built pages."""
    build = pytest.importorskip("sphinx.cmd.build")
    pytest.importorskip("myst_parser")
    out = tmp_path_factory.mktemp("html")
    assert build.build_main(["-W", "-q", "-b", "html", str(ROOT / "docs"), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    shown = Browser(tmp_path_factory.mktemp("profile"), seconds=300)
    yield shown
    shown.close()


def test_no_page_is_wider_than_a_phone(website, browser):
    wide = {}
    for page in sorted(website.rglob("*.html")):
        browser.show(page, 390)
        width, inside = browser.value("document.documentElement.scrollWidth"), browser.value(TOO_WIDE)
        if width > 390 or inside:
            wide[page.relative_to(website).as_posix()] = width, inside
    assert wide == {}


def test_search_finds_pages(website, browser):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=website)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.show_address(f"http://127.0.0.1:{server.server_address[1]}/index.html", 390)
        browser.value("document.querySelector('input[name=q]').value = 'microscope'")
        browser.value("document.querySelector('input[name=q]').form.submit()")
        found = "[...document.querySelectorAll('#search-results li a')].map(a => a.innerText)"
        browser.wait(f"document.readyState === 'complete' && {found}.length > 2")
        titles = browser.value(found)
        server.shutdown()
    assert titles[0] == "Images from a microscope"
