"""Filters that defeat graphs, put to every method of the paper: where matches lie, how many there are, and copies."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.support.filtered_oracle import answer, label_sets
from tests.support.vectors_oracle import clustered, nearest, rows_of, true_distances

from vicinal.errors import InvalidArgument
from vicinal.index.acorn import AcornGamma, AcornOne
from vicinal.index.attributes import AllOf, AnyOf, Between, Condition, Keys, LabelSets, matching_mask
from vicinal.index.label_cells import LabelCells
from vicinal.index.label_graph import LabelGraph
from vicinal.index.range_tree import RangeTree
from vicinal.index.segment_graph import SegmentGraph
from vicinal.index.stitched import FilteredVamana, StitchedVamana
from vicinal.types import Metric

N, DIM, K, COPIES = 1200, 16, 10, 60
RNG = np.random.default_rng(4)
VECTORS = clustered(N, DIM, 7, clusters=12)
VECTORS[100 : 100 + COPIES] = VECTORS[100]
CENTRE = VECTORS[500]  # all queries are near it
QUERIES = (CENTRE + 0.2 * RNG.standard_normal((8, DIM))).astype(np.float32)
ROWS = rows_of(Metric.L2, VECTORS)
BY_DISTANCE = np.argsort(((VECTORS - CENTRE) ** 2).sum(1))


def _rows(slots: Any) -> np.ndarray:
    return np.isin(np.arange(N), slots)


MASKS = {
    "far clusters only": _rows(BY_DISTANCE[-N // 5 :]),
    "all but the near field": _rows(BY_DISTANCE[N // 20 :]),
    "the near field alone": _rows(BY_DISTANCE[:40]),
    "one row": _rows([777]),
    "a fifth": RNG.random(N) < 0.2,
    "half": RNG.random(N) < 0.5,
    "copies": _rows(np.arange(90, 110 + COPIES)),
    "as many as are asked for": _rows(RNG.permutation(N)[:K]),
    "none": _rows([]),
    "all": np.ones(N, np.bool_),
}
LABELLED: list[Any] = [AcornOne, AcornGamma, FilteredVamana, StitchedVamana, LabelGraph, LabelCells]
RANGED: list[Any] = [SegmentGraph, RangeTree]


@cache
def _by_labels(method: Any) -> tuple[Any, LabelSets]:
    """Label l: the l-th mask; one graph for all."""
    labels = label_sets([{at for at, mask in enumerate(MASKS.values()) if mask[slot]} for slot in range(N)])
    return method.build(ROWS, N, Metric.L2, labels), labels


def _by_keys(method: Any, mask: np.ndarray) -> tuple[Any, Keys]:
    """Matches have one key, the others lie on both sides of it: keys that repeat."""
    keys = Keys(np.where(mask, 1, np.arange(N) % 2 * 2))
    return method.build(ROWS, N, Metric.L2, keys, scan=0), keys


def _check(graph: Any, attribute: LabelSets | Keys, condition: Condition, ef: int = 100) -> None:
    """Of all queries: what holds of every answer, the full count, and nearly all of the nearest."""
    matches = np.flatnonzero(matching_mask(attribute, condition, N))
    found = []
    for query in QUERIES:
        slots = answer(graph, ROWS, attribute, (query, condition, K, ef), N)
        expected, _ = nearest(Metric.L2, VECTORS, query, K, matches)
        assert len(slots) == len(expected)
        true = true_distances(Metric.L2, VECTORS, query)
        last = true[expected].max(initial=0) * (1 + 1e-5)
        found.append((true[slots] <= last).mean() if len(slots) else 1.0)  # copies: as near, whichever they are
    assert np.mean(found) >= 0.95 and min(found) >= 0.8


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("method", LABELLED)
def test_labels(method: Any, name: str) -> None:
    graph, labels = _by_labels(method)
    _check(graph, labels, AnyOf((list(MASKS).index(name),)))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("method", RANGED)
def test_ranges_of_keys_that_repeat(method: Any, name: str) -> None:
    graph, keys = _by_keys(method, MASKS[name])
    _check(graph, keys, Between(1, 1))


@pytest.mark.parametrize("method", [AcornOne, AcornGamma, LabelGraph, LabelCells])
@pytest.mark.parametrize("pair", [("a fifth", "half"), ("a fifth", "far clusters only"), ("half", "one row")])
def test_two_labels_at_once(method: Any, pair: tuple[str, str]) -> None:
    graph, labels = _by_labels(method)
    _check(graph, labels, AllOf(tuple(list(MASKS).index(name) for name in pair)))


@pytest.mark.parametrize("method", [FilteredVamana, StitchedVamana, SegmentGraph, RangeTree])
def test_a_condition_that_a_method_cannot_answer_is_refused(method: Any) -> None:
    graph = _by_labels(method)[0] if method in LABELLED else _by_keys(method, MASKS["half"])[0]
    with pytest.raises(InvalidArgument):
        graph.search(QUERIES[0], AllOf((0, 1)), K, 50)


@pytest.mark.parametrize("method", [*LABELLED, *RANGED])
def test_a_wider_beam_never_finds_less(method: Any) -> None:
    graph, attribute = _by_labels(method) if method in LABELLED else _by_keys(method, MASKS["half"])
    condition: Condition = AnyOf((list(MASKS).index("half"),)) if method in LABELLED else Between(1, 1)
    among = np.flatnonzero(matching_mask(attribute, condition, N))
    found = []
    for ef in (10, 40, 160, 640):
        hits = 0
        for query in QUERIES:
            slots, _ = graph.search(query, condition, K, ef)
            hits += len(np.intersect1d(slots, nearest(Metric.L2, VECTORS, query, K, among)[0]))
        found.append(hits)
    assert found == sorted(found) and found[-1] >= 0.95 * K * len(QUERIES)
