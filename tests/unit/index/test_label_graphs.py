"""FilteredVamana, StitchedVamana and UNG against brute force, and what breaks their reference code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.filtered_oracle import answer, label_sets, mean_recall, zipf_sets
from tests.support.vectors_oracle import METRICS, clustered, nearest, recall, rows_of

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index import label_graph
from vicinal.index.attributes import AllOf, AnyOf, Between, Condition, Exactly, LabelSets, Marked, matching_mask
from vicinal.index.label_graph import LabelGraph
from vicinal.index.stitched import FilteredVamana, StitchedVamana
from vicinal.index.woven import RaggedLinks
from vicinal.types import Metric

N, DIM = 2000, 16
VECTORS = clustered(N + 40, DIM, 5)
ROWS, QUERIES = rows_of(Metric.L2, VECTORS[:N]), VECTORS[N:]
LABELS = zipf_sets(N, 3)
STITCHED: list[Any] = [FilteredVamana, StitchedVamana]
METHODS: list[Any] = [*STITCHED, LabelGraph]
_graphs: dict[Any, Any] = {}


def _built(method: Any) -> Any:
    if method not in _graphs:
        _graphs[method] = method.build(ROWS, N, Metric.L2, LABELS)
    return _graphs[method]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("method", METHODS)
def test_answers_hold(method: Any, data: st.DataObject) -> None:
    labels = tuple(data.draw(st.lists(st.integers(-1, 45), max_size=3)))
    kinds: list[Any] = [AnyOf, AllOf, Exactly] if method is LabelGraph else [AnyOf]
    condition: Condition = data.draw(st.sampled_from(kinds))(labels)
    query = data.draw(st.sampled_from(list(QUERIES)))
    k, ef = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 60))
    answer(_built(method), ROWS, LABELS, (query, condition, k, ef), N)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("condition", [AnyOf((0,)), AnyOf((1, 2)), AnyOf((5,)), AnyOf((9,)), AnyOf((3, 999))])
def test_recall(method: Any, condition: Condition) -> None:
    assert mean_recall(_built(method), ROWS, LABELS, QUERIES, condition, N) >= 0.95


@pytest.mark.parametrize(
    "condition", [AllOf((0,)), AllOf((0, 1)), AllOf((2, 0, 1)), AllOf(()), Exactly((0,)), Exactly(())]
)
def test_recall_of_sets(condition: Condition) -> None:
    assert mean_recall(_built(LabelGraph), ROWS, LABELS, QUERIES, condition, N, ef=150) >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_unknown_labels_and_refusals(method: Any) -> None:
    graph = _built(method)
    for condition in (AnyOf((999,)), AnyOf(()), AnyOf((-5, 1 << 40))):
        assert len(graph.search(QUERIES[0], condition, 10, 50)[0]) == 0
    for refused in (Between(0, 1), Marked(np.zeros(32, np.uint64))):
        with pytest.raises(InvalidArgument):
            graph.search(QUERIES[0], refused, 10, 50)
    with pytest.raises(InvalidArgument):
        method.build(ROWS, N, Metric.L2, label_sets([{1}]))
    with pytest.raises(InvalidArgument):
        method.build(ROWS, N, Metric.L2, LABELS, degree=2)
    with pytest.raises(InvalidArgument):
        method.build(ROWS, N, Metric.L2, LABELS, alpha=0.5)


@pytest.mark.parametrize("method", METHODS)
def test_every_slot_of_a_label_is_reached(method: Any) -> None:
    """With a beam as wide as the label, the whole label comes out: no slot is cut off."""
    graph = _built(method)
    for label in (0, 1, 4, 7, 20):
        count = int(matching_mask(LABELS, AnyOf((label,)), N).sum())
        slots, _ = graph.search(QUERIES[0], AnyOf((label,)), N, N)
        assert len(slots) >= 0.99 * count


@pytest.mark.parametrize("method", STITCHED)
def test_slots_of_many_labels_stay_in_each_of_them(method: Any) -> None:
    """Rows with forty labels, each label elsewhere: a prune to the nearest by degree alone loses most labels."""
    n, many = 1200, 12
    vectors = clustered(n, DIM, 9, clusters=40)
    rng = np.random.default_rng(2)
    sets = [{int(label)} for label in rng.integers(0, 40, n)]
    for slot in range(many):
        sets[slot] = set(range(40))
    rows, labels = rows_of(Metric.L2, vectors), label_sets(sets)
    graph = method.build(rows, n, Metric.L2, labels, degree=16)
    missed = 0
    for slot in range(many):
        for label in range(40):
            slots, _ = graph.search(vectors[slot], AnyOf((label,)), 1, 40)
            missed += int(slots.tolist() != [slot])
    assert missed <= 0.05 * many * 40


@pytest.mark.parametrize("method", STITCHED)
@pytest.mark.parametrize("many", [10, 40])
def test_recall_of_rows_with_many_labels_each(method: Any, many: int) -> None:
    """Every row has a tenth or four tenths of a hundred labels, so hardly two share all of theirs with a third."""
    n, rng = 800, np.random.default_rng(1)
    vectors = clustered(n + 20, DIM, 5)
    rows, labels = rows_of(Metric.L2, vectors[:n]), label_sets([set(rng.permutation(100)[:many]) for _ in range(n)])
    graph = method.build(rows, n, Metric.L2, labels)
    for label in (0, 7, 50):
        assert mean_recall(graph, rows, labels, vectors[n:], AnyOf((label,)), n, ef=50) >= 0.95


def test_too_many_labels_of_a_slot() -> None:
    for method in STITCHED:
        with pytest.raises(LimitExceeded, match="more labels"):
            method.build(ROWS, 2, Metric.L2, label_sets([set(range(97)), {1}]))


def test_label_sets_that_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_graph, "GROUPS_MAX", 10)
    with pytest.raises(LimitExceeded, match="distinct label sets"):
        LabelGraph.build(ROWS, 20, Metric.L2, LabelSets.of(np.arange(20)))


def test_supersets_without_room_are_entered_directly() -> None:
    """One row of label 0 and more minimal supersets than its row has room for: all of them are still found."""
    n = 600
    vectors = clustered(n, 8, 3)
    sets = [{0}, *({0, label} for label in range(1, n))]
    rows, labels = rows_of(Metric.L2, vectors), label_sets(sets)
    graph = LabelGraph.build(rows, n, Metric.L2, labels)
    assert sorted(graph.search(vectors[0], AllOf((0,)), n, n)[0].tolist()) == list(range(n))


def test_start_nodes_are_spread() -> None:
    """A slot with every label does not become the start of all of them."""
    sets = [set(range(30)), *({label} for label in range(30) for _ in range(20))]
    rows, labels = rows_of(Metric.L2, clustered(len(sets), 8, 3)), label_sets(sets)
    graph = FilteredVamana.build(rows, len(sets), Metric.L2, labels)
    assert np.bincount(graph._starts).max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_equal_rows_tiny_sets_and_rows_without_labels(method: Any) -> None:
    vectors = np.repeat(clustered(40, DIM, 8), 10, axis=0)
    rows, labels = rows_of(Metric.L2, vectors), LabelSets.of(np.arange(400) % 7)
    graph = method.build(rows, 400, Metric.L2, labels)
    for query in vectors[::40]:
        assert len(answer(graph, rows, labels, (query, AnyOf((3,)), 10, 100), 400)) == 10
    for n in (0, 1, 2, 5):
        tiny = method.build(rows, n, Metric.L2, LabelSets.of(np.zeros(n)))
        assert sorted(tiny.search(vectors[0], AnyOf((0,)), 9, 9)[0].tolist()) == list(range(n))
    bare = method.build(rows, 5, Metric.L2, label_sets([set()] * 5))
    assert len(bare.search(vectors[0], AnyOf((0,)), 9, 9)[0]) == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_metrics(method: Any, metric: Metric) -> None:
    rows = rows_of(metric, VECTORS[:N])
    graph = method.build(rows, N, metric, LABELS)
    among = np.flatnonzero(matching_mask(LABELS, AnyOf((1,)), N))
    found = [
        recall(
            answer(graph, rows, LABELS, (query, AnyOf((1,)), 10, 100), N, metric),
            nearest(metric, VECTORS[:N], query, 10, among)[0],
        )
        for query in QUERIES
    ]
    assert np.mean(found) >= 0.9


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_graph(method: Any) -> None:
    again = method.build(ROWS, N, Metric.L2, LABELS)
    for mine, theirs in zip(again._search.arrays, _built(method)._search.arrays, strict=True):
        assert np.array_equal(mine, theirs)


def test_ragged_links_end_before_the_next_row() -> None:
    """Full lines keep a place for the end: a row of sixteen links must not run into the next."""
    sources = np.repeat([0, 2], [16, 700])
    targets = np.arange(716)
    links = RaggedLinks.of(sources, targets, 4)
    owners, kept = links.pairs()
    assert np.bincount(owners, minlength=4).tolist() == [16, 0, 495, 0]
    assert kept[:16].tolist() == list(range(16))
    assert np.diff(links.offsets).tolist() == [2, 1, 31, 1]


@pytest.mark.full
@pytest.mark.parametrize("method", METHODS)
def test_recall_at_size(method: Any) -> None:
    n = 30_000
    vectors = clustered(n + 100, 48, 11, clusters=200)
    rows, labels = rows_of(Metric.L2, vectors[:n]), zipf_sets(n, 4)
    graph = method.build(rows, n, Metric.L2, labels)
    for condition in (AnyOf((0,)), AnyOf((3,)), AnyOf((12,)), AnyOf((5, 6))):
        assert mean_recall(graph, rows, labels, vectors[n:], condition, n, ef=200) >= 0.9
