"""The meaning of every operator, on one table of payloads; the cases are those of Qdrant's own tests and more."""

import numpy as np
import orjson
import pytest
from tests.support.filter_oracle import bits_to_list

from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import evaluate
from vicinal.filter.parse import parse_filter

ROWS = [
    {"color": "red", "size": 10, "parts": [], "tags": ["a", "b"], "c": {"n": "x"}},
    {"color": None, "size": 2.5, "parts": [None], "tags": "a", "c": {"n": ["x", "y"]}},
    {"size": [1, 20], "parts": None, "tags": [["a"], "c"], "c": [{"n": "x"}, {"n": None}]},
    {"color": True, "size": "10", "parts": [1], "tags": [], "c": {"n": {}}},
    None,
    {"color": ["red", "blue"], "parts": {}, "tags": [{"a": 1}], "c": [{"n": []}, {"n": ["y"]}]},
]

NESTED = [{"t": [["a"]]}, {"t": [[]]}, {"t": [{}]}, {"t": []}, {"t": [None]}, {"t": ["a"]}, {"t": {}}, {"t": [True]}]

CASES = [
    ({"key": "color", "match": {"value": "red"}}, [0, 5]),
    ({"key": "color", "match": {"value": True}}, [3]),
    ({"key": "color", "match": {"any": ["blue", True]}}, [3, 5]),
    ({"key": "color", "match": {"any": []}}, []),
    ({"key": "color", "match": {"except": ["red"]}}, [3, 5]),
    ({"key": "color", "match": {"except": ["red", True, "blue"]}}, []),
    ({"key": "color", "match": {"except": []}}, [0, 3, 5]),
    ({"must_not": {"key": "color", "match": {"any": ["red"]}}}, [1, 2, 3, 4]),
    ({"key": "size", "range": {"gte": 10}}, [0, 2]),
    ({"key": "size", "range": {"gt": 10}}, [2]),
    ({"key": "size", "range": {"gte": 2, "lt": 10}}, [1]),
    ({"key": "size", "range": {"gt": 1, "lt": 20}}, [0, 1]),
    ({"key": "size", "range": {}}, [0, 1, 2]),
    ({"key": "size", "match": {"value": "10"}}, [3]),
    ({"is_empty": {"key": "parts"}}, [0, 2, 4]),
    ({"is_empty": {"key": "color"}}, [1, 2, 4]),
    ({"is_null": {"key": "parts"}}, [2]),
    ({"is_null": {"key": "color"}}, [1]),
    ({"is_null": {"key": "parts[]"}}, [1]),
    ({"is_empty": {"key": "tags[]"}}, [1, 3, 4]),
    ({"key": "tags", "match": {"value": "a"}}, [0, 1]),
    ({"key": "tags[]", "match": {"value": "a"}}, [0, 2]),
    ({"key": "tags[][]", "match": {"value": "a"}}, [2]),
    ({"key": "tags[].a", "match": {"value": 1}}, [5]),
    ({"key": "tags", "match": {"except": ["a"]}}, [0, 2, 5]),
    ({"key": "c.n", "match": {"value": "x"}}, [0, 1]),
    ({"key": "c.n", "match": {"except": ["x"]}}, [1, 3]),
    ({"key": "c[].n", "match": {"value": "x"}}, [2]),
    ({"key": "c[].n", "match": {"value": "y"}}, [5]),
    ({"is_null": {"key": "c[].n"}}, [2]),
    ({"is_empty": {"key": "c[].n"}}, [0, 1, 3, 4]),
    ({"has_id": [1, "five", 99]}, [1, 5]),
    ({"must_not": {"has_id": [1]}}, [0, 2, 3, 4, 5]),
    ({"should": [{"has_id": [0]}, {"is_null": {"key": "parts"}}]}, [0, 2]),
    ({"must": {"key": "size", "range": {"lt": 15}}, "must_not": {"has_id": [0]}}, [1, 2]),
    ({"must": {"is_empty": {"key": "color"}}, "should": [{"has_id": [1]}, {"has_id": [0]}]}, [1]),
    (
        {"min_should": {"conditions": [{"has_id": [0, 1]}, {"has_id": [1, 2]}, {"has_id": [1, 2, 3]}], "min_count": 2}},
        [1, 2],
    ),
    ({"min_should": {"conditions": [{"has_id": [0]}], "min_count": 2}}, []),
    ({"min_should": {"conditions": [], "min_count": 0}}, [0, 1, 2, 3, 4, 5]),
    ({"must_not": {"min_should": {"conditions": [{"has_id": [0]}] * 3, "min_count": 2}}}, [1, 2, 3, 4, 5]),
    ({"must": [{"must": []}, {"should": []}]}, [0, 1, 2, 3, 4, 5]),
    ({"must_not": [{"must": []}]}, []),
]


def _slots_of(ids):
    known = {0: 0, 1: 1, 2: 2, 3: 3, "five": 5, 99: 7}
    return np.array([known[i] for i in ids if i in known], np.uint32)


@pytest.mark.parametrize(("condition", "slots"), CASES)
@pytest.mark.parametrize("sealed", [False, True])
def test_operators(condition, slots, sealed):
    columns = Columns()
    columns.extend([None if row is None else orjson.dumps(row) for row in ROWS])
    if sealed:
        columns.seal()
    tree = parse_filter({"must": condition})
    assert tree is not None
    bits = evaluate(tree, columns, _slots_of, columns.n)
    assert [i for i, hit in enumerate(bits_to_list(bits, columns.n)) if hit] == slots


def test_except_takes_arrays_in_arrays_and_objects_for_values():
    columns = Columns()
    columns.extend([orjson.dumps(row) for row in NESTED])

    def found(condition):
        tree = parse_filter({"must": condition})
        assert tree is not None
        return np.flatnonzero(bits_to_list(evaluate(tree, columns, _slots_of, columns.n), columns.n)).tolist()

    assert found({"key": "t", "match": {"except": ["a"]}}) == [0, 1, 2, 6, 7]
    assert found({"key": "t", "match": {"except": [True]}}) == [0, 1, 2, 5, 6]
    assert found({"key": "t[]", "match": {"except": ["x"]}}) == [0, 2, 5, 7]
    assert found({"is_empty": {"key": "t"}}) == [3]


def test_an_answer_is_the_callers_own():
    columns = Columns()
    columns.extend([b'{"a": 1}'] * 70)
    columns.seal()
    tree = parse_filter("a = 1")
    assert tree is not None
    evaluate(tree, columns, _slots_of, 70)[:] = 0
    assert bits_to_list(evaluate(tree, columns, _slots_of, 70), 70) == [True] * 70


def test_nothing_to_evaluate():
    tree = parse_filter("a = 1 or b is empty")
    assert tree is not None
    assert evaluate(tree, Columns(), _slots_of, 0).size == 0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_at_least_some_of_five(count):
    """All 32 rows of five flags: one that satisfies a clause counts once for it, whatever the order of the clauses."""
    columns = Columns()
    rows = [{key: i >> at & 1 for at, key in enumerate("abcde")} for i in range(32)]
    columns.extend([orjson.dumps(row) for row in rows])
    conditions = [{"key": key, "match": {"value": 1}} for key in "abcde"]
    tree = parse_filter({"min_should": {"conditions": conditions, "min_count": count}})
    assert tree is not None
    found = bits_to_list(evaluate(tree, columns, lambda _: np.zeros(0, np.uint32), 32), 32)
    assert found == [i.bit_count() >= count for i in range(32)]
