"""Images get their group from their path or from a table."""

import sys

import pytest

from xpcnn.data import grouped, scan


@pytest.fixture
def found(class_folders):
    return scan(class_folders({"a/p1_1.png": 0, "a/p10_1.png": 0, "b/p1_2.png": 0}))


def test_the_first_parentheses_of_a_pattern_name_the_group(found):
    assert grouped(found, r"(p\d+)_(\d)").groups == ["p1", "p10", "p1"]


def test_the_path_counts_from_the_folder_and_has_slashes(found):
    assert grouped(found, r"^(\w)/").groups == ["a", "a", "b"]


def test_an_image_without_a_group_is_refused_with_the_number_of_such(found):
    for pattern in ("(p10)", "(x)?_2|(p10)", "p(0?)_2|p1(0)"):
        with pytest.raises(ValueError, match=r"[23] of 3 images get no group from .*, the first is a/p1_1\.png"):
            grouped(found, pattern)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("p1", "'p1' is not an existing CSV file, and as a regular expression it has no parentheses"),
        ("groups.csv", "'groups.csv' is not an existing CSV file"),
        ("(p1", r"'\(p1' is neither a CSV file nor a regular expression"),
    ],
)
def test_a_pattern_that_names_no_group_is_refused(found, pattern, told):
    with pytest.raises(ValueError, match=told):
        grouped(found, pattern)


@pytest.fixture
def table(found):
    """A function that groups by a table of these lines."""

    def group(*lines, name="groups.csv"):
        path = found.root.parent / name
        path.write_text("\n".join(["path,group", *lines]), encoding="utf-8")
        return grouped(found, path).groups

    return group


def test_a_table_names_groups_by_path(found, table):
    lines = [f"{found.root / 'a' / 'p1_1.png'},x", r"a\p10_1.png,y", "./b/p1_2.png,x", "else.png,z", "empty.png,"]
    assert table(*lines) == ["x", "y", "x"]
    assert table(*lines, name="groups.TSV") == ["x", "y", "x"]


def test_a_table_that_lacks_an_image_is_refused(table):
    with pytest.raises(ValueError, match=r"2 of 3 images get no group .*the first is a/p10_1\.png"):
        table("a/p1_1.png,x", "b/p1_2.png,")


def test_a_table_that_names_two_groups_is_refused(table):
    with pytest.raises(ValueError, match=r"line 3, gives 'a//p1_1\.png' a second group 'y'"):
        table("a/p1_1.png,x", "a//p1_1.png,y")


@pytest.mark.skipif(sys.platform != "linux", reason="names that look alike are one there")
def test_names_are_compared_in_one_unicode_form(class_folders):
    composed, decomposed = "\u00e9", "e\u0301"
    found = scan(class_folders({f"a/{composed}_1.png": 0, f"b/{decomposed}_2.png": 0}, name="accents"))
    assert grouped(found, f"({decomposed})_").groups == [composed, composed]
    table = found.root.parent / "groups.csv"
    table.write_text(
        f"path,group\na/{decomposed}_1.png,{composed}\nb/{composed}_2.png,{decomposed}\n", encoding="utf-8"
    )
    assert grouped(found, table).groups == [composed, composed]
