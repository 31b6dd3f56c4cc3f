from hypothesis import given
from hypothesis import strategies as st

from xpcnn.program.shards import add_tree, cut


@given(st.integers(1, 200), st.integers(1, 50))
def test_a_batch_is_cut_into_even_pieces_in_order(n, pieces):
    parts = cut(n, pieces)
    sizes = [part.stop - part.start for part in parts]
    assert [row for part in parts for row in range(n)[part]] == list(range(n))
    assert len(parts) == min(n, pieces)
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_combined_in_the_order_of_a_tree():
    assert add_tree("abcde", lambda a, b: f"({a}{b})") == "(((ab)(cd))e)"
    assert add_tree("a", None) == "a"
