"""Fields that search leading dimensions: nothing is copied, filters are planned, answers are full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.index.short import ShortSearcher
from vicinal.schema import Dense
from vicinal.types import Metric
from vicinal.view import DenseView

N, DIM, DIMS, TAIL = 11_000, 64, 32, 200
RNG = np.random.default_rng(4)
SPREAD = np.exp(-np.arange(DIM) / 12)  # most of what matters comes first
ROWS = (RNG.standard_normal((N + TAIL, DIM)) * SPREAD).astype(np.float32)
QUERIES = (RNG.standard_normal((25, DIM)) * SPREAD).astype(np.float32)
NUMBER = RNG.permutation(N + TAIL)


@pytest.fixture(scope="module", params=["graph", "cells"])
def made(request: pytest.FixtureRequest) -> Any:
    """A collection under cosine whose last points stay in the tail."""
    with Database(":memory:") as database:
        field = Dense(DIM, metric=Metric.COSINE, search_dims=DIMS, layout=request.param)
        collection = database.create_collection("c", vectors={"": field})
        payloads = [{"n": int(number)} for number in NUMBER]
        collection.upsert(np.arange(N), ROWS[:N], payloads[:N])
        assert collection.flush(300)
        assert collection._generation.indexer.wait_retired(300)
        collection._generation.indexer._stop = True
        collection.upsert(np.arange(N, N + TAIL), ROWS[N:], payloads[N:])
        assert collection.info().tail == TAIL
        yield collection


def nearest(query: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], k: int) -> list[int]:
    unit = ROWS / np.linalg.norm(ROWS, axis=1)[:, None]
    among = np.flatnonzero(mask)
    return list(among[np.argsort(-(unit[among] @ query))[:k]])


def searched(collection: Collection) -> ShortSearcher:
    field = collection._view.fields[""]
    assert isinstance(field, DenseView)
    assert isinstance(field.graph, ShortSearcher)
    return field.graph


def test_leading_dimensions_are_read_where_the_rows_lie(made: Any) -> None:
    graph, field = searched(made), made._view.fields[""]
    assert graph.short.vectors.shape[1] == DIMS
    assert graph.short.vectors.strides == (DIM * 4, 4)
    assert np.shares_memory(graph.short.vectors, field.rows.vectors)
    assert graph.nbytes == graph.inner.nbytes + graph.short.inv_norms.nbytes


@pytest.mark.parametrize("count", [5, 100, 2_000, 6_000, 10_500])
def test_filters_are_planned_and_answers_full(made: Any, count: int) -> None:
    found = []
    for query in QUERIES:
        hits = made.query(query, 10, filter=f"n < {count}", explain=True)
        assert hits.explain["plan"] in ("list", "cells", "sweep")
        assert "answered_by" in hits.explain, "planned over codes"
        assert len(hits) == min(10, count)
        assert all(hit.payload["n"] < count for hit in hits)
        true = nearest(query, count > NUMBER, 10)
        found.append(np.isin(hits.ids, true).mean())
        unit = ROWS[hits.ids] / np.linalg.norm(ROWS[hits.ids], axis=1)[:, None]
        np.testing.assert_allclose(hits.scores, unit @ query / np.linalg.norm(query), rtol=1e-4)
    assert np.mean(found) >= 0.95
    assert np.min(found) >= 0.6


def test_matches_that_oppose_the_query_are_found(made: Any) -> None:
    for query in QUERIES[:3]:
        far = nearest(-query, np.ones(N + TAIL, np.bool_), 400)
        hits = made.query(query, 10, filter={"has_id": [int(slot) for slot in far]})
        mask = np.zeros(N + TAIL, np.bool_)
        mask[far] = True
        assert np.isin(hits.ids, nearest(query, mask, 10)).mean() >= 0.9


def test_a_query_without_leading_dimensions_is_answered(made: Any) -> None:
    query = np.concatenate([np.zeros(DIMS), np.ones(DIM - DIMS)]).astype(np.float32)
    hits = made.query(query, 10, filter="n < 5000", with_payload=False)
    assert set(hits.ids) == set(nearest(query, NUMBER < 5000, 10))


def test_a_batch_gives_what_single_queries_give(made: Any) -> None:
    ids, _, counts = made.query_batch(QUERIES, 10, filter="n < 700")
    for query, row in zip(QUERIES, ids, strict=True):
        assert row.tolist() == made.query(query, 10, filter="n < 700", with_payload=False).ids
    assert (counts == 10).all()
