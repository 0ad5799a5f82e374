"""Collections through the public names: fields, filters, large fields on codes, multi-vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.model import maxsim

import vicinal
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import InvalidArgument, InvalidFilter, InvalidVector, LimitExceeded, NotFound
from vicinal.index.field_index import FloatSearcher
from vicinal.index.structure import removed_slots
from vicinal.view import DenseView

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def large() -> Any:
    """12,000 points of 24 dimensions, enough for the coded layout; every 7th has no `rare` vector."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((12_000, 24)).astype(np.float32)
    fields = {"usual": vicinal.Dense(24), "rare": vicinal.Dense(24, metric=vicinal.Metric.L2)}
    with Database(":memory:") as database:
        made = database.create_collection("c", vectors=fields)
        for first in range(0, 12_000, 3000):
            ids = np.arange(first, first + 3000)
            payloads = [{"n": int(i) % 100, "odd": bool(i % 2)} for i in ids]
            some = ids % 7 != 0
            block = rows[first : first + 3000]
            kept = [p for p, s in zip(payloads, some, strict=True) if s]
            made.upsert(ids[some], {"usual": block[some], "rare": block[some]}, kept)
            kept = [p for p, s in zip(payloads, some, strict=True) if not s]
            made.upsert(ids[~some], {"usual": block[~some]}, kept)
        assert made.flush(100)
        yield made, rows


def _recall(made: Collection, rows: np.ndarray[Any, Any], **options: Any) -> float:
    found = 0
    for q in rows[:100] + np.float32(0.01):
        near = made.query(q, 10, using="usual", with_payload=False, **options).ids
        truth = made.query(q, 10, using="usual", with_payload=False, **{**options, "exact": True}).ids
        found += len(set(near) & set(truth))
    return found / 1000


def test_a_large_field_walks_on_codes_and_finds(large: Any) -> None:
    made, rows = large
    hits = made.query(rows[5], 10, using="usual", explain=True)
    assert hits.explain["plan"] == "sweep"
    assert hits[0].id == 5
    assert made._view.fields["usual"].graph.layout == "coded"
    assert _recall(made, rows) > 0.95
    assert _recall(made, rows, filter="odd = true") > 0.95


@pytest.mark.parametrize(
    "filter_", ["n = 5", "n < 50 and odd = true", "not n < 99", {"must": {"has_id": [3, 4, 10**9]}}]
)
def test_filters_return_all_that_match(large: Any, filter_: Any) -> None:
    made, rows = large
    count = made.count(filter_)
    hits = made.query(rows[0], 150, using="usual", filter=filter_)
    assert len(hits) == min(150, count) > 0
    assert len(set(hits.ids)) == len(hits)


def test_points_without_the_field_are_never_returned(large: Any) -> None:
    made, rows = large
    for q in rows[:50]:
        hits = made.query(q, 20, using="rare", with_payload=False)
        assert len(hits) == 20
        assert all(int(i) % 7 for i in hits.ids)
    assert made.get([7], with_vectors=True)[0].vector.keys() == {"usual"}


def test_deleted_points_are_gone_from_codes(large: Any) -> None:
    made, rows = large
    assert made.query(rows[9], 1, using="usual")[0].id == 9
    assert made.delete([9]) == 1
    assert made.query(rows[9], 1, using="usual")[0].id != 9
    made.upsert([9], {"usual": rows[9:10], "rare": rows[9:10]}, [{"n": 9, "odd": True}])
    assert made.query(rows[9], 1, using="usual")[0].id == 9
    assert made.flush(60)
    assert made.query(rows[9], 1, using="usual")[0].id == 9


def test_codes_survive_reopening(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((10_500, 16)).astype(np.float32)
    with Database(tmp_path / "db") as database:
        made = database.create_collection("c", dim=16, metric="dot")
        made.upsert(range(10_400), rows[:10_400])
        assert made.flush(100)
        made.upsert(range(10_400, 10_500), rows[10_400:])
        assert made.flush(100)
        before = [made.query(q, 10).ids for q in rows[:50]]
    with Database(tmp_path / "db") as database:
        made = database.collection("c")
        assert made.info().tail == 0
        assert made._view.fields[""].graph.layout == "coded"  # type: ignore[union-attr]
        after = [made.query(q, 10).ids for q in rows[:50]]
        same = sum(len(set(a) & set(b)) for a, b in zip(after, before, strict=True))
        assert same > 480


@pytest.mark.parametrize("store", ["int8", "float32"])
def test_multi_vectors(store: Any) -> None:
    arrays = np.load(SAMPLE / "tokens.npz", allow_pickle=False)
    offsets = arrays["offsets"]
    tokens = (arrays["tokens"].astype(np.float32) / 127)[: offsets[80]]
    matrices = [tokens[offsets[i] : offsets[i + 1]] for i in range(80)]
    with Database(":memory:") as database:
        made = database.create_collection("c", vectors={"t": vicinal.Multi(tokens.shape[1], store=store)})
        made.upsert(range(80), matrices, [{"even": i % 2 == 0} for i in range(80)])
        query = matrices[11][:8]
        for exact in (False, True):
            hits = made.query_multi(query, 5, exact=exact, explain=True)
            truth = sorted(range(80), key=lambda i: -maxsim(query, matrices[i]))[:5]
            assert hits.ids[0] == truth[0] == 11
            assert len(set(hits.ids) & set(truth)) >= 4
            stored = made.get([11], with_vectors=True)[0].vector["t"]
            assert hits[0].score == pytest.approx(maxsim(query, stored), abs=1e-4)
        assert len(made.query_multi(query, 60, filter="even = true")) == 40
        made.delete([11])
        assert 11 not in made.query_multi(query, 80).ids
        assert made.flush(60)
        assert len(made.query_multi(query, 100, rerank="none")) == 79


def test_query_batch(large: Any) -> None:
    made, rows = large
    ids, scores, counts = made.query_batch(rows[:3], 4, using="usual", filter=[None, "n = 1", "n = 12345"])
    assert ids.shape == scores.shape == (3, 4)
    assert counts.tolist() == [4, 4, 0]
    assert ids[0, 0] == 0
    assert np.isnan(scores[2]).all()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c, q: c.query(q, 0, using="usual"), InvalidArgument),
        (lambda c, q: c.query(q, -1, using="usual"), InvalidArgument),
        (lambda c, q: c.query(q, 1.5, using="usual"), InvalidArgument),
        (lambda c, q: c.query(q, 10_001, using="usual"), LimitExceeded),
        (lambda c, q: c.query(q, ef=5000, using="usual"), LimitExceeded),
        (lambda c, q: c.query(q[:3], using="usual"), InvalidVector),
        (lambda c, q: c.query(q * np.nan, using="usual"), InvalidVector),
        (lambda c, q: c.query(q * 0, using="usual"), InvalidVector),
        (lambda c, q: c.query(q, using="none"), NotFound),
        (lambda c, q: c.query(q), InvalidArgument),
        (lambda c, q: c.query_multi(q[None], using="usual"), InvalidArgument),
        (lambda c, q: c.query(q, using="usual", filter="n ="), InvalidFilter),
        (lambda c, q: c.query(q, using="usual", filter={"oops": []}), InvalidFilter),
        (lambda c, q: c.delete(), InvalidArgument),
        (lambda c, q: c.delete([1], filter="n = 1"), InvalidArgument),
        (lambda c, q: c.scroll(limit=0), InvalidArgument),
        (lambda c, q: c.query_batch([q, q], 3, using="usual", filter=["n = 1"]), InvalidArgument),
    ],
)
def test_bad_calls_are_refused_and_change_nothing(large: Any, call: Any, error: type[Exception]) -> None:
    made, rows = large
    seq = made.info().seq
    with pytest.raises(error):
        call(made, rows[1])
    assert made.info().seq == seq


def test_more_than_there_is(large: Any) -> None:
    made, _ = large
    with Database(":memory:") as database:
        few = database.create_collection("few", dim=2)
        assert len(few.query([1, 2], 10)) == 0
        few.upsert([1], [[1, 2]])
        assert few.query([1, 2], 10).ids == [1]
    assert len(made) == 12_000


def test_deleted_and_replaced_points_leave_the_graph_in_the_background() -> None:
    rows = np.random.default_rng(4).standard_normal((1500, 12)).astype(np.float32)
    with Database(":memory:") as database:
        made = database.create_collection("c", dim=12, metric="l2")
        made.upsert(range(1000), rows[:1000])
        made.flush(60)
        made.delete(ids=range(100))
        made.upsert(range(100, 300), rows[1000:1200])
        made.flush(60)
        assert made._generation.indexer.wait_retired(60)
        field = made._view.fields[""]
        assert isinstance(field, DenseView)
        assert isinstance(field.graph, FloatSearcher)
        assert removed_slots(field.graph.picture).nonzero()[0].tolist() == list(range(300))
        assert [made.query(row, 1).ids[0] for row in rows[300:400]] == list(range(300, 400))
        assert [made.query(row, 1).ids[0] for row in rows[1000:1100]] == list(range(100, 200))
