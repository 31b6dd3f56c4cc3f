"""Text in the page is always shown as text, whatever it contains."""

import re

from xpcnn.report import page


def test_markup_is_shown_and_not_obeyed():
    assert page.text("<script>\"'&") == "&lt;script&gt;&quot;&#x27;&amp;"


def test_what_cannot_be_shown_is_escaped():
    assert page.text("a\n\x1b\u202e\udcff") == r"a\n\x1b\u202e\udcff"


def test_a_long_name_is_cut_in_the_middle_and_stands_whole_in_the_title():
    name = "a" * 100 + "z" * 100
    shown = re.fullmatch(r'<bdi title="(.*)">(.*)</bdi>', page.name(name))
    assert shown[1] == name
    assert shown[2] == "a" * 20 + "…" + "z" * 20


def test_even_the_title_is_bounded():
    assert len(page.name("x" * 10**6)) < 2000


def test_a_name_is_written_in_its_own_direction():
    assert page.name("مرحبا") == "<bdi>مرحبا</bdi>"


def test_the_page_may_load_nothing_and_run_nothing():
    whole = page.page("title", "status", "finished", "")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in whole
    assert "http://" not in whole
    assert "https://" not in whole
    assert "<script" not in whole


def test_the_contents_are_the_sections_whatever_names_are_in_them():
    body = page.section("Learning curves", page.name('<section id="a">\n<h2>b</h2>')) + page.section("Images")
    assert page.contents(body) == (
        '<nav aria-label="Contents"><a href="#learning-curves">Learning curves</a><a href="#images">Images</a></nav>\n'
    )
    assert page.contents("") == ""


def test_a_long_table_scrolls_in_its_own_box():
    assert "tall" not in page.table("few", ["a"], [["1"]] * 25)
    assert "tall" in page.table("many", ["a"], [["1"]] * 26)
