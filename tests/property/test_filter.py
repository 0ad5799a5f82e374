"""Random trees over random payloads give what the plain evaluator gives, in every form and at every size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.support.filter_oracle import bits_to_list, holds, payloads, to_text, trees

from vicinal.bits import count_bits
from vicinal.filter.cache import BitmapCache
from vicinal.filter.columns import Columns
from vicinal.filter.estimate import cardinality
from vicinal.filter.evaluate import evaluate
from vicinal.filter.model import Filter
from vicinal.filter.normal import canonical, normal_form
from vicinal.filter.parse import parse_filter
from vicinal.filter.render import to_mapping
from vicinal.types import PointId

_SETTINGS = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=True
)
_ROWS = st.lists(payloads, min_size=1, max_size=90)
_TREES = st.lists(trees, min_size=1, max_size=12)


def _ids(n: int) -> list[PointId]:
    return [f"p{i}" if i % 5 == 3 or i == 1 else i for i in range(n)]


def _slots_of(n: int) -> Any:
    slots = {(type(point), point): slot for slot, point in enumerate(_ids(n))}

    def slots_of(ids: Sequence[PointId]) -> NDArray[np.uint32]:
        return np.array([slots[type(i), i] for i in ids if (type(i), i) in slots], np.uint32)

    return slots_of


def _check(rows: list[dict[str, Any] | None], forest: list[Filter], cut: int, *, sealed: bool = False) -> None:
    encoded = [None if row is None else orjson.dumps(row) for row in rows]
    rows = [None if text is None else orjson.loads(text) for text in encoded]
    columns, n = Columns(), len(rows)
    cut %= n + 1
    columns.extend(encoded[:cut])
    cache = BitmapCache(columns)
    if sealed:
        columns.seal()
    early = [cache.evaluate(tree, _slots_of(cut), cut) for tree in forest]
    columns.extend(encoded[cut:])
    for tree, before in zip(forest, early, strict=True):
        truth = [holds(tree, row, point) for row, point in zip(rows, _ids(n), strict=True)]
        assert bits_to_list(before, cut) == truth[:cut]
        bits = evaluate(tree, columns, _slots_of(n), n)
        assert bits_to_list(bits, n) == truth
        assert bits_to_list(evaluate(tree, columns, _slots_of(cut), cut), cut) == truth[:cut]
        assert bits_to_list(cache.evaluate(tree, _slots_of(n), n), n) == truth
        assert bits_to_list(cache.evaluate(tree, _slots_of(cut), cut), cut) == truth[:cut]
        found = cardinality(tree, columns, n)
        assert 0 <= found.low <= count_bits(bits) <= found.high <= n
        assert found.low <= found.estimate <= found.high


@settings(_SETTINGS, max_examples=180)
@given(_ROWS, _TREES, st.integers(0, 90))
def test_evaluation_equals_plain_evaluation(rows: list[Any], forest: list[Filter], cut: int) -> None:
    _check(rows, forest, cut)


_PLANS: dict[str, dict[str, dict[str, int]]] = {
    "as it is": {},
    "early, with frequent values": {"values": {"SEAL_FROM": 8}, "sealed": {"_FREQUENT": 8}},
    "few sets, small cells": {
        "sealed": {"_FREQUENT": 1},
        "ordered": {"_QUANTILES": 3},
        "place_grid": {"_CELL": 2},
    },
}


@pytest.mark.parametrize("plan", _PLANS)
@settings(_SETTINGS, max_examples=40)
@given(_ROWS, _TREES, st.integers(0, 90))
def test_sorted_columns_answer_as_the_plain_evaluator(
    plan: str, rows: list[Any], forest: list[Filter], cut: int
) -> None:
    with ExitStack() as stack:
        for module, constants in _PLANS[plan].items():
            for name, value in constants.items():
                stack.enter_context(patch(f"vicinal.filter.{module}.{name}", value))
        _check(rows, forest, cut, sealed=True)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@settings(_SETTINGS, max_examples=4_200, derandomize=False)
@given(_ROWS, _TREES, st.integers(0, 90))
def test_fifty_thousand_trees_equal_plain_evaluation(rows: list[Any], forest: list[Filter], cut: int) -> None:
    _check(rows, forest, cut)


@settings(_SETTINGS, max_examples=150)
@given(trees)
def test_forms_of_a_tree_read_the_same(tree: Filter) -> None:
    mapping = to_mapping(tree)
    assert parse_filter(orjson.loads(orjson.dumps(mapping)) if _is_json(tree) else mapping) == (
        tree if tree.clauses or tree.min_should else None
    )
    text = to_text(tree)
    if text is not None:
        read = parse_filter(text)
        assert read is not None
        assert canonical(read) == canonical(tree)


def _is_json(tree: Filter) -> bool:
    return "inf" not in repr(tree)


@settings(_SETTINGS, max_examples=150)
@given(trees, st.randoms(use_true_random=False))
def test_equivalent_trees_share_a_key(tree: Filter, random: Any) -> None:
    def shuffled(part: tuple[Any, ...]) -> tuple[Any, ...]:
        mixed = [
            random.choice([c, Filter(must=(c,)), Filter(should=(c,)), Filter(must_not=(Filter(must_not=(c,)),))])
            for c in part
        ]
        random.shuffle(mixed)
        return tuple(mixed)

    other = Filter(
        must=shuffled(tree.must),
        should=shuffled(tree.should),
        must_not=shuffled(tree.must_not),
        min_should=tree.min_should,
    )
    assert canonical(other) == canonical(tree)
    if tree.clauses or tree.min_should:
        assert normal_form(tree).key != normal_form(tree, negated=True).key
