"""The most recently used entries are kept."""

from xpcnn.program.lru_cache import LRUCache


def test_the_one_not_used_for_longest_is_let_go_and_made_anew():
    made = []

    def get(key):
        return latest.get(key, lambda: (made.append(key), key * 2)[1])

    latest = LRUCache(3)
    assert [get(key) for key in (1, 2, 3, 1, 4, 1, 2)] == [2, 4, 6, 2, 8, 2, 4]
    assert made == [1, 2, 3, 4, 2]
    assert latest.keys() == [4, 1, 2]
    latest.clear()
    assert latest.keys() == []
