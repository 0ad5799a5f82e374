"""Many queries at once: the same answers as one by one, on any number of threads, over codes and over floats."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.errors import InvalidArgument, InvalidVector
from vicinal.flat_api import BFIndex, Index
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_batch import search_share
from vicinal.index.field_index import CodedSearcher

RNG = np.random.default_rng(8)
X = RNG.standard_normal((10_000, 20)).astype(np.float32)
QUERIES = RNG.standard_normal((100, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def coded() -> Index:
    index = Index("ip", 20)
    index.add_items(X)
    index.set_ef(100)
    assert isinstance(index._points.picture.graph, CodedSearcher)
    return index


def test_rows_are_answered_as_single_queries_are(coded):
    ones = [coded.knn_query(query, 10) for query in QUERIES]
    for threads in (1, 2, 50):
        labels, distances = coded.knn_query(QUERIES, 10, num_threads=threads)
        np.testing.assert_array_equal(labels, np.concatenate([one[0] for one in ones]))
        np.testing.assert_array_equal(distances, np.concatenate([one[1] for one in ones]))


def test_recall_over_codes(coded):
    truth = np.argsort(-(QUERIES @ X.T), axis=1)[:, :10]
    labels, distances = coded.knn_query(QUERIES, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(labels.tolist(), truth.tolist(), strict=True)]) > 0.95
    np.testing.assert_allclose(distances, 1 - np.einsum("qd,qkd->qk", QUERIES, X[labels.astype(int)]), atol=1e-4)


def test_deleted_points_are_left_out_of_batches(coded):
    index = Index.from_bytes(coded.to_bytes())
    best = set(index.knn_query(QUERIES, 3)[0].ravel().tolist())
    for label in best:
        index.mark_deleted(label)
    assert not best & set(index.knn_query(QUERIES, 10)[0].ravel().tolist())
    index.add_items(X[:1] * 30, [20_000])
    assert index.knn_query(X[:40], 1, num_threads=2)[0][0] == 20_000


def test_rows_that_come_out_short_are_answered_again(coded, monkeypatch):
    def short(index, queries, ef, start, stop, *, counts, **_):
        counts[start:stop] = 3

    expected = coded.knn_query(QUERIES, 10)
    monkeypatch.setattr("vicinal.searching.search_share", short)
    for mine, theirs in zip(coded.knn_query(QUERIES, 10), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("row", [0, 77, 99])
def test_a_row_that_cannot_be_compared_is_named(coded, bad, row):
    queries = QUERIES.copy()
    queries[row, 7] = bad
    with pytest.raises(InvalidVector, match=f"row {row} of data"):
        coded.knn_query(queries, 10, num_threads=2)


def test_rows_that_pass_the_check_though_the_kernel_was_not_sure_are_answered_alone(coded, monkeypatch):
    def unsure(index, queries, ef, start, stop, *, slots, counts, **_):
        slots[start:stop], counts[start:stop] = 0, 10
        return 1

    expected = coded.knn_query(QUERIES, 10)
    monkeypatch.setattr("vicinal.searching.search_share", unsure)
    for mine, theirs in zip(coded.knn_query(QUERIES, 10), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_walk_that_finds_too_few_is_followed_by_a_scan(coded, monkeypatch):
    monkeypatch.setattr(CodedIndex, "search", lambda *_, **__: (np.empty(0, np.uint32), np.empty(0, np.float32)))
    monkeypatch.setattr("vicinal.searching.search_share", lambda *_, **__: None)
    index = Index.from_bytes(coded.to_bytes())
    labels, _ = index.knn_query(QUERIES[0], 5)
    assert labels.tolist() == np.argsort(-(X @ QUERIES[0]))[None, :5].tolist()


def test_more_results_than_a_walk_gives(coded):
    labels, _ = coded.knn_query(QUERIES[:2], 10_002)
    assert (np.sort(labels[:, :10_000], axis=1) == np.arange(10_000)).all()
    assert (labels[:, 10_000:] == 2**64 - 1).all()


def test_no_queries_and_no_points(coded):
    labels, distances = coded.knn_query(np.empty((0, 20), np.float32), 4)
    assert labels.shape == distances.shape == (0, 4)
    labels, distances = Index("l2", 3).knn_query([[1, 2, 3]], 4)
    assert (labels == 2**64 - 1).all()
    assert np.isinf(distances).all()


def test_scans_over_threads():
    exact = BFIndex("l2", 20)
    exact.add_items(X)
    truth = np.argsort(((QUERIES[:40, None] - X[None]) ** 2).sum(-1), axis=1)[:, :5]
    for threads in (1, 2):
        np.testing.assert_array_equal(exact.knn_query(QUERIES[:40], 5, num_threads=threads)[0], truth)


def test_an_error_in_a_thread_comes_through(coded, monkeypatch):
    def fails(*_, **__):
        raise MemoryError

    monkeypatch.setattr("vicinal.searching.search_share", fails)
    with pytest.raises(MemoryError):
        coded.knn_query(QUERIES, 10, num_threads=2)


def test_a_share_refuses_what_its_kernel_would_misread(coded):
    picture = coded._points.picture
    slots, distances, counts = np.zeros((100, 5), np.uint32), np.zeros((100, 5), np.float32), np.zeros(100, np.int64)

    def share(queries=QUERIES, start=0, stop=100, limit=10_000, counts=counts, allowed=None):
        search_share(
            picture.graph.index, queries, 50, start, stop, rows=picture.rows, limit=limit, allowed=allowed,
            slots=slots, distances=distances, counts=counts,
        )  # fmt: skip

    share()
    assert (counts == 5).all()
    for queries in (QUERIES[:50], QUERIES.astype(np.float64), QUERIES[:, ::2].repeat(2, 1)[:, ::-1]):
        with pytest.raises(InvalidVector):
            share(queries=queries)
    for wrong in ({"stop": 101}, {"start": -1}, {"limit": 10**9}, {"counts": counts[:50]}, {"allowed": counts[:3]}):
        with pytest.raises(InvalidArgument):
            share(**wrong)
