import numpy as np
import orjson
import pytest
from tests.support.filter_oracle import bits_to_list

from vicinal.filter import cache as cache_module
from vicinal.filter.cache import BitmapCache
from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import evaluate_from
from vicinal.filter.parse import parse_filter


def _tree(text):
    tree = parse_filter(text)
    assert tree is not None
    return tree


def _no_ids(ids):
    return np.zeros(0, np.uint32)


@pytest.fixture
def columns():
    columns = Columns()
    columns.extend([orjson.dumps({"a": i % 3}) for i in range(300)])
    return columns


def _truth(n):
    return [i % 3 == 1 for i in range(n)]


def test_a_bitmap_is_kept_for_equivalent_filters(columns):
    cache = BitmapCache(columns)
    first = cache.evaluate(_tree("a = 1"), _no_ids, 300)
    assert cache.evaluate(_tree("not a != 1.0"), _no_ids, 300) is first
    assert (cache.hits, cache.misses) == (1, 1)
    assert bits_to_list(first, 300) == _truth(300)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_only_new_slots_are_evaluated(columns, monkeypatch):
    starts = []

    def recorded(node, columns, slots_of, start, n):
        starts.append(start)
        return evaluate_from(node, columns, slots_of, start, n)

    monkeypatch.setattr(cache_module, "evaluate_from", recorded)
    cache = BitmapCache(columns)
    for n in (100, 130, 128, 300, 10, 0):
        assert bits_to_list(cache.evaluate(_tree("a = 1"), _no_ids, n), n) == _truth(n)
    assert starts == [0, 64, 128]


def test_what_a_reader_of_more_slots_left_meanwhile_stays(columns, monkeypatch):
    cache, tree, inner = BitmapCache(columns), _tree("a = 1"), []

    def overtaken(node, columns, slots_of, start, n):
        if n == 100:
            inner.append(cache.evaluate(tree, _no_ids, 300))
        return evaluate_from(node, columns, slots_of, start, n)

    monkeypatch.setattr(cache_module, "evaluate_from", overtaken)
    assert bits_to_list(cache.evaluate(tree, _no_ids, 100), 100) == _truth(100)
    assert cache.evaluate(tree, _no_ids, 300) is inner[0]
    assert cache.memory_bytes == inner[0].nbytes + cache_module._ENTRY_BYTES


def test_filters_on_ids_are_not_kept(columns):
    cache = BitmapCache(columns)
    tree = _tree("id = 1 or a = 7")
    assert bits_to_list(cache.evaluate(tree, lambda _: np.array([5], np.uint32), 300), 300)[5]
    moved = bits_to_list(cache.evaluate(tree, lambda _: np.array([6], np.uint32), 300), 300)
    assert not moved[5]
    assert moved[6]
    assert cache.memory_bytes == 0


def test_the_bound_holds_and_the_latest_stay(columns):
    cache = BitmapCache(columns, max_bytes=3 * (40 + cache_module._ENTRY_BYTES))
    for text in ("a = 0", "a = 1", "a = 2", "a = 0", "a = 3"):
        cache.evaluate(_tree(text), _no_ids, 300)
    assert cache.memory_bytes <= cache.max_bytes
    hits = cache.hits
    cache.evaluate(_tree("a = 0"), _no_ids, 300)
    assert cache.hits == hits + 1
    cache.evaluate(_tree("a = 1"), _no_ids, 300)
    assert cache.hits == hits + 1


def test_a_bitmap_larger_than_the_bound_is_still_answered(columns):
    cache = BitmapCache(columns, max_bytes=10)
    assert bits_to_list(cache.evaluate(_tree("a = 1"), _no_ids, 300), 300) == _truth(300)
    assert cache.memory_bytes == 0
