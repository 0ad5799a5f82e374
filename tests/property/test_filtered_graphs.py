"""Graphs for ranges and labels, of any small shape: never a wrong slot, never one twice, all where none is cut off."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.filtered_graphs import checked_recall
from tests.support.vectors_oracle import METRICS, rows_of

from vicinal.index.attributes import AllOf, AnyOf, Between, Keys, LabelSets, matching_mask
from vicinal.index.label_cells import LabelCells
from vicinal.index.range_tree import RangeTree
from vicinal.index.segment_graph import SegmentGraph

SHAPES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 120),
        "dim": st.integers(1, 12),
        "values": st.integers(1, 60),  # few values: many copies and ties
        "seed": st.integers(0, 2**32 - 1),
        "metric": st.sampled_from(METRICS),
        "k": st.integers(1, 150),
        "ef": st.integers(1, 80),
    }
)
INT64 = np.iinfo(np.int64)
WHOLE = st.one_of(st.integers(-5, 5), st.integers(INT64.min, INT64.max))
REAL = st.floats(allow_nan=False, width=64)


def _drawn(shape):
    rng = np.random.default_rng(shape["seed"])
    vectors = rng.integers(-shape["values"], shape["values"] + 1, (shape["n"], shape["dim"])).astype(np.float32)
    return vectors, rows_of(shape["metric"], vectors), rng.standard_normal(shape["dim"]).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.data())
def test_ranges(shape, data):
    vectors, rows, query = _drawn(shape)
    n, metric = shape["n"], shape["metric"]
    kind, dtype = data.draw(st.sampled_from([(WHOLE, np.int64), (REAL, np.float64)]))
    keys = Keys(np.array(data.draw(st.lists(kind, min_size=n, max_size=n)), dtype))
    scan = data.draw(st.sampled_from([0, 10]))
    graphs = (
        SegmentGraph.build(rows, n, metric, keys, M=4, candidates=24, scan=scan),
        SegmentGraph.build(rows, n, metric, keys, M=4, candidates=24, scan=scan, leap="maximum"),
        RangeTree.build(rows, n, metric, keys, leaf=8, branching=2, scan=scan),
    )
    low, high = data.draw(kind), data.draw(kind)
    for graph in graphs:
        for condition in (Between(low, high), Between(-np.inf, high), Between(low, np.inf)):
            checked_recall(graph, metric, vectors, keys, query, condition, shape["k"], shape["ef"])
            if scan and matching_mask(keys, condition, n).sum() <= scan:
                assert checked_recall(graph, metric, vectors, keys, query, condition, shape["k"], shape["ef"]) == 1


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_labels(shape, asked):
    vectors, rows, query = _drawn(shape)
    n, metric = shape["n"], shape["metric"]
    has = np.random.default_rng(shape["seed"]).random((n, 4)) < (0.9, 0.5, 0.5, 0.1)
    labels = LabelSets(np.nonzero(has)[1].astype(np.uint32), np.cumsum(has.sum(1), dtype=np.int64))
    graph = LabelCells.build(rows, n, metric, labels, long=20)
    for condition in (AnyOf(tuple(asked)), AllOf(tuple(asked))):
        found = checked_recall(graph, metric, vectors, labels, query, condition, shape["k"], shape["ef"])
        assert found >= 0.99  # so few are settled on their vectors; ties may fall either way
