"""Graphs for ranges of keys: what holds of every answer, recall by the share of rows, and keys that repeat."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from tests.support.filtered_graphs import checked_recall
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index.attributes import AnyOf, Between, Keys
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.range_tree import RangeTree
from vicinal.index.segment_graph import SegmentGraph
from vicinal.types import Metric

N, DIM, K = 3000, 24, 10
METHODS: dict[str, Callable[..., Any]] = {
    "segments": partial(SegmentGraph.build, scan=0, candidates=64),
    "segments, greatest leap": partial(SegmentGraph.build, leap="maximum", scan=0, candidates=64),
    "tree": partial(RangeTree.build, leaf=64, scan=0),
}
INF = float("inf")


def _keys(kind: str, n: int) -> Keys:
    rng = np.random.default_rng(7)
    if kind == "distinct":
        return Keys(rng.permutation(n).astype(np.int64))
    if kind == "repeated":
        return Keys(rng.integers(0, 40, n))
    return Keys(rng.standard_normal(n))


@cache
def _made(method: str, kind: str = "distinct", n: int = N, metric: Metric = Metric.L2):
    vectors = clustered(n, DIM, seed=3)
    keys = _keys(kind, n)
    return METHODS[method](rows_of(metric, vectors), n, metric, keys), vectors, keys


def _mean_recall(method: str, kind: str, share: float, *, sided: bool, ef: int = 80) -> float:
    graph, vectors, keys = _made(method, kind)
    rng = np.random.default_rng(11)
    ordered = np.sort(keys.values)
    total = 0.0
    for _ in range(25):
        query = (vectors[rng.integers(N)] + rng.normal(0, 0.3, DIM)).astype(np.float32)
        width = max(int(share * N), 1)
        first = 0 if sided else int(rng.integers(0, N - width + 1))
        low = -INF if sided else ordered[first].item()
        total += checked_recall(
            graph, Metric.L2, vectors, keys, query, Between(low, ordered[first + width - 1].item()), K, ef
        )
    return total / 25


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 1.0])
def test_recall_without_scans(method: str, share: float) -> None:
    assert _mean_recall(method, "distinct", share, sided=False) >= 0.9
    assert _mean_recall(method, "distinct", share, sided=True) >= 0.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["repeated", "real"])
def test_recall_with_other_keys(method: str, kind: str) -> None:
    assert _mean_recall(method, kind, 0.3, sided=False) >= 0.9


@pytest.mark.parametrize("method", METHODS)
def test_odd_ranges(method: str) -> None:
    graph, vectors, keys = _made(method)
    check = partial(checked_recall, graph, Metric.L2, vectors, keys, vectors[5])
    assert check(Between(3, 2), K, 50) == 1  # nothing: an empty answer is a right one
    assert check(Between(N, INF), K, 50) == 1
    for key in (0, 17, N - 1):
        assert check(Between(key, key), K, 50) == 1
        assert len(graph.search(vectors[5], Between(key, key), K, 50)[0]) == 1
    assert check(Between(-INF, INF), 100, 200) >= 0.95
    found, _ = graph.search(vectors[5], Between(-INF, INF), 1, 50)
    assert found.tolist() == [5]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT])
def test_other_metrics(method: str, metric: Metric) -> None:
    graph, vectors, keys = _made(method, n=1200, metric=metric)
    values = [
        checked_recall(graph, metric, vectors, keys, vectors[q] + 0.1, Between(300, 900), K, 100) for q in range(20)
    ]
    assert np.mean(values) >= 0.9


@pytest.mark.parametrize("method", METHODS)
def test_equal_keys_and_equal_rows(method: str) -> None:
    """Every second row is one of three; the others must stay reachable beside them, in every range."""
    n = 1200
    vectors = clustered(n, DIM, seed=3)
    vectors[::2] = vectors[np.arange(0, n, 2) % 3]
    for values in (np.zeros(n, np.int64), np.arange(n)):
        graph = METHODS[method](rows_of(Metric.L2, vectors), n, Metric.L2, Keys(values))
        found = [
            checked_recall(graph, Metric.L2, vectors, Keys(values), vectors[q] + 0.2, condition, K, 100)
            for q in range(1, 60, 2)
            for condition in (Between(0, n), Between(200, 1000))
        ]
        assert np.mean(found) >= 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1, 2, 9, 40])
def test_few_rows(method: str, n: int) -> None:
    vectors = clustered(n, DIM, seed=n)
    keys = Keys(np.arange(n)[::-1].copy())
    graph = METHODS[method](rows_of(Metric.L2, vectors), n, Metric.L2, keys)
    query = np.ones(DIM, np.float32)
    for condition in (Between(-INF, INF), Between(0, n // 2), Between(n // 2, n)):
        assert checked_recall(graph, Metric.L2, vectors, keys, query, condition, K, 40) == 1


@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_those_of_the_same_build(method: str) -> None:
    graph, vectors, keys = _made(method, n=1200)
    again = METHODS[method](rows_of(Metric.L2, vectors), 1200, Metric.L2, keys)
    assert again.nbytes == graph.nbytes > 0
    condition = Between(100, 700)
    for q in range(10):
        assert (
            graph.search(vectors[q], condition, K, 20)[0].tolist()
            == again.search(vectors[q], condition, K, 20)[0].tolist()
        )


@pytest.mark.parametrize("method", METHODS)
def test_what_is_wrong_is_refused(method: str) -> None:
    graph, vectors, keys = _made(method, n=1200)
    rows = rows_of(Metric.L2, vectors)
    with pytest.raises(InvalidArgument):
        graph.search(vectors[0], AnyOf((1,)), K, 40)
    with pytest.raises(LimitExceeded):
        graph.search(vectors[0], Between(0, 900), 0, 40)
    with pytest.raises(LimitExceeded):
        graph.search(vectors[0], Between(0, 900), K, 10**9)
    with pytest.raises(ValueError, match="dimensions"):
        graph.search(vectors[0][:5], Between(0, 900), K, 40)
    with pytest.raises(InvalidArgument):
        METHODS[method](rows, 1300, Metric.L2, Keys(np.arange(1300)))
    with pytest.raises(Cancelled):
        METHODS[method](rows, 1200, Metric.L2, keys, cancel=lambda: True)
