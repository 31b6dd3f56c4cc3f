"""How products are cut down to the sizes at which BLAS is fast."""

import pytest

from xpcnn.ops import products


@pytest.mark.parametrize(("width", "expected"), [(12, (1, 3)), (13, (1, 13)), (1, (1, 1))])
def test_columns_are_cut_into_the_fewest_equal_parts_that_make_products_small(monkeypatch, width, expected):
    monkeypatch.setattr(products, "SMALL_PRODUCT", 2 * 27 * 4 * 10)
    assert products.small_products(2, 27, width, 10) == expected


@pytest.mark.parametrize(("filters", "halves"), [(31, 1), (32, 2), (33, 1), (64, 2)])
def test_many_filters_are_halved(filters, halves):
    assert products.small_products(filters, 9, 8, 16)[0] == halves


def test_where_no_cut_makes_products_small_there_is_none():
    assert products.small_products(64, 100_000, 8, 16) == (1, 1)


@pytest.mark.parametrize(
    ("depth", "filters", "parts"), [(250, 10, 5), (288, 32, 8), (27, 16, 1), (7, 1200, 1), (9, 1201, 1)]
)
def test_rows_of_columns_are_cut_until_a_product_has_few_results(depth, filters, parts):
    assert products.few_results(depth, filters) == parts
