"""Facets are exact: against a dict, under filters, with changed payloads, in older Views, of long strings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.filter_oracle import ALL_KEYS, facet_of, payloads

from vicinal.bits import all_bits
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import InvalidArgument, InvalidFilter, LimitExceeded
from vicinal.faceting import facet_path, facets
from vicinal.matching import Matcher


@pytest.fixture
def made() -> Iterator[Collection]:
    with Database(":memory:") as database:
        yield database.create_collection("c", dim=2)


def fill(collection: Collection, rows: list[Any]) -> None:
    collection.upsert(np.arange(len(rows)), np.ones((len(rows), 2), np.float32), rows)


def test_most_points_first_and_ties_by_kind_and_value(made: Collection) -> None:
    values: list[Any] = ["b", "a", 2, 1, True, "b", 2, False, 1.5, None, {}, []]
    fill(made, [{"k": value} for value in values])
    assert repr(made.facet("k")) == repr([(2, 2), ("b", 2), (False, 1), (True, 1), (1, 1), ("a", 1)])
    assert made.facet("k", limit=3) == [(2, 2), ("b", 2), (False, 1)]
    assert made.facet("none") == []


def test_a_value_counts_once_for_its_point(made: Collection) -> None:
    fill(made, [{"k": ["a", "a", 1, 1, True]}, {"k": "a"}, {"k": [["a"], "c"]}])
    assert repr(made.facet("k")) == repr([("a", 2), (True, 1), (1, 1), ("c", 1)])
    fill(made, [{"k": [{"x": "a"}, {"x": ["a", "b"]}]}])
    assert made.facet("k[].x") == [("a", 1), ("b", 1)]


def test_filters_deletes_and_changes(made: Collection) -> None:
    fill(made, [{"n": i % 3, "k": i % 2} for i in range(60)])
    assert made.facet("k", "n = 1") == [(0, 10), (1, 10)]
    made.delete(range(0, 30, 2))
    assert made.facet("k") == [(1, 30), (0, 15)]
    made.set_payload({"k": 7, "t": "x" * 80}, filter="n = 2")
    assert made.facet("k") == [(1, 20), (7, 15), (0, 10)]
    made.set_payload({"k": 8}, ids=[5])
    assert made.facet("k", "n = 2") == [(7, 14), (8, 1)]
    assert made.facet("t") == [("x" * 80, 15)]


def test_an_older_view_is_counted_as_it_was(made: Collection) -> None:
    fill(made, [{"k": i % 2, "t": "long" * 30} for i in range(20)])
    made.facet("k")
    old = made._view
    made.set_payload({"k": 5, "t": "other" * 30}, ids=range(10))
    new = made._view
    for matcher in (made._generation.matcher, Matcher(made._generation.opened.catalog)):
        for view, k, t in (
            (new, [(5, 10), (0, 5), (1, 5)], [("long" * 30, 10), ("other" * 30, 10)]),
            (old, [(0, 10), (1, 10)], [("long" * 30, 20)]),
        ):
            assert facets(matcher, facet_path("k"), all_bits(view.n), view, 9) == k
            assert facets(matcher, facet_path("t"), all_bits(view.n), view, 9) == t


@pytest.mark.parametrize(
    ("key", "limit", "kind", "field"),
    [
        (3, 10, InvalidArgument, "key"),
        ("a[", 10, InvalidArgument, "key"),
        ("", 10, InvalidArgument, "key"),
        ("a", 0, InvalidArgument, "limit"),
        ("a", 10**6, LimitExceeded, "limit"),
    ],
)
def test_bad_arguments_are_named(made: Collection, key: Any, limit: int, kind: Any, field: str) -> None:
    with pytest.raises(kind) as caught:
        made.facet(key, limit=limit)
    assert caught.value.field == field


def test_a_bad_filter_is_refused(made: Collection) -> None:
    with pytest.raises(InvalidFilter):
        made.facet("a", "a >>= 1")


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(payloads, min_size=1, max_size=30), st.lists(payloads, max_size=6), st.integers(0, 4))
def test_facets_equal_a_dict(rows: list[Any], later: list[Any], codes: int) -> None:
    with patch("vicinal.filter.columns._CODES_MAX", codes), Database(":memory:") as database:
        collection = database.create_collection("c", dim=2)
        fill(collection, rows)
        collection.facet("a")
        for i, row in enumerate(later):
            collection.set_payload(row or {"a": "x"}, ids=[i])
        now = [p.payload for p in collection.get(np.arange(len(rows)))]
        for key in ALL_KEYS:
            assert repr(collection.facet(key, limit=1_000)) == repr(facet_of(now, key))
        assert repr(collection.facet("a", limit=2)) == repr(facet_of(now, "a")[:2])


def test_of_many_equal_strings_few_are_read(made: Collection) -> None:
    """As many strings as points, each longer than a dictionary takes: those of the first points are listed."""
    rows = [{"k": f"{i:05d}" + "x" * 70} for i in range(300)] + [{"k": "y" * 70}] * 2
    fill(made, rows)
    read: list[int] = []
    whole = Matcher.texts

    def counted(self: Matcher, digests: Any, path: Any, view: Any) -> Any:
        read.append(digests.values.size)
        return whole(self, digests, path, view)

    with patch("vicinal.faceting._READ_MAX", 20), patch.object(Matcher, "texts", counted):
        found = made.facet("k", limit=10)
    assert found == [("y" * 70, 2), *((row["k"], 1) for row in rows[:9])]
    assert read == [21]


def test_many_integers_tie_by_value(made: Collection) -> None:
    values = np.random.default_rng(4).permutation(2_000).tolist()
    fill(made, [{"k": value} for value in [*values, 7, 1 << 63, (1 << 63) + 1]])
    assert made.facet("k", limit=4) == [(7, 2), (0, 1), (1, 1), (2, 1)]
