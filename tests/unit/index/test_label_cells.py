"""Posting lists with cells of their own: what holds of every answer, and recall by how many labels are asked for."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tests.support.filtered_graphs import checked_recall
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index.attributes import AllOf, AnyOf, Between, Condition, Keys, LabelSets
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.label_cells import LabelCells
from vicinal.types import Metric

N, DIM, K, LONG = 4000, 24, 10, 800
SHARES = (0.6, 0.4, 0.3, 0.1, 0.01, 0.0005)  # of labels 0 .. 5; the first three are long


def _labels(n: int) -> LabelSets:
    has = np.random.default_rng(5).random((n, len(SHARES))) < SHARES
    return LabelSets(np.nonzero(has)[1].astype(np.uint32), np.cumsum(has.sum(1), dtype=np.int64))


@cache
def _made(metric: Metric) -> tuple[LabelCells, np.ndarray, LabelSets]:
    vectors, labels = clustered(N, DIM, seed=3), _labels(N)
    return LabelCells.build(rows_of(metric, vectors), N, metric, labels, long=LONG), vectors, labels


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE, Metric.DOT])
@pytest.mark.parametrize(
    "condition",
    [
        AnyOf((0,)), AnyOf((3,)), AnyOf((4,)), AnyOf((5,)), AnyOf((0, 3)), AnyOf((1, 2, 5, 9)),
        AllOf((2,)), AllOf((0, 1)), AllOf((1, 2)), AllOf((0, 3)), AllOf((3, 4)), AllOf((0, 1, 2)), AllOf((0, 9)),
    ],
)  # fmt: skip
def test_recall(metric: Metric, condition: Condition) -> None:
    graph, vectors, labels = _made(metric)
    rng = np.random.default_rng(2)
    found = []
    for _ in range(15):
        query = (vectors[rng.integers(N)] + rng.normal(0, 0.3, DIM)).astype(np.float32)
        found.append(checked_recall(graph, metric, vectors, labels, query, condition, K, 40))
    assert np.mean(found) >= 0.95


def test_every_match_is_found_when_all_are_asked_for() -> None:
    graph, vectors, labels = _made(Metric.L2)
    for condition in (AnyOf((0,)), AnyOf((4, 5)), AllOf((0, 1)), AllOf((0, 1, 2))):
        assert checked_recall(graph, Metric.L2, vectors, labels, vectors[1], condition, N, 10) == 1


def test_long_lists_have_cells_of_their_own() -> None:
    graph, _, labels = _made(Metric.L2)
    for label in range(len(SHARES)):
        posting = graph._postings[label]
        assert (posting.scan is not None) == (len(posting.slots) > LONG)
        if posting.scan is not None:
            assert posting.scan.lists is not None
            members = posting.scan.lists.members()
            assert sorted(members.order.tolist()) == posting.slots.tolist()
            assert len(members.starts) > 4
    assert graph.nbytes > 64 * N + labels.codes.nbytes


@pytest.mark.parametrize("n", [1, 2, 30])
def test_few_rows(n: int) -> None:
    vectors, labels = clustered(n, DIM, seed=n), _labels(n)
    graph = LabelCells.build(rows_of(Metric.L2, vectors), n, Metric.L2, labels, long=2)
    for condition in (AnyOf((0,)), AllOf((0, 1)), AnyOf((3, 4))):
        assert checked_recall(graph, Metric.L2, vectors, labels, vectors[0], condition, K, 40) == 1


def test_what_is_wrong_is_refused() -> None:
    graph, vectors, labels = _made(Metric.L2)
    rows = rows_of(Metric.L2, vectors)
    for condition in (Between(0, 1), AnyOf(()), AllOf(())):
        with pytest.raises(InvalidArgument):
            graph.search(vectors[0], condition, K, 40)
    with pytest.raises(LimitExceeded):
        graph.search(vectors[0], AnyOf((0,)), 0, 40)
    with pytest.raises(InvalidArgument):
        LabelCells.build(rows, N, Metric.L2, Keys(np.arange(N)))
    with pytest.raises(InvalidArgument):
        LabelCells.build(rows, N - 1, Metric.L2, labels)
    with pytest.raises(Cancelled):
        LabelCells.build(rows, N, Metric.L2, labels, cancel=lambda: True)
