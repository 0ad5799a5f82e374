import numpy as np
import orjson
import pytest

from vicinal.filter.columns import Columns
from vicinal.filter.estimate import cardinality
from vicinal.filter.parse import parse_filter

N = 1_000


@pytest.fixture(params=[False, True], ids=["scanned", "sorted"])
def columns(request):
    columns = Columns()
    rows = ({"a": i % 4, "b": i % 10, "t": [i % 2, i % 5], "s": f"s{i % 8}"} for i in range(N))
    columns.extend([orjson.dumps(row) for row in rows])
    if request.param:
        columns.seal()
    return columns


def _cardinality(columns, filter, n=N):
    tree = parse_filter(filter)
    assert tree is not None
    return cardinality(tree, columns, n)


@pytest.mark.parametrize(
    ("text", "count"),
    [("a = 1", 250), ("a != 1", 750), ("b >= 7", 300), ("s in ('s1', 's2')", 250), ("t = 1", 600), ("x = 1", 0),
     ("a is empty", 0), ("a is not empty", N), ("not s = 's1'", 875)],
)  # fmt: skip
def test_single_clauses_are_exact(columns, text, count):
    assert _cardinality(columns, text) == (count, count, count)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("a = 1 and b >= 7", (0, 75, 250)),
        ("a != 1 and b >= 1", (650, 675, 750)),
        ("a = 1 or b >= 7", (300, 475, 550)),
        ("a = 1 and x = 1", (0, 0, 0)),
        ("id in (1, 2, 3)", (0, 3, 3)),
        ("id != 1", (N - 1, N - 1, N)),
        ("a = 1 and id in (1, 2)", (0, 0, 2)),
    ],
)
def test_combinations_are_bounded(columns, filter, expected):
    assert _cardinality(columns, filter) == expected


def test_at_least_some_of_several(columns):
    clauses = [
        {"key": "a", "match": {"value": 1}},
        {"key": "b", "range": {"gte": 5}},
        {"key": "a", "range": {"gte": 2}},
    ]
    found = _cardinality(columns, {"min_should": {"conditions": clauses, "min_count": 2}})
    assert found == (0, 375, 625)


def test_a_reader_of_fewer_slots_gets_bounds(columns):
    low, about, high = _cardinality(columns, "a = 1", 400)
    assert low <= 100 <= high
    assert about == 100
    assert _cardinality(columns, "a = 1", 0)[0] == 0


def test_lists_are_counted_by_slot_within_bounds(columns):
    low, about, high = _cardinality(columns, "t >= 1")
    assert low <= 900 <= high
    assert low <= about <= high


def test_an_empty_collection():
    assert _cardinality(Columns(), "a = 1 and b is empty", 0) == (0, 0, 0)
    assert np.array_equal(_cardinality(Columns(), "a = 1 or not b = 2", 0), [0, 0, 0])


def test_a_list_of_integers_and_floats_is_not_counted_twice():
    columns = Columns()
    columns.extend([orjson.dumps({"a": [1, 1.5]})] * 10)
    low, _, high = _cardinality(columns, "a between 1 and 2", 10)
    assert low <= 10 == high
