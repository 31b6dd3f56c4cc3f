"""The report in a real browser: nothing is missing, nothing is executed, everything can be read."""

import shutil

import pytest

from tests.report.conftest import HOSTILE
from tests.report.devtools import CHROMIUM, CONTRAST, Browser
from tests.report.test_mistakes import section_of, wrong
from xpcnn.cli import main
from xpcnn.report import page as frame

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH"),
]


#: The number of pictures that are missing; those that another class or a wider window shows have no size.
BROKEN = "[...document.images].filter(i => !i.naturalWidth || (i.checkVisibility() && !i.clientWidth)).length"


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
        assert browser.value(BROKEN) == 0

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


#: The colours of the lines of runs and of the paper, each as [red, green, blue].
COLOURS = """(() => {
  const parse = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const lines = [...document.querySelectorAll('.legend .run')].map(e => parse(getComputedStyle(e).stroke));
  return [parse(getComputedStyle(document.body).backgroundColor), ...lines];
})()"""


def luminance(colour):
    """The relative luminance of a colour, as WCAG 2 defines it."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, hostile):
    """The page that compares as many runs as can be compared."""
    place = tmp_path_factory.mktemp("compared")
    runs = [str(shutil.copytree(hostile, place / f"run {'x' * 9 * number}")) for number in range(8)]
    assert main(["compare", *runs, "-o", str(place / "page.html")]) == 0
    return place / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_a_comparison_can_be_read(browser, compared, width, scheme):
    browser.show(compared, width, scheme)
    assert browser.complaints == []
    assert browser.requests == [compared.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    ratio, text = browser.value(CONTRAST)
    assert ratio >= 4.5, text
    paper, *lines = browser.value(COLOURS)
    assert len({tuple(line) for line in lines}) == 8
    for line in lines:  # WCAG 2 asks for 3 in graphics
        light, dark = sorted(map(luminance, (paper, line)), reverse=True)[:2]
        assert (light + 0.05) / (dark + 0.05) >= 3


@pytest.mark.parametrize("width", [390, 1440])
def test_choosing_a_class_shows_its_mistakes_alone_without_a_script(browser, tmp_path, width):
    section = section_of(wrong(20, 0, 3), ["cat", "dog", "hen"])
    (tmp_path / "mistakes.html").write_text(frame.page("title", "status", "finished", section), encoding="utf-8")
    browser.show(tmp_path / "mistakes.html", width)
    seen = "[...document.querySelectorAll('#mistakes li')].filter(e => e.checkVisibility()).map(e => e.dataset.class)"
    assert browser.value(seen) == ["0"] * 12
    for label, shown in (("2", 3), ("0", 12), ("all", 12)):
        browser.value(f"document.querySelector('#mistakes input[value=\"{label}\"]').click()")
        assert browser.value(seen) == [label if label != "all" else "0"] * shown


@pytest.mark.parametrize(("width", "most"), [(390, 5600), (1440, 4000)])
def test_the_page_is_short(browser, digits, width, most):
    browser.show(digits / "report.html", width)
    assert (
        browser.value("document.documentElement.scrollHeight - document.querySelector('#mistakes').offsetHeight") < most
    )


def test_the_matrix_of_ten_classes_fits_on_a_phone(browser, digits):
    browser.show(digits / "report.html", 390)
    box = "document.querySelector('.matrix')"
    assert browser.value(f"{box}.scrollWidth - {box}.clientWidth") == 0


def test_a_link_of_the_contents_leads_to_its_section(browser, digits):
    browser.show(digits / "report.html", 390)
    browser.value("document.querySelector('nav a[href=\"#filters\"]').click()")
    browser.wait("scrollY > 1000")
    top = browser.value("document.querySelector('#filters h2').getBoundingClientRect().top")
    assert browser.value("document.querySelector('nav').getBoundingClientRect().bottom") <= top < 200


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
