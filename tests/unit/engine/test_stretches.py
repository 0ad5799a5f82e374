"""Filters that queries find in a sorted column answer as those planned for themselves, through every change."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.support.filter_plans import NUMBER, QUERIES, VECTORS, N, distances_of, fill

from vicinal.collection import Collection
from vicinal.database import Database

K = 10


@pytest.fixture(scope="module")
def asked() -> Iterator[Collection]:
    """Its columns sorted, which the background does in its own time."""
    with Database(":memory:") as database:
        collection = fill(database)
        collection._generation.matcher.keep_up(collection._view, lambda: False)
        yield collection


def _is_stretch(collection: Collection, text: str, **options: Any) -> bool:
    ready = collection._generation.planned.ready(
        collection._view, options.get("k", K), text, None, options.get("ef"), options.get("recall_target"), False
    )
    return ready.plan is None and ready.bits is None


def _same(collection: Collection, text: str, query: Any, k: int = K, **options: Any) -> tuple[list[Any], str]:
    """The ids of both answers, and the plan that explaining tells of."""
    told = collection.query(query, k, filter=text, explain=True, with_payload=False, **options)
    found = collection.query(query, k, filter=text, with_payload=False, **options)
    assert found.ids == told.ids
    np.testing.assert_array_equal(found.scores, told.scores)
    assert told.explain is not None
    return found.ids, told.explain["plan"]


@pytest.mark.parametrize("options", [{}, {"ef": 16}, {"ef": 400}, {"recall_target": 0.95}, {"k": 40}])
def test_they_answer_as_what_is_planned_for_itself(asked: Collection, options: dict[str, Any]) -> None:
    plans = set()
    for size in (1, 3, 40, 200, 2_000, 8_000, 15_000, N):
        for at, query in enumerate(QUERIES[:6]):
            low = (at * 3_001) % (N - size + 1)
            text = f"n between {low} and {low + size - 1}"
            assert _is_stretch(asked, text, **options)
            ids, plan = _same(asked, text, query, **options)
            plans.add(plan)
            matching = (low <= NUMBER) & (low + size > NUMBER)
            assert len(set(ids)) == len(ids) == min(options.get("k", K), size)
            assert matching[ids].all()
    assert {"list", "cells"} <= plans


@pytest.mark.parametrize("options", [{}, {"ef": 16}, {"recall_target": 0.95}])
def test_stretches_that_lie_apart_answer_as_what_is_planned_for_itself(
    asked: Collection, options: dict[str, Any]
) -> None:
    plans = set()
    for size in (1, 40, 2_000, 8_000, 15_000):
        for at, query in enumerate(QUERIES[:6]):
            low = (at * 3_001) % (N - size - 500)
            gaps = ", ".join(str(low + 7 * i) for i in range(30))
            for text, matching in (
                (f"not (n between {low} and {low + size})", (low > NUMBER) | (low + size < NUMBER)),
                (f"n in ({gaps})", np.isin(NUMBER, [low + 7 * i for i in range(30)])),
                (f"n >= {low} and not n between {low + 9} and {low + size}", _beyond(low, size)),
                (f"n < {size} or n >= {N - size}", (size > NUMBER) | (N - size <= NUMBER)),
            ):
                assert _is_stretch(asked, text, **options)
                ids, plan = _same(asked, text, query, **options)
                plans.add(plan)
                assert len(set(ids)) == len(ids) == min(K, int(matching.sum()))
                assert matching[ids].all()
    assert {"list", "cells"} <= plans


def _beyond(low: int, size: int) -> np.ndarray:
    matching: np.ndarray = (low <= NUMBER) & ~((low + 9 <= NUMBER) & (low + size >= NUMBER))
    return matching


@pytest.mark.parametrize("options", [{}, {"ef": 400}, {"recall_target": 0.95}, {"k": 40}])
def test_bits_are_answered_as_what_is_planned_for_itself(asked: Collection, options: dict[str, Any]) -> None:
    plans = set()
    for size in (0, 1, 30, 1_000, 8_000, 15_000):
        text = f"n < {size} and (n >= 0 or n < -1)"
        assert not _is_stretch(asked, text, **options)
        for query in QUERIES[:6]:
            ids, plan = _same(asked, text, query, **options)
            plans.add(plan)
            assert len(set(ids)) == len(ids) == min(options.get("k", K), size)
            assert (NUMBER[ids] < size).all()
    assert {"empty", "list", "cells"} <= plans


def test_bitmaps_are_kept_as_far_as_there_is_room(asked: Collection) -> None:
    planned, view = asked._generation.planned, asked._view
    room = planned.kept_bits
    try:
        for bits, kept in ((0, 0), (3 * N, 3)):
            planned.kept_bits = bits
            view.forget()
            known = len(view.stretched)
            for low in range(5):
                asked.query(QUERIES[0], filter=f"n < {1_000 + low} and (n >= 0 or n < -1)")
            assert len(view.stretched) == known
            filters = [one for one in view.prepared.values() if getattr(one, "bits", None) is not None]
            assert len({id(one) for one in filters}) <= kept
            assert bool(filters) == bool(kept)
    finally:
        planned.kept_bits = room


def test_nothing_matches(asked: Collection) -> None:
    assert _is_stretch(asked, "n > 99999999", recall_target=0.9)
    assert asked.query(QUERIES[0], filter="n > 99999999", recall_target=0.9).ids == []
    assert asked.query(QUERIES[0], filter="n > 99999999").ids == []


def test_what_is_read_by_address_is_kept_alive(asked: Collection) -> None:
    answers = [
        asked._generation.planned.ready(asked._view, K, f"n >= {i}", None, None, None, False).answer
        for i in range(0, N, 500)
    ]
    asked._view.stretched.clear()
    gc.collect()
    clutter = [np.full(10, -1, np.int64) for _ in range(4_000)]
    for i, answer in zip(range(0, N, 500), answers, strict=True):
        assert (NUMBER[answer.one(QUERIES[0])[0]] >= i).all()
    assert len(clutter) == 4_000


def test_threads_do_not_share_memory(asked: Collection) -> None:
    def ask(i: int) -> bool:
        low = i * 37 % 9_000
        ids: Any = asked.query(QUERIES[i % 60], filter=f"n between {low} and {low + 9_000}", with_payload=False).ids
        return bool(((NUMBER[ids] >= low) & (NUMBER[ids] <= low + 9_000)).all()) and len(ids) == K

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(400)))


def test_a_check_of_recall_looks_among_the_same(asked: Collection) -> None:
    checks = asked._generation.planned.checks
    for _ in range(3):
        checks._after = 0.0
        asked.query(QUERIES[5], filter="n < 2222", recall_target=0.9, with_payload=False)
        checks.wait()
    told = asked.query(QUERIES[5], filter="n < 2222", recall_target=0.9, explain=True).explain
    assert told is not None
    assert told["recall_checked"] >= 1
    assert 0.5 <= told["recall_estimate"] <= 1


def test_no_more_are_kept_than_fit(asked: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicinal.ready._STRETCHED_MAX", 3)
    for i in range(9):
        asked.query(QUERIES[0], filter=f"n > {i}")
        assert 1 <= len(asked._view.stretched) <= 3


def test_changes_are_seen_at_once(asked: Collection) -> None:
    """Deletes narrow a stretch; changed payloads and slots without codes are answered as ever. The last test here."""
    text, query = "n between 4000 and 13999", QUERIES[3]
    before: Any = asked.query(query, filter=text).ids
    asked.delete(before[:5])
    assert _is_stretch(asked, text)
    after, _ = _same(asked, text, query)
    expected = np.flatnonzero((NUMBER >= 4_000) & (NUMBER < 14_000) & ~np.isin(np.arange(N), before[:5]))
    near = expected[np.argsort(distances_of(query)[expected], kind="stable")[:K]]
    assert len(set(after) & set(near.tolist())) >= K - 1
    for other in ("not (n < 4000 or n > 13999)", "n >= 4000 and n <= 13999 and not n = -5"):
        assert _is_stretch(asked, other)
        assert _same(asked, other, query)[0] == after
    few = f"n between {NUMBER[before[6]]} and {NUMBER[before[6]] + 20}"
    assert before[6] in _same(asked, few, query)[0]
    asked.delete(filter=few)
    assert _same(asked, few, query)[0] == []
    asked.set_payload({"n": 5_000}, ids=[7])
    assert not _is_stretch(asked, text)
    assert 7 in asked.query(VECTORS[7], 2, filter="n = 5000").ids
    asked._generation.indexer._stop = True
    asked.upsert([N + 1], VECTORS[:1], [{"n": 5_001}])
    assert N + 1 in asked.query(VECTORS[0], 2, filter="n = 5001").ids
