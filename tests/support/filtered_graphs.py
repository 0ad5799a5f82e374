"""What every method of the filtered comparison owes its caller, checked against looking at each slot."""

from __future__ import annotations

import numpy as np
from tests.support.vectors_oracle import nearest, recall

from vicinal.index.attributes import Condition, FilteredGraph, Keys, LabelSets, matching_mask
from vicinal.types import Metric

__all__ = ["checked_recall"]


def checked_recall(
    graph: FilteredGraph,
    metric: Metric,
    vectors: np.ndarray,
    attribute: LabelSets | Keys,
    query: np.ndarray,
    condition: Condition,
    k: int,
    ef: int,
) -> float:
    """Search twice, check what holds of every answer, and return the recall."""
    matches = np.flatnonzero(matching_mask(attribute, condition, len(vectors)))
    slots, distances = graph.search(query, condition, k, ef)
    again, _ = graph.search(query, condition, k, ef)
    assert slots.dtype == np.uint32 and distances.dtype == np.float32 and len(slots) == len(distances)
    assert slots.tolist() == again.tolist()
    assert len(slots) <= min(k, len(matches))
    assert len(np.unique(slots)) == len(slots)
    assert np.isin(slots, matches).all()
    assert (np.lexsort((slots, distances)) == np.arange(len(slots))).all()
    expected, true = nearest(metric, vectors, query, k, matches)
    if len(slots) == len(expected) and np.allclose(distances, true, rtol=1e-4, atol=1e-4):
        return 1.0  # copies: as near, whichever they are
    return recall(slots, expected)
