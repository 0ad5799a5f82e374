"""What says the same finds the same: laws of sets over random payloads and trees, scanned and sorted.

Where the normal form sees that two trees are equivalent they share a key, and so plan, cached bitmap and answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.filter_oracle import INTEGERS, STRINGS, conditions, payloads, to_text, trees

from vicinal.errors import InvalidFilter
from vicinal.filter.columns import Columns
from vicinal.filter.estimate import cardinality
from vicinal.filter.evaluate import evaluate
from vicinal.filter.model import Condition, Filter, HasId, IsEmpty, Match, MatchAny, MatchExcept, MinShould, Range
from vicinal.filter.normal import canonical
from vicinal.filter.parse import parse_filter

_SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
    max_examples=25,
)
_ROWS = st.lists(payloads, min_size=1, max_size=70)
_FEW = st.lists(conditions, min_size=1, max_size=4)


def _columns(rows: list[Any]) -> list[Columns]:
    """The same payloads, not sorted and sorted."""
    made = [Columns(), Columns()]
    for columns in made:
        columns.extend([None if row is None else orjson.dumps(row) for row in rows])
    made[1].seal()
    return made


def _ids(ids: Any) -> Any:
    return np.array([i for i in ids if isinstance(i, int) and 0 <= i < 70], np.uint32)


def _found(tree: Filter, columns: Columns) -> bytes:
    n = columns.n
    return evaluate(tree, columns, lambda ids: (found := _ids(ids))[found < n], n).tobytes()


def _same(rows: list[Any], one: Filter, other: Filter, *, key: bool = True) -> None:
    for columns in _columns(rows):
        assert _found(one, columns) == _found(other, columns)
        if key:
            assert cardinality(one, columns, columns.n) == cardinality(other, columns, columns.n)
    if key:
        assert canonical(one) == canonical(other)


def _not(*clauses: Condition) -> Filter:
    return Filter(must_not=clauses)


@_SETTINGS
@given(_ROWS, _FEW)
def test_de_morgan(rows: list[Any], parts: list[Condition]) -> None:
    negated = tuple(_not(part) for part in parts)
    _same(rows, _not(Filter(must=tuple(parts))), Filter(should=negated))
    _same(rows, _not(Filter(should=tuple(parts))), Filter(must=negated))


@_SETTINGS
@given(_ROWS, trees)
def test_double_negation_and_complement(rows: list[Any], tree: Filter) -> None:
    _same(rows, tree, _not(_not(tree)))
    for columns in _columns(rows):
        n = columns.n
        bits, others = (np.frombuffer(_found(one, columns), np.uint64) for one in (tree, _not(tree)))
        assert not (bits & others).any()
        assert int(np.bitwise_count(bits | others).sum()) == n


@_SETTINGS
@given(_ROWS, _FEW, st.randoms(use_true_random=False))
def test_order_nesting_and_repetition_say_nothing(rows: list[Any], parts: list[Condition], random: Any) -> None:
    mixed = [*parts, random.choice(parts)]
    random.shuffle(mixed)
    cut = random.randrange(len(mixed) + 1)
    nested = Filter(must=(Filter(must=tuple(mixed[:cut])), Filter(must=tuple(mixed[cut:]))))
    _same(rows, Filter(must=tuple(parts)), nested)
    either = Filter(should=(*mixed[:cut], *([Filter(should=tuple(mixed[cut:]))] if mixed[cut:] else [])))
    _same(rows, Filter(should=tuple(parts)), either)
    distinct = tuple({canonical(Filter(must=(part,))): part for part in parts}.values())
    _same(rows, Filter(must=distinct), Filter(min_should=MinShould(distinct, len(distinct))))


@_SETTINGS
@given(_ROWS, st.lists(st.sampled_from([*INTEGERS, *STRINGS, True, False, 1.5]), max_size=5))
def test_a_list_is_its_equalities(rows: list[Any], values: list[Any]) -> None:
    listed = Filter(must=(MatchAny("a", tuple(values)),))
    equal = tuple(Match("a", value) for value in values)
    _same(
        rows,
        listed,
        Filter(min_should=MinShould((Filter(should=equal),), 1)) if equal else Filter(min_should=MinShould((), 1)),
    )
    # some value that is neither null nor listed is not the complement: of a list both may hold
    for columns in _columns(rows):
        neither = np.frombuffer(_found(Filter(must=(MatchExcept("a", tuple(values)),)), columns), np.uint64)
        empty = np.frombuffer(_found(Filter(must=(IsEmpty("a"),)), columns), np.uint64)
        assert not (neither & empty).any()


@_SETTINGS
@given(st.lists(st.one_of(st.integers(-3, 9), st.lists(st.integers(-3, 9), max_size=3)), min_size=1, max_size=70),
       st.integers(-4, 9), st.integers(0, 6))  # fmt: skip
def test_a_range_of_integers_is_the_union_of_its_values(values: list[Any], low: int, length: int) -> None:
    rows = [{"a": value} for value in values]
    within = Filter(must=(Range("a", gte=low, lt=low + length),))
    listed = Filter(must=(MatchAny("a", tuple(range(low, low + length))),))
    _same(rows, within, listed, key=False)
    _same(rows, within, Filter(must=(Range("a", gte=float(low), lt=low + length, lte=math.inf),)), key=False)
    _same(rows, Filter(must=(Range("a", gte=low, lte=low),)), Filter(must=(Match("a", low),)))
    _same(rows, Filter(must=(Match("a", low),)), Filter(must=(Match("a", float(low)),)))


@_SETTINGS
@given(_ROWS, trees)
def test_text_says_what_the_tree_says(rows: list[Any], tree: Filter) -> None:
    text = to_text(tree)
    read = None if text is None else parse_filter(text)
    if read is not None:
        _same(rows, tree, read)


_LEAF = {"key": "a", "match": {"value": 1}}


def _deep(levels: int) -> Any:
    tree: Any = _LEAF
    for _ in range(levels):
        tree = {"must": [tree]}
    return tree


@pytest.mark.parametrize(
    ("filter", "where"),
    [
        ({"must": [_LEAF, {"key": "a", "near": {"value": 1}}]}, "must[1]"),
        ({"must": [_LEAF, {"key": "a", "range": {"gte": "many"}}]}, "must[1].range"),
        ({"should": {"key": "a", "match": {"any": list(range(10**6))}}}, "should"),
        ({"must_not": [{"key": "a", "match": {"value": [1]}}]}, "must_not[0].match"),
        (_deep(10**3), "filter"),
        ("a in (" + ", ".join(map(str, range(10**6))) + ")", "filter"),
        ("a ~ 3", "filter"),
        ("(" * 10**3 + "a = 1" + ")" * 10**3, "filter"),
    ],
)  # fmt: skip
def test_a_bad_filter_is_refused_by_the_name_of_its_clause(filter: Any, where: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(filter)
    assert str(caught.value.field).startswith(where)


def test_has_id_is_the_same_in_any_order_and_once_each() -> None:
    assert canonical(Filter(must=(HasId((1, 2, "a")),))) == canonical(Filter(must=(HasId(("a", 2, 1, 2)),)))
