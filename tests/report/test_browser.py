"""The report in a real browser: nothing is missing, nothing is executed, everything can be read."""

import pytest

from tests.report.conftest import HOSTILE
from tests.report.devtools import CHROMIUM, CONTRAST, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    shown = Browser(tmp_path_factory.mktemp("profile"))
    yield shown
    shown.close()


@pytest.fixture(params=["digits", "hostile"])
def page(request):
    return request.getfixturevalue(request.param) / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1000])
class TestEveryPage:
    def test_it_loads_without_a_word_and_asks_for_nothing_else(self, browser, page, width, scheme):
        browser.show(page, width, scheme)
        assert browser.complaints == []
        assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]

    def test_every_picture_is_there(self, browser, page, width, scheme):
        browser.show(page, width, scheme)
        assert browser.value("document.images.length") > 60
        assert browser.value("[...document.images].filter(i => !i.naturalWidth || !i.clientWidth).length") == 0

    def test_it_is_as_wide_as_the_window(self, browser, page, width, scheme):
        browser.show(page, width, scheme)
        assert browser.value("document.documentElement.scrollWidth") <= width

    def test_its_text_stands_out(self, browser, page, width, scheme):
        browser.show(page, width, scheme)
        browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        ratio, text = browser.value(CONTRAST)
        assert ratio >= 4.5, text
        assert browser.value("document.documentElement.scrollWidth") <= width

    def test_its_text_is_large_enough(self, browser, page, width, scheme):
        browser.show(page, width, scheme)
        sizes = "[...document.querySelectorAll('main *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
        assert browser.value(f"Math.min(...{sizes})") >= 12
        assert browser.value("document.querySelector('svg text').getBoundingClientRect().height") >= 11


def test_hostile_names_are_seen_as_they_are(browser, hostile):
    browser.show(hostile / "report.html")
    text = browser.value("document.body.innerText")
    assert HOSTILE[0] in text
    assert HOSTILE[1] in text
    assert HOSTILE[2] in text
    assert r"🦠 e\u202ex\n" in text
    assert "<i>half.jpg" in text
    assert browser.value("document.scripts.length + document.querySelectorAll('bdi *, i:not(.bar i)').length") == 0


def test_light_and_dark_are_another_paper(browser, digits):
    papers = []
    for scheme in ("light", "dark"):
        browser.show(digits / "report.html", scheme=scheme)
        papers.append(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(253, 253, 252)", "rgb(20, 23, 26)"]


def test_a_script_in_the_page_would_not_run(browser, digits, tmp_path):
    page = (digits / "report.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text(page.replace("<main>", "<main><script>document.title = 'ran'</script>"))
    browser.show(tmp_path / "report.html")
    assert browser.value("document.title") == "Report of run"
    assert "Content Security Policy" in str(browser.complaints)
