"""`codec="auto"` costs no more than half a point of recall against a walk on floats, whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import data_zoo

from vicinal.index.builder import build_links
from vicinal.index.exact import exact_search, exact_search_list
from vicinal.index.field_index import FieldIndex
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.types import HnswParams, Metric, Rows

ALLOWED = 0.005
ROUNDED = 2e-5  # of the vectors' squares; hardly one in a hundred by half as much
QUICK = [
    ("gaussian", 24, Metric.L2),
    ("tight", 24, Metric.COSINE),
    ("tight", 96, Metric.L2),
    ("islands", 24, Metric.L2),
    ("dominated", 96, Metric.L2),
    ("norms", 24, Metric.DOT),
    ("families", 96, Metric.L2),
    ("tiny", 3, Metric.L2),
    ("binary", 17, Metric.COSINE),
]
FULL = [
    (kind, dim, metric)
    for kind in data_zoo.KINDS
    for dim in (1, 2, 3, 8, 17, 128, 384)
    for metric in (Metric.L2, Metric.COSINE, Metric.DOT)
    if dim > 3 or metric is Metric.L2
] + [(kind, dim, Metric.COSINE) for kind in ("gaussian", "decaying", "sparse") for dim in (768, 1536, 4096)]


def losses(kind: str, n: int, dim: int, metric: Metric, efs: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """By ef: recall lost to a walk on floats over the same links, and what chance may add to it.

    What is found counts by its distance on floats; what codes say of that distance is true to `ROUNDED`.
    """
    rows, queries = data_zoo.make(kind, n, dim, metric)
    index: Any = FieldIndex(metric, dim, HnswParams(), coded_from=1000)
    while index.n < n:
        index.extend(rows, n, lambda: False)
    searcher = index.searcher()
    links = build_links(rows, n, metric, seed=42, fill=True)
    assert links is not None
    picture = HnswIndex.from_links(metric, dim, HnswParams(), links).picture()
    found = {ef: np.zeros(2) for ef in efs}
    for query in queries:
        last = float(exact_search(metric, rows, query, 10, start=0, stop=n)[1][-1])
        near = last + 1e-5 * abs(last) + (0 if metric is Metric.L2 else 2e-7)
        for ef in efs:
            floats = search_graph(picture, metric, rows, query, 10, ef, limit=n)[1]
            slots, said = searcher.search(query, 10, ef, rows=rows, limit=n, allowed=None)
            order, codes = exact_search_list(metric, rows, query, 10, slots)
            said = said[np.argsort(slots)][np.argsort(np.argsort(order))]
            assert (np.abs(said - codes) <= ROUNDED * squares(metric, rows, query, order) + 1e-30).all(), ef
            found[ef] += [(floats <= near).sum(), (codes <= near).sum()]
    asked = 10 * len(queries)
    recall = {ef: both / asked for ef, both in found.items()}
    return {ef: (r[0] - r[1], 2.5 * float(np.sqrt((r[0] * (1 - r[0]) + 0.002) / asked))) for ef, r in recall.items()}


def squares(metric: Metric, rows: Rows, query: NDArray[np.float32], slots: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The largest square of query, row, or all rows on average, which rounding is measured by; 1 under cosine."""
    if metric is Metric.COSINE:
        return np.ones(len(slots))
    every = np.einsum("ij,ij->", rows.vectors, rows.vectors, dtype=np.float64) / len(rows.vectors)
    own = np.square(rows.vectors[slots].astype(np.float64)).sum(1)
    return np.asarray(np.maximum(own, max(float(every), float(np.square(query.astype(np.float64)).sum()))))


@pytest.mark.parametrize(("kind", "dim", "metric"), QUICK)
def test_codes_lose_next_to_nothing(kind, dim, metric):
    for ef, (lost, chance) in losses(kind, 2500, dim, metric, (64, 128)).items():
        assert lost <= ALLOWED + chance, ef


@pytest.mark.full
@pytest.mark.parametrize(("kind", "dim", "metric"), FULL)
def test_codes_lose_next_to_nothing_of_any_data(kind, dim, metric):
    for ef, (lost, chance) in losses(kind, 10_000, dim, metric, (64, 128, 256)).items():
        assert lost <= ALLOWED + chance, ef
