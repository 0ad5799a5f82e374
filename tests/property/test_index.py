"""Graphs of any small shape hold what they were given and keep their invariants."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.vectors_oracle import FLOAT_METRICS, nearest, rows_of

from vicinal.index.check import check_graph
from vicinal.index.exact import exact_search
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import HnswParams

SHAPES = st.fixed_dictionaries(
    {
        "n": st.integers(0, 150),
        "dim": st.integers(1, 20),
        "M": st.integers(2, 12),
        "ef_construction": st.integers(1, 60),
        "values": st.integers(1, 60),  # few values: many copies and ties
        "seed": st.integers(0, 2**32 - 1),
        "metric": st.sampled_from(FLOAT_METRICS),
        "k": st.integers(1, 200),
        "ef": st.integers(1, 80),
        "alive": st.floats(0, 1),
    }
)


def _built(shape):
    rng = np.random.default_rng(shape["seed"])
    vectors = rng.integers(-shape["values"], shape["values"] + 1, (shape["n"], shape["dim"])).astype(np.float32)
    rows = rows_of(shape["metric"], vectors)
    params = HnswParams(shape["M"], shape["ef_construction"], shape["seed"])
    index = HnswIndex(shape["metric"], shape["dim"], params)
    for stop in sorted({*rng.integers(0, shape["n"] + 1, 3).tolist(), shape["n"]}):
        index.extend(rows, stop)
    return rng, rows, index


@settings(max_examples=150, deadline=None)
@given(SHAPES)
def test_invariants_and_answers(shape):
    rng, rows, index = _built(shape)
    n, metric = shape["n"], shape["metric"]
    index.mend(rows)
    assert check_graph(index.picture()).problems == []
    query = rng.standard_normal(shape["dim"]).astype(np.float32)
    slots, distances = search_graph(index.picture(), metric, rows, query, shape["k"], shape["ef"], limit=n)
    assert len(slots) <= min(shape["k"], n)
    assert len(np.unique(slots)) == len(slots)
    assert (np.diff(distances) >= 0).all()
    everything, _ = search_graph(index.picture(), metric, rows, query, max(n, 1), 1, limit=n)
    assert sorted(everything.tolist()) == list(range(n))
    alive = np.flatnonzero(rng.random(n) < shape["alive"])
    bits = slots_to_bits(alive, n)
    some, _ = search_graph(index.picture(), metric, rows, query, shape["k"], n, limit=n, allowed=bits)
    assert np.isin(some, alive).all()
    exact, _ = exact_search(metric, rows, query, shape["k"], start=0, stop=n, allowed=bits)
    expected, true = nearest(metric, rows.vectors, query, shape["k"], alive)
    assert len(exact) == len(expected)
    slack = 1e-4 * max(1.0, float(np.abs(true).max(initial=0)))
    assert (np.sort(true) + slack >= nearest(metric, rows.vectors, query, n, exact)[1]).all()


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_snapshots_hold_everything(shape):
    _, rows, index = _built(shape)
    params = index.params
    buffer = index.encode()
    again = HnswIndex.decode(buffer, index.metric, index.dim, params, shape["n"])
    assert again.encode() == buffer
    assert again.mend(rows) == index.mend(rows)
