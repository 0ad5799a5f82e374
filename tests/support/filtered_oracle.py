"""What every filtered graph must hold, whatever it is asked, and data to ask it on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tests.support.vectors_oracle import nearest, recall, true_distances

from vicinal.index.attributes import Condition, FilteredGraph, Keys, LabelSets, matching_mask
from vicinal.types import Metric, Rows

__all__ = ["answer", "label_sets", "mean_recall", "zipf_sets"]


def label_sets(sets: list[set[int]]) -> LabelSets:
    """Label sets from sets of Python."""
    codes = np.array([c for s in sets for c in sorted(s)], np.uint32)
    return LabelSets(codes, np.cumsum([len(s) for s in sets], dtype=np.int64))


def zipf_sets(n: int, seed: int, labels: int = 40, most: int = 3) -> LabelSets:
    """Label sets of Zipf's law: a few labels are common, most are rare; one row in twenty has none."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, n) * (rng.random(n) > 0.05)
    return label_sets([set(np.minimum(rng.zipf(1.6, c) - 1, labels - 1).tolist()) for c in counts])


def answer(
    graph: FilteredGraph,
    rows: Rows,
    attribute: LabelSets | Keys,
    asked: tuple[NDArray[np.float32], Condition, int, int],
    n: int,
    metric: Metric = Metric.L2,
) -> NDArray[np.uint32]:
    """The slots of an answer: matching, distinct, at most k, in order, the same when asked again."""
    query, condition, k, _ = asked
    slots, distances = graph.search(*asked)
    mask = matching_mask(attribute, condition, n)
    assert slots.dtype == np.uint32 and distances.dtype == np.float32
    assert len(slots) == len(distances) <= min(k, int(mask.sum()))
    assert mask[slots].all()
    assert len(np.unique(slots)) == len(slots)
    keys = list(zip(distances.tolist(), slots.tolist(), strict=True))
    assert keys == sorted(keys)
    np.testing.assert_allclose(distances, true_distances(metric, rows.vectors[:n], query)[slots], rtol=1e-3, atol=1e-4)
    again, _ = graph.search(*asked)
    assert again.tolist() == slots.tolist()
    return slots


def mean_recall(
    graph: FilteredGraph,
    rows: Rows,
    attribute: LabelSets | Keys,
    queries: NDArray[np.float32],
    condition: Condition,
    n: int,
    *,
    k: int = 10,
    ef: int = 100,
) -> float:
    """Mean recall@k against brute force; every answer is checked as well."""
    among = np.flatnonzero(matching_mask(attribute, condition, n))
    total = 0.0
    for query in queries:
        slots = answer(graph, rows, attribute, (query, condition, k, ef), n)
        total += recall(slots, nearest(Metric.L2, rows.vectors[:n], query, k, among)[0])
    return total / len(queries)
