"""A query planned once answers as one planned for itself, a batch as its rows; recall targets hold as measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vicinal
from vicinal import searching
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import InvalidArgument, InvalidVector, VicinalError
from vicinal.index.coded_batch import search_share
from vicinal.planner import default_ef

RNG = np.random.default_rng(11)
ROWS = RNG.standard_normal((11_000, 32)).astype(np.float32)
QUERIES = RNG.standard_normal((70, 32)).astype(np.float32)


@pytest.fixture(scope="module", params=["l2", "cosine", "dot"])
def made(request: Any) -> Any:
    """Points on codes with some deleted, ids partly strings, and a tail that the graph does not have."""
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=32, metric=request.param)
        collection.upsert(np.arange(10_400), ROWS[:10_400], [{"n": i % 10} for i in range(10_400)])
        assert collection.flush(100)
        collection.delete(list(range(0, 10_400, 9)))
        collection._generation.indexer._stop = True  # the tail stays
        ids = [f"t{i}" if i % 2 else 10_400 + i for i in range(600)]
        collection.upsert(ids, ROWS[10_400:], [{"n": i % 10} for i in range(600)])
        assert collection.info().tail == 600
        yield collection


def _plain(collection: Collection, query: Any, k: int, **options: Any) -> Any:
    """An answer planned for itself: explaining keeps nothing."""
    return collection.query(query, k, explain=True, with_payload=False, **options)


def test_what_is_kept_answers_as_what_is_planned_anew(made: Any) -> None:
    for query in QUERIES[:20]:
        for k, ef in ((1, None), (10, 40), (10, 41), (3, 200)):
            planned = _plain(made, query, k, ef=ef)
            for _ in range(2):
                kept = made.query(query, k, ef=ef, with_payload=False)
                assert kept.ids == planned.ids
                np.testing.assert_array_equal(kept.scores, planned.scores)
    assert (None, 10, 41, None, None) in made._view.prepared


def test_scores_are_those_of_the_vectors(made: Any) -> None:
    query = QUERIES[0].astype(np.float64)
    hits = made.query(QUERIES[0], 20, with_vectors=True)
    stored = np.array([hit.vector for hit in hits], np.float64)
    metric = made.schema.fields[""].metric
    expected = {
        "l2": np.linalg.norm(stored - query, axis=1),
        "dot": stored @ query,
        "cosine": stored @ query / np.linalg.norm(stored, axis=1) / np.linalg.norm(query),
    }[metric]
    np.testing.assert_allclose(hits.scores, expected, rtol=1e-5, atol=1e-5)
    own = made.query(hits[0].vector, 1)
    assert own.scores[0] <= 1 or metric != "cosine"


def test_a_later_view_plans_anew() -> None:
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=2, metric="l2")
        for i in range(5):
            collection.upsert([i], [[i, 0]])
            assert collection.query(np.zeros(2, np.float32), 9).ids == list(range(i + 1))
        collection.delete([0, 3])
        assert collection.query(np.zeros(2, np.float32), 9).ids == [1, 2, 4]


def test_no_more_is_kept_than_fits(made: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("vicinal.ready._KEPT_MAX", 3)
    made._view.prepared.clear()
    for k in range(1, 20):
        made.query(QUERIES[0], k)
        assert 1 <= len(made._view.prepared) <= 3


def test_what_equals_a_valid_option_is_still_refused(made: Any) -> None:
    made.query(QUERIES[0], 1, ef=1)
    made.query(QUERIES[0], 1, recall_target=1)
    refused: list[dict[str, Any]] = [{"k": True}, {"ef": True}, {"recall_target": True}, {"using": []}, {"k": [1]}]
    for options in refused:
        with pytest.raises((VicinalError, TypeError)):
            made.query(QUERIES[0], **{"k": 1, **options})


@pytest.mark.parametrize("bad", ["short", "nan", "zero", "wide"])
def test_a_bad_vector_is_refused_on_the_short_way_too(made: Any, bad: str) -> None:
    made.query(QUERIES[0], 10)
    query = {"short": QUERIES[0, :31], "wide": QUERIES[:1], "zero": QUERIES[0] * 0, "nan": QUERIES[0].copy()}[bad]
    if bad == "nan":
        query[3] = np.nan
    if bad == "zero" and made.schema.fields[""].metric != "cosine":
        assert len(made.query(query, 10)) == 10
        return
    with pytest.raises(InvalidVector):
        made.query(query, 10)


@pytest.mark.parametrize("filter", [None, "n < 5", "n = 3", ["n < 5", None] * 35], ids=str)
def test_a_batch_answers_as_its_rows_do(made: Any, filter: Any) -> None:
    filters = filter if isinstance(filter, list) else [filter] * len(QUERIES)
    for k in (1, 12):
        ids, scores, counts = made.query_batch(QUERIES, k, filter=filter, ef=60)
        for row, (query, one) in enumerate(zip(QUERIES, filters, strict=True)):
            hits = made.query(query, k, filter=one, ef=60, with_payload=False)
            assert ids[row, : counts[row]].tolist() == hits.ids
            np.testing.assert_array_equal(scores[row, : counts[row]], hits.scores)


def test_a_batch_shares_one_kernel_call_among_its_rows(made: Any, monkeypatch: Any) -> None:
    shares: list[tuple[int, int]] = []
    inner = search_share

    def counted(index: Any, queries: Any, ef: int, first: int, last: int, **rest: Any) -> None:
        shares.append((first, last))
        inner(index, queries, ef, first, last, **rest)

    monkeypatch.setattr(searching, "search_share", counted)
    made.query_batch(QUERIES, 5)
    shares.sort()
    assert [first for first, _ in shares] == [0, *(last for _, last in shares[:-1])]
    assert shares[-1][1] == len(QUERIES)
    assert len(shares) <= len(QUERIES) // 10


def test_rows_without_results_are_marked(made: Any) -> None:
    ids, scores, counts = made.query_batch(QUERIES[:2], 3, filter=["n = 77", "n = 1"])
    assert counts.tolist() == [0, 3]
    assert ids[0].tolist() == [None] * 3
    assert np.isnan(scores[0]).all()


@pytest.mark.parametrize("vectors", [QUERIES[:2] * np.float32(np.nan), QUERIES[:0], QUERIES[:, :3]])
def test_a_bad_batch_is_refused(made: Any, vectors: Any) -> None:
    with pytest.raises(VicinalError):
        made.query_batch(vectors, 3)


def test_a_row_of_length_zero_is_refused_under_cosine(made: Any) -> None:
    block = np.concatenate((QUERIES[:3], np.zeros((1, 32), np.float32)))
    if made.schema.fields[""].metric == "cosine":
        with pytest.raises(InvalidVector, match="row 3"):
            made.query_batch(block, 3)
    else:
        assert made.query_batch(block, 3)[2].tolist() == [3] * 4


def test_a_recall_target_is_reached_with_an_ef_that_explain_names(made: Any) -> None:
    efs = []
    for target in (0.8, 0.95, 0.99):
        found = 0
        for query in QUERIES:
            truth = made.query(query, 10, exact=True, with_payload=False).ids
            hits = _plain(made, query, 10, recall_target=target)
            found += len(set(hits.ids) & set(truth))
        assert hits.explain["recall_measured"] >= target
        efs.append(hits.explain["ef"])
        assert found / (10 * len(QUERIES)) >= target - 0.04
    assert efs == sorted(efs)
    assert efs[0] < efs[-1]
    more = _plain(made, QUERIES[0], 40, recall_target=0.95).explain["ef"]
    assert more > efs[1]
    ids, _, _ = made.query_batch(QUERIES[:2], 10, recall_target=0.95)
    assert ids[0].tolist() == made.query(QUERIES[0], 10, recall_target=0.95).ids


@pytest.mark.parametrize("target", [0, -0.5, 1.01, float("nan"), "0.9", True, [0.9]])
def test_a_target_that_is_no_share_is_refused(made: Any, target: Any) -> None:
    with pytest.raises(InvalidArgument, match="recall_target"):
        made.query(QUERIES[0], recall_target=target)
    with pytest.raises(InvalidArgument, match="recall_target"):
        made.query_batch(QUERIES[:2], recall_target=target)


def test_a_target_and_an_ef_exclude_each_other(made: Any) -> None:
    with pytest.raises(InvalidArgument, match="either"):
        made.query(QUERIES[0], ef=50, recall_target=0.9)


def test_where_nothing_was_measured_explain_says_so() -> None:
    with Database(":memory:") as database:
        few = database.create_collection("few", dim=32, metric=vicinal.Metric.L2)
        few.upsert(np.arange(3000), ROWS[:3000])
        assert few.flush(60)
        usual, hard = (
            dict(few.query(QUERIES[0], 5, recall_target=target, explain=True).explain or ()) for target in (0.9, 0.999)
        )
        assert (usual["plan"], usual["ef"], usual["recall_measured"]) == ("sweep", 128, None)
        assert hard["plan"] == "exact"


class _Table:
    """A graph that finds little at the usual width."""

    def __init__(self, found: float | None, wanted: int | None) -> None:
        self._found, self._wanted = found, wanted

    def recall_at(self, ef: int) -> float | None:
        assert ef in (128, 400)
        return self._found

    def ef_for(self, recall_target: float) -> int | None:
        assert recall_target == 0.95
        return self._wanted


def test_the_usual_width_grows_where_it_finds_too_little() -> None:
    def width(found: float | None, wanted: int | None, k: int = 10) -> int:
        graph: Any = _Table(found, wanted)
        return default_ef(k, graph)

    assert default_ef(10) == width(None, None) == width(0.95, 300) == 128
    assert width(0.7, 300) == 300
    assert width(0.7, 30) == 128
    assert width(0.7, 9000) == 1024
    assert width(0.7, 300, k=200) == 400
