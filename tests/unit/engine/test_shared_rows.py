"""Collections whose near-copies share nodes: planned, filtered, grown, deleted from and opened as any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.near_copies import near_copies

from vicinal.database import Database
from vicinal.errors import InvalidArgument
from vicinal.index.shared_search import SharedSearcher
from vicinal.index.short import ShortSearcher
from vicinal.schema import Dense, Schema
from vicinal.types import Metric
from vicinal.view import DenseView

DIM, GROUPS = 64, 10_200
SPREAD = np.exp(-np.arange(DIM) / 20).astype(np.float32)  # most of what matters comes first
ROWS = near_copies(GROUPS, 3, DIM, 0.02, 3) * SPREAD
N, TAIL = len(ROWS) - 400, 400
NUMBER = np.random.default_rng(4).permutation(len(ROWS))
QUERIES = (ROWS[:60] + near_copies(60, 1, DIM, 0.0, 9) * SPREAD * 0.7).astype(np.float32)


@pytest.fixture(scope="module", params=[None, 48], ids=["whole", "leading"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A coded graph of leaders, some of them dead; the last points stay in the tail."""
    folder = tmp_path_factory.mktemp("shared")
    with Database(folder) as database:
        spec = Dense(DIM, metric=Metric.COSINE, share=0.05, search_dims=request.param)
        collection = database.create_collection("c", vectors={"": spec})
        payloads = [{"n": int(number)} for number in NUMBER]
        collection.upsert(np.arange(N), ROWS[:N], payloads[:N])
        assert collection.flush(300)
    with Database(folder) as database:  # from what was saved
        collection = database.collection("c")
        field = collection._view.fields[""]
        assert isinstance(field, DenseView)
        searcher = field.graph
        assert isinstance(searcher, SharedSearcher)
        assert isinstance(searcher.inner, ShortSearcher) == (request.param is not None)
        assert searcher.layout == "coded"
        collection.delete(searcher.groups.first[:2000].tolist())
        assert collection._generation.indexer.wait_retired(300)
        collection._generation.indexer._stop = True
        collection.upsert(np.arange(N, N + TAIL), ROWS[N:], payloads[N:])
        assert collection.info().tail == TAIL
        yield collection, request.param


@pytest.mark.parametrize("below", [len(ROWS), 20_000, 3_000, 300, 5])
def test_answers_are_full_allowed_and_nearly_exact(made, below):
    collection, dims = made
    least, found, plans = (0.995 if dims is None else 0.97), [], set()
    dead = set(range(N)) - alive(collection)
    text = None if below == len(ROWS) else f"n < {below}"
    for query in QUERIES:
        hits = collection.query(query, 10, filter=text, ef=400, explain=True, with_payload=False)
        true = collection.query(query, 10, filter=text, exact=True, with_payload=False)
        assert len(set(hits.ids)) == len(hits) == len(true)
        assert not dead & set(hits.ids)
        assert (NUMBER[hits.ids] < below).all()
        own = ROWS[hits.ids] / np.linalg.norm(ROWS[hits.ids], axis=1)[:, None] @ (query / np.linalg.norm(query))
        np.testing.assert_allclose(hits.scores, own, atol=1e-5)
        plans.add(hits.explain["plan"])
        found.append(np.isin(hits.ids, true.ids).mean())
    assert np.mean(found) >= least
    assert plans <= {"list", "cells", "sweep"}


def alive(collection: Any) -> set[int]:
    ids, offset = set(), None
    while True:
        page, offset = collection.scroll(limit=10_000, offset=offset)
        ids |= {point.id for point in page}
        if offset is None:
            return ids


def test_a_batch_and_a_recall_target_give_what_single_queries_give(made):
    collection, _ = made
    for options in ({}, {"filter": "n < 9000"}, {"recall_target": 0.95}):
        ids, _, counts = collection.query_batch(QUERIES, 10, **options)
        assert (counts == 10).all()
        for query, row in zip(QUERIES, ids, strict=True):
            assert row.tolist() == collection.query(query, 10, with_payload=False, **options).ids


def test_what_is_shared_is_told(made):
    collection, _ = made
    told = collection.info().fields[""]
    assert told["share"] == 0.05
    assert told["shared"]["rows"] == N
    assert GROUPS * 0.98 <= told["shared"]["groups"] <= GROUPS * 1.02
    assert told["shared"]["bytes_saved"] > 0


@pytest.mark.parametrize("bad", [-0.1, 0.6, 0.0001, True, "0.1", float("nan")])
def test_a_share_that_means_nothing_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="share"):
        Dense(8, share=bad)


def test_equal_rows_alone_share_under_metrics_without_a_length() -> None:
    with pytest.raises(InvalidArgument, match="equal vectors alone"):
        Dense(2, metric=Metric.HAVERSINE, share=0.1)
    assert Dense(2, metric=Metric.HAVERSINE, share=0).share == 0
    assert Dense(8, metric=Metric.L1, share=0.1).share == 0.1
    spec = Schema({"": Dense(8, share=0.1)})
    assert Schema.decode(spec.encode()) == spec
    assert Schema.decode(spec.encode().replace(b',"share":0.1', b"")).fields[""] == Dense(8)


@pytest.mark.parametrize(("dtype", "metric"), [("bit", "hamming"), ("float16", "cosine"), ("float32", "l1")])
def test_other_rows_share_too(dtype, metric):
    rng = np.random.default_rng(2)
    vectors = np.repeat(rng.standard_normal((1000, 64)), 3, axis=0) + 0.001 * rng.standard_normal((3000, 64))
    rows = vectors > 0 if dtype == "bit" else vectors.astype(dtype)
    with Database(":memory:") as database:
        made = database.create_collection("c", dim=64, metric=metric, dtype=dtype, share=0.05)
        made.upsert(range(3000), rows)
        assert made.flush(100)
        told = made.info().fields[""]["shared"]
        assert told["rows"] == 3000
        assert 950 <= told["groups"] <= 1020
        for i in range(0, 3000, 99):
            hits = made.query(rows[i], 3, with_payload=False)
            assert set(hits.ids) == {i, i + 1, i + 2}


def test_a_collection_all_of_whose_points_died_is_flushed() -> None:
    with Database(":memory:") as database:
        made = database.create_collection("c", dim=8, share=0.0)
        made.upsert(range(50), np.ones((50, 8), np.float32))
        made.delete(range(50))
        assert made.flush(100)
        made.upsert(range(50), np.ones((50, 8), np.float32))
        assert made.flush(100)
        assert len(made.query(np.ones(8), 60, with_payload=False)) == 50


def test_compaction_groups_the_living_anew(tmp_path) -> None:
    """Of each group of four equal points the first die; all of some groups; the others answer as before."""
    rng = np.random.default_rng(7)
    rows = np.repeat(rng.standard_normal((600, 16)), 4, axis=0).astype(np.float32)[rng.permutation(2400)]
    dead = np.zeros(2400, np.bool_)
    _, first, group_of = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    dead[first] = True
    dead[np.isin(group_of.ravel(), np.arange(50))] = True

    def check(collection: Any) -> None:
        for slot in np.flatnonzero(~dead)[:60]:
            equal = np.flatnonzero((rows == rows[slot]).all(axis=1) & ~dead)
            hits = collection.query(rows[slot], len(equal), with_payload=False)
            assert sorted(hits.ids) == equal.tolist()
        hits = collection.query(rows[first[0]], 10, filter="n < 1200", with_payload=False)
        assert (len(hits), max(hits.ids) < 1200, dead[hits.ids].any()) == (10, True, False)

    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=16, metric="l2", share=0.0)
        collection.upsert(range(2400), rows, [{"n": i} for i in range(2400)])
        assert collection.flush(100)
        collection.delete(np.flatnonzero(dead).tolist())
        check(collection)
        assert collection.compact() == dead.sum()
        assert collection.flush(100)
        told = collection.info()
        assert told.slots == 2400 - dead.sum()
        assert told.fields[""]["shared"]["rows"] == told.slots
        assert told.fields[""]["shared"]["groups"] == 550
        check(collection)
        assert collection.verify().ok
        extra = np.flatnonzero(dead)[:200]
        collection.upsert(extra.tolist(), rows[extra], [{"n": int(i)} for i in extra])
        dead[extra] = False
        assert collection.flush(100)
        check(collection)
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        assert collection.info().fields[""]["shared"]["rows"] == told.slots + 200
        check(collection)
