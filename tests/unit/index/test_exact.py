from __future__ import annotations

import numpy as np
import pytest
from tests.support.vectors_oracle import FLOAT_METRICS, clustered, nearest, rows_of

from vicinal.index.exact import exact_search, exact_search_list
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import Metric

N, DIM = 700, 33
VECTORS = clustered(N, DIM, 1)
QUERY = clustered(1, DIM, 2)[0]
NONE = np.empty(0, np.uint32)


def _agrees(metric, found, among, k):
    slots, distances = nearest(metric, VECTORS, QUERY, k, among)
    assert found[0].dtype == np.uint32
    assert found[1].dtype == np.float32
    np.testing.assert_allclose(found[1], distances, rtol=1e-4, atol=1e-4)
    assert found[0].tolist() == slots.tolist()


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize(("start", "stop"), [(0, N), (5, 6), (63, 65), (64, 128), (100, 699), (0, 0), (9, 9)])
@pytest.mark.parametrize("k", [1, 8, 10, 1000])
def test_a_range(metric, start, stop, k):
    found = exact_search(metric, rows_of(metric, VECTORS), QUERY, k, start=start, stop=stop)
    _agrees(metric, found, np.arange(start, stop), k)


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize(("start", "stop"), [(0, N), (63, 65), (100, 699)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 1.0])
def test_a_range_of_allowed_slots(metric, start, stop, share):
    some = np.flatnonzero(np.random.default_rng(0).random(N) < share)
    found = exact_search(
        metric, rows_of(metric, VECTORS), QUERY, 10, start=start, stop=stop, allowed=slots_to_bits(some, N)
    )
    _agrees(metric, found, some[(some >= start) & (some < stop)], 10)


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 400])
def test_a_list(metric, count):
    some = np.random.default_rng(3).permutation(N)[:count].astype(np.uint32)
    found = exact_search_list(metric, rows_of(metric, VECTORS), QUERY, 10, some)
    _agrees(metric, found, some, 10)


def test_ties_go_by_slot():
    rows = rows_of(Metric.L2, np.zeros((50, 4), np.float32))
    query = np.ones(4, np.float32)
    assert exact_search(Metric.L2, rows, query, 9, start=3, stop=50)[0].tolist() == list(range(3, 12))
    backwards = np.arange(49, -1, -1, dtype=np.uint32)
    assert exact_search_list(Metric.L2, rows, query, 9, backwards)[0].tolist() == list(range(9))


@pytest.mark.parametrize("k", [0, -1])
def test_no_neighbours_asked_for(k):
    rows = rows_of(Metric.L2, VECTORS)
    assert len(exact_search(Metric.L2, rows, QUERY, k, start=0, stop=N)[0]) == 0
    assert len(exact_search_list(Metric.L2, rows, QUERY, k, np.arange(4, dtype=np.uint32))[0]) == 0


def test_values_that_overflow_do_not_spoil_the_order():
    vectors = np.array([[3e38, 3e38], [1, 1], [-3e38, 3e38], [2, 2]], np.float32)
    rows = rows_of(Metric.L2, vectors)
    slots, distances = exact_search(Metric.L2, rows, np.zeros(2, np.float32), 4, start=0, stop=4)
    assert slots.tolist() == [1, 3, 0, 2]
    assert distances.tolist() == [2, 8, np.inf, np.inf]
    slots, _ = exact_search(Metric.DOT, rows, np.array([3e38, 3e38], np.float32), 4, start=0, stop=4)
    assert set(slots.tolist()) == {0, 1, 2, 3}


def test_read_only_rows_are_searched_by_the_same_kernel():
    from vicinal.kernels.exact import scan_range

    rows = rows_of(Metric.L2, VECTORS)
    exact_search(Metric.L2, rows, QUERY, 3, start=0, stop=N)
    compiled = len(scan_range.signatures)
    frozen = VECTORS.copy()
    frozen.flags.writeable = False
    query = QUERY.copy()
    query.flags.writeable = False
    found = exact_search(Metric.L2, rows._replace(vectors=frozen), query, 3, start=0, stop=N)
    _agrees(Metric.L2, found, np.arange(N), 3)
    assert len(scan_range.signatures) == compiled


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (VECTORS.astype(np.float64), "float32"),
        (VECTORS[:, ::2], "each row whole"),
        (VECTORS[0], "capacity, dim"),
    ],
)
def test_refuses_arrays_it_would_misread(vectors, reason):
    rows = rows_of(Metric.L2, VECTORS)._replace(vectors=vectors)
    with pytest.raises(ValueError, match=reason):
        exact_search(Metric.L2, rows, QUERY, 3, start=0, stop=10)


def test_refuses_slots_beyond_the_rows():
    rows = rows_of(Metric.L2, VECTORS)
    with pytest.raises(ValueError, match="not all among"):
        exact_search(Metric.L2, rows, QUERY, 3, start=0, stop=N + 1)
    with pytest.raises(ValueError, match="not all among"):
        exact_search_list(Metric.L2, rows, QUERY, 3, np.array([N], np.uint32))
    with pytest.raises(ValueError, match="words"):
        exact_search(Metric.L2, rows, QUERY, 3, start=0, stop=N, allowed=np.zeros(10, np.uint64))
    with pytest.raises(ValueError, match="words"):
        exact_search(Metric.L2, rows, QUERY, 3, start=0, stop=N, allowed=np.zeros(N, np.int64))
    with pytest.raises(ValueError, match="not all among"):
        exact_search(Metric.L2, rows, QUERY, 3, start=-1, stop=N)
    cosine = rows_of(Metric.COSINE, VECTORS)
    with pytest.raises(ValueError, match="not all among"):
        exact_search(Metric.COSINE, cosine._replace(inv_norms=cosine.inv_norms[:-1]), QUERY, 3, start=0, stop=N)
    with pytest.raises(ValueError, match="shape"):
        exact_search(Metric.L2, rows, QUERY[:1], 3, start=0, stop=N)
    with pytest.raises(ValueError, match="shape"):
        exact_search(Metric.L2, rows, QUERY[:-1], 3, start=0, stop=N)
