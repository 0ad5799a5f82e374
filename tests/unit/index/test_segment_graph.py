"""Segment graphs hold the graph of every range: against graphs of the prefix alone and the heuristic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import Between, Keys
from vicinal.index.segment_graph import SegmentGraph
from vicinal.types import Metric

N, DIM, M = 160, 8, 4


def _built(n: int = N, **options: Any) -> tuple[SegmentGraph, np.ndarray]:
    vectors = clustered(N, DIM, seed=1, clusters=4)
    rows = rows_of(Metric.L2, vectors[:n])
    options = {"M": M, "ef_construction": 200} | options
    return SegmentGraph.build(rows, n, Metric.L2, Keys(np.arange(n)), **options), vectors


def _links(table, rank: int, low: int, stop: int, bound: int) -> list[int]:
    """The links of a rank that hold for a range, as the kernel reads them."""
    edges = table.edges[table.ends[rank] : table.ends[rank + 1]].astype(np.int64)
    holds = (edges[:, 0] >= low) & (edges[:, 0] < stop) & (edges[:, 1] <= bound) & (bound <= edges[:, 2])
    return edges[holds, 0].tolist()


def _heuristic(vectors: np.ndarray, rank: int, candidates: np.ndarray) -> set[int]:
    """Algorithm 4 of HNSW: nearest first, those nearer to the base than to all taken before."""
    near = ((vectors[candidates] - vectors[rank]) ** 2).sum(1)
    taken: list[int] = []
    for j in np.argsort(near):
        between = ((vectors[taken] - vectors[candidates[j]]) ** 2).sum(1)
        if len(taken) < M and (between >= near[j]).all():
            taken.append(int(candidates[j]))
    return set(taken)


def test_every_prefix_has_the_graph_it_would_have_alone() -> None:
    graph, _ = _built()
    for stop in (1, 2, 30, 77, 150, N):
        alone, _ = _built(stop)
        for rank in range(stop):
            expected = sorted(_links(alone._prefixes, rank, 0, stop, stop))
            assert sorted(_links(graph._prefixes, rank, 0, stop, stop)) == expected


def test_every_left_bound_has_the_neighbours_it_would_choose() -> None:
    graph, vectors = _built()
    for rank in range(1, N):
        for low in range(0, rank, 7):
            found = _links(graph._segments, rank, low, rank, low)
            assert len(set(found)) == len(found)
            assert set(found) == _heuristic(vectors, rank, np.arange(low, rank)), (rank, low)


def test_links_to_later_ranks_reverse_those_to_earlier_ones() -> None:
    graph, _ = _built()
    forward = {(rank, near) for rank in range(N) for near in _links(graph._segments, rank, 20, rank, 20)}
    later = {(near, rank) for rank in range(N) for near in _links(graph._segments, rank, rank, N, 20)}
    assert {(a, b) for a, b in forward if b >= 20} == {(a, b) for a, b in later if b >= 20}


def test_the_greatest_leap_is_smaller_and_its_links_stay_in_bounds() -> None:
    whole, lossy = _built()[0], _built(leap="maximum")[0]
    assert lossy.nbytes < whole.nbytes
    for graph in (whole, lossy):
        edges = graph._segments.edges
        assert (edges[:, 1] <= edges[:, 2]).all()


def test_small_ranges_are_scanned() -> None:
    """A range no candidate of which was linked is still answered in full."""
    vectors = clustered(2000, DIM, seed=2)
    rows = rows_of(Metric.L2, vectors)
    graph = SegmentGraph.build(rows, 2000, Metric.L2, Keys(np.arange(2000)), M=4, ef_construction=8)
    assert graph.scan == 1000
    for low in (0, 700, 1990):
        found, _ = graph.search(vectors[3], Between(low, low + 9), 10, 10)
        assert sorted(found.tolist()) == list(range(low, low + 10))


@pytest.mark.parametrize("options", [{"M": 1}, {"M": 65}, {"ef_construction": 7}, {"leap": "middle"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        _built(**options)
