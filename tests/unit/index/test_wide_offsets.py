"""Offsets of the paper's methods have 64 bits: their reference codes overflow 32 on millions of rows.

A graph is searched and built over arrays that are said to begin far below where they lie, so that all offsets are
beyond 2^31 and the addresses come out the same. Addresses are compared as numbers first: a narrowed one is not read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.support.filtered_oracle import zipf_sets
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import LimitExceeded
from vicinal.index import woven
from vicinal.index.attributes import AnyOf, Between, Keys
from vicinal.index.range_tree import RangeTree
from vicinal.index.scratch import address
from vicinal.index.segment_graph import SegmentGraph
from vicinal.index.stitched import FilteredVamana
from vicinal.index.woven import Labels, Loom, RaggedLinks, places_of
from vicinal.kernels.beam import Graph, row_of
from vicinal.kernels.range_tree import Tree, row_of_level
from vicinal.kernels.segments import Edges, first_edge
from vicinal.kernels.vamana import _room
from vicinal.types import Metric

FAR = (1 << 31) + 5
N, DIM = 2048, 12
VECTORS = clustered(N + 10, DIM, 5)
ROWS, QUERIES = rows_of(Metric.L2, VECTORS[:N]), VECTORS[N:]
KEYS = Keys(np.random.default_rng(1).permutation(N))
LABELS = zipf_sets(N, 3)


def test_links_of_a_segment_graph() -> None:
    ranks, ends = np.zeros(1, np.uint32), np.array([FAR * 4, FAR * 4 + 1])
    edges = Edges(0, address(ranks), address(ends), 1000, 0, 0, 1, 0)
    assert first_edge(edges, 0) == 1000 + FAR * 4 * 8
    graph = SegmentGraph.build(ROWS, N, Metric.L2, KEYS, scan=0, M=8, candidates=32)
    ranges = [Between(100, 1500), Between(-1, 1200), Between(900, 1100)]
    expected = [graph.search(query, range_, 10, 40)[0].tolist() for query in QUERIES for range_ in ranges]
    for name in ("_prefixes", "_segments"):
        table = getattr(graph, name)
        assert table.ends.dtype == np.int64
        ends, block = table.ends + FAR, table.block.copy()
        block[2:4] = address(ends), block[3] - FAR * 8
        setattr(graph, name, table._replace(ends=ends, block=block))
    found = [graph.search(query, range_, 10, 40)[0].tolist() for query in QUERIES for range_ in ranges]
    assert found == expected


def test_rows_of_a_range_tree() -> None:
    assert row_of_level(Tree(0, 0, 1000, FAR, 32, 3, 9, 2, 0, 1), 2, 7) == 1000 + (2 * FAR + 7) * 32 * 4
    graph = RangeTree.build(ROWS, N, Metric.L2, KEYS, scan=0)
    assert len(graph._links) == 2  # and the root alone is asked for all ranks
    everything = Between(0, N)
    expected = [graph.search(query, everything, 10, 40)[0].tolist() for query in QUERIES]
    graph._block[3] = FAR
    graph._block[2] -= (FAR - N) * graph._links.shape[2] * 4
    assert [graph.search(query, everything, 10, 40)[0].tolist() for query in QUERIES] == expected


class _Shifted(NamedTuple):
    """Ragged links whose lines are numbered from FAR on."""

    links: RaggedLinks
    offsets: np.ndarray

    @classmethod
    def of(cls, links: RaggedLinks) -> _Shifted:
        return cls(links, (links.offsets.astype(np.int64) + FAR).astype(np.uint32))

    def graph(self) -> Graph:
        graph = self.links.graph()
        return graph._replace(upper=graph.upper - FAR * 64, offsets=address(self.offsets))


def _check_rows() -> None:
    offsets = np.array([(1 << 32) - 40, (1 << 32) - 2], np.uint32)
    graph = Graph(0, 0, 16, 1000, 64, 16, address(offsets), 2)
    assert row_of(graph, 0, 1) == 1000 + ((1 << 32) - 40) * 64
    assert row_of(graph, 1, 3) == 1000 + (1 << 32) * 64
    assert _room(graph, 0) == 38 * 16 - 1
    assert places_of(offsets, np.array([3, 4])).tolist() == [((1 << 32) - 40) * 16 + 3, ((1 << 32) - 2) * 16 + 4]


def test_vamana_builds_and_searches_beyond_32_bits() -> None:
    _check_rows()
    built: list[Any] = []
    labels = Labels.of(LABELS)
    for shifted in (False, True):
        loom = Loom(ROWS, Metric.L2, N, degree=16, alpha=1.2, width=32, codes=labels.codes, ends=labels.ends, both=True)
        links = RaggedLinks.empty(loom.room(labels.counts))
        order = np.random.default_rng(3).permutation(N)[:600]
        starts = np.append(np.full(len(labels.known), order[0]), order[0])
        loom.insert(_Shifted.of(links) if shifted else links, order, starts, int(labels.counts.max()))  # type: ignore[arg-type]
        built.append(links.lines)
    assert np.array_equal(*built) and (built[0] != 0xFFFFFFFF).sum() > 5000
    graph = FilteredVamana.build(ROWS, N, Metric.L2, LABELS)
    expected = [graph.search(query, AnyOf((1,)), 10, 40)[0].tolist() for query in QUERIES]
    moved = _Shifted.of(RaggedLinks(*graph._search.arrays))
    graph._search._graph[:] = moved.graph()
    assert [graph.search(query, AnyOf((1,)), 10, 40)[0].tolist() for query in QUERIES] == expected


def test_links_beyond_32_bits_of_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert woven.LINES_MAX == (1 << 32) - 1  # an offset is the number of a line, and one more ends the last row
    monkeypatch.setattr(woven, "LINES_MAX", 10)
    assert RaggedLinks.empty(np.full(10, 15)).offsets[-1] == 10
    with pytest.raises(LimitExceeded, match="cache lines"):
        RaggedLinks.empty(np.full(11, 15))
