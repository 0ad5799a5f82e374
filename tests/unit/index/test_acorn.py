"""ACORN-1 and ACORN-gamma against brute force, and the defects of the reference code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.filtered_oracle import answer, label_sets, mean_recall, zipf_sets
from tests.support.vectors_oracle import METRICS, clustered, nearest, recall, rows_of

from vicinal.errors import InvalidArgument
from vicinal.index.acorn import AcornGamma, AcornOne
from vicinal.index.attributes import AllOf, AnyOf, Between, Condition, Exactly, Keys, LabelSets, Marked
from vicinal.kernels.admission import label_range
from vicinal.kernels.beam import Graph, row_of
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import Metric

N, DIM = 2000, 16
VECTORS = clustered(N + 40, DIM, 5)
ROWS, QUERIES = rows_of(Metric.L2, VECTORS[:N]), VECTORS[N:]
LABELS = zipf_sets(N, 3)
METHODS = [AcornOne, AcornGamma]


@pytest.fixture(scope="module", params=METHODS)
def graph(request: Any) -> Any:
    return request.param.build(ROWS, N, Metric.L2, LABELS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("method", METHODS)
def test_answers_hold(method: Any, data: st.DataObject) -> None:
    graph = _built(method)
    labels = tuple(data.draw(st.lists(st.integers(0, 45), max_size=3)))
    some = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(N)[: data.draw(st.integers(0, N))]
    conditions: list[Condition] = [AnyOf(labels), AllOf(labels), Exactly(labels), Marked(slots_to_bits(some, N))]
    condition = data.draw(st.sampled_from(conditions))
    query = data.draw(st.sampled_from(list(QUERIES)))
    k, ef = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 60))
    answer(graph, ROWS, LABELS, (query, condition, k, ef), N)


_graphs: dict[Any, Any] = {}


def _built(method: Any) -> Any:
    if method not in _graphs:
        _graphs[method] = method.build(ROWS, N, Metric.L2, LABELS)
    return _graphs[method]


@pytest.mark.parametrize("condition", [AnyOf((0,)), AnyOf((1, 2)), AllOf((0, 1)), AnyOf((5,)), AnyOf((9,))])
def test_recall(graph: Any, condition: Condition) -> None:
    assert mean_recall(graph, ROWS, LABELS, QUERIES, condition, N) >= 0.95


def test_nothing_matches(graph: Any) -> None:
    for condition in (AnyOf((999,)), AnyOf(()), Marked(np.zeros((N + 63) // 64, np.uint64))):
        slots, distances = graph.search(QUERIES[0], condition, 10, 50)
        assert len(slots) == len(distances) == 0
    assert len(graph.search(QUERIES[0], AnyOf((0,)), 0, 50)[0]) == 0


def test_every_single_slot_is_found_where_it_alone_matches(graph: Any) -> None:
    """Entries come from the bitmap, so a lone match needs no way through the graph; the reference loses it."""
    for slot in range(0, N, 37):
        slots, _ = graph.search(QUERIES[0], Marked(slots_to_bits(np.array([slot]), N)), 10, 10)
        assert slots.tolist() == [slot]


def test_no_entry_is_returned_untested() -> None:
    """The reference returns its entry point whether it matches or not: here every other slot is asked for."""
    for method in METHODS:
        graph = _built(method)
        entry = graph._searches._entry
        but_one = Marked(slots_to_bits(np.delete(np.arange(N), entry), N))
        slots, _ = graph.search(VECTORS[entry], but_one, 10, 40)
        assert entry not in slots and len(slots) == 10


def test_far_matches_only(graph: Any) -> None:
    """The near field is excluded: what matches lies in other clusters, reached from several entries."""
    reached = []
    for query in QUERIES[:20]:
        order, _ = nearest(Metric.L2, VECTORS[:N], query, N)
        far = np.sort(order[N // 2 :])
        slots = answer(graph, ROWS, LABELS, (query, Marked(slots_to_bits(far, N)), 10, 100), N)
        reached.append(recall(slots, order[N // 2 : N // 2 + 10]))
    assert np.mean(reached) >= 0.9


def test_visited_marks_outlive_many_queries(graph: Any) -> None:
    """More searches than there are epochs: no mark of an old search hides a slot."""
    first = graph.search(QUERIES[0], AnyOf((0,)), 10, 50)[0].tolist()
    for _ in range(300):
        assert graph.search(QUERIES[0], AnyOf((0,)), 10, 50)[0].tolist() == first


@pytest.mark.parametrize("method", METHODS)
def test_equal_rows_and_tiny_sets(method: Any) -> None:
    vectors = np.repeat(clustered(40, DIM, 8), 10, axis=0)
    rows = rows_of(Metric.L2, vectors)
    labels = LabelSets.of(np.arange(400) % 7)
    graph = method.build(rows, 400, Metric.L2, labels)
    for query in vectors[::40]:
        slots = answer(graph, rows, labels, (query, AnyOf((3,)), 10, 100), 400)
        assert len(slots) == 10
    for n in (0, 1, 2, 5):
        tiny = method.build(rows, n, Metric.L2, LabelSets.of(np.zeros(n)))
        assert sorted(tiny.search(vectors[0], AnyOf((0,)), 9, 9)[0].tolist()) == list(range(n))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_metrics(method: Any, metric: Metric) -> None:
    rows = rows_of(metric, VECTORS[:N])
    graph = method.build(rows, N, metric, LABELS)
    mask = slots_to_bits(np.arange(0, N, 3), N)
    found = [
        recall(
            answer(graph, rows, LABELS, (query, Marked(mask), 10, 100), N, metric),
            nearest(metric, VECTORS[:N], query, 10, np.arange(0, N, 3))[0],
        )
        for query in QUERIES
    ]
    assert np.mean(found) >= 0.9


def test_keys_and_refusals() -> None:
    keys = Keys(np.arange(N) % 100)
    graph = AcornOne.build(ROWS, N, Metric.L2, keys)
    answer(graph, ROWS, keys, (QUERIES[0], Between(10, 30), 10, 50), N)
    with pytest.raises(InvalidArgument):
        graph.search(QUERIES[0], AnyOf((1,)), 10, 50)
    with pytest.raises(InvalidArgument):
        AcornOne.build(ROWS, N + 1, Metric.L2, keys)
    with pytest.raises(InvalidArgument):
        AcornGamma.build(ROWS, N, Metric.L2, label_sets([{1}]))
    with pytest.raises(InvalidArgument, match="M is at least"):
        AcornGamma.build(ROWS, N, Metric.L2, keys, M=64, gamma=12)


def test_same_seed_same_graph() -> None:
    again = AcornGamma.build(ROWS, N, Metric.L2, LABELS)
    for mine, theirs in zip(again._searches.arrays, _built(AcornGamma)._searches.arrays, strict=True):
        assert np.array_equal(mine, theirs)


def test_offsets_are_wide() -> None:
    """Rows of a graph so large that links * 4 bytes pass 2^31 are addressed in 64 bits."""
    graph = Graph(0, 256, 64, 0, 1024, 240, 0, 1 << 31)
    assert row_of(graph, (1 << 31) - 1, 0) == ((1 << 31) - 1) * 256
    assert label_range(0, 1 << 33) == (1 << 33, (1 << 33) + 1)


@pytest.mark.full
@pytest.mark.parametrize("method", METHODS)
def test_recall_at_size(method: Any) -> None:
    n = 30_000
    vectors = clustered(n + 100, 48, 11, clusters=200)
    rows, labels = rows_of(Metric.L2, vectors[:n]), zipf_sets(n, 4)
    graph = method.build(rows, n, Metric.L2, labels)
    for condition in (AnyOf((0,)), AnyOf((3,)), AllOf((0, 1)), AnyOf((12,))):
        assert mean_recall(graph, rows, labels, vectors[n:], condition, n, ef=200) >= 0.9
