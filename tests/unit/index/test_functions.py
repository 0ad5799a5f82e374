"""Metrics that are functions: what may be registered, and what the walk makes of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest
from numba import njit
from tests.support.vectors_oracle import clustered, nearest, recall, rows_of, true_distances

from vicinal.errors import AlreadyExists, InvalidArgument
from vicinal.index.exact import exact_search, exact_search_list
from vicinal.index.functions import check_function, register_metric
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.index.spaces import space_at
from vicinal.kernels import beam
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import HnswParams, Metric, Rows

NO_NORMS = np.empty(0, np.float32)
WEIGHTS = np.linspace(0.5, 2, 8).astype(np.float32)


def snr(a, b):
    return np.var(a - b) / np.var(a)


@njit
def uphill(a, b):
    """Asymmetric: what the row has more than the query counts double."""
    total = np.float32(0)
    for i in range(len(a)):
        step = b[i] - a[i]
        total += 2 * step if step > 0 else -step
    return total


@njit(error_model="python")
def partial(a, b):
    """Raises where b[0] is 0, gives nan where b[1] is negative, infinity where it is above 1."""
    share = abs(a[0] - b[0]) / b[0]
    if b[1] > 1:
        return np.inf
    return share + np.sqrt(b[1])


def ball(a, b):
    """Distance in the Poincare ball."""
    across, one, other = 0.0, 0.0, 0.0
    for i in range(len(a)):
        across += (a[i] - b[i]) ** 2
        one += a[i] ** 2
        other += b[i] ** 2
    return np.arccosh(1 + 2 * across / ((1 - one) * (1 - other)))


def weighted(a, b):
    total = 0.0
    for i in range(8):
        total += WEIGHTS[i] * abs(a[i] - b[i])
    return total


for NAME, FUNCTION in (("snr", snr), ("uphill", uphill), ("partial", partial), ("ball", ball)):
    register_metric(NAME, FUNCTION)


def plain(name: str, vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    x, q = vectors.astype(np.float64), query.astype(np.float64)
    if name == "snr":
        return (x - q).var(axis=1) / q.var()
    if name == "uphill":
        return (np.maximum(x - q, 0) * 2 + np.maximum(q - x, 0)).sum(axis=1)
    inside = (1 - (x**2).sum(axis=1)) * (1 - (q**2).sum())
    return np.arccosh(1 + 2 * ((x - q) ** 2).sum(axis=1) / inside)


def vectors_for(name: str, n: int, dim: int) -> np.ndarray:
    x = clustered(n, dim, 4)
    return x * np.float32(0.9 / np.linalg.norm(x, axis=1).max()) if name == "ball" else x


@pytest.mark.parametrize("dim", [2, 7, 33])
@pytest.mark.parametrize("name", ["snr", "uphill", "ball"])
def test_scans_and_walks_agree_with_numpy(name, dim):
    vectors = vectors_for(name, 1500, dim)
    rows, metric = Rows(vectors, NO_NORMS), Metric(name)
    index = HnswIndex(metric, dim, HnswParams(ef_construction=64))
    index.extend(rows, 1500)
    found = 0.0
    alive = np.arange(0, 1500, 3)
    bits = slots_to_bits(alive, 1500)
    for query in vectors[::100] + np.float32(0.01):
        true = plain(name, vectors, query)
        slots, distances = exact_search(metric, rows, query, 10, start=0, stop=1500)
        np.testing.assert_allclose(distances, np.sort(true)[:10], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(distances, true[slots], rtol=2e-4, atol=2e-5)
        listed, _ = exact_search_list(metric, rows, query, 10, alive.astype(np.uint32))
        assert np.isin(listed, alive).all()
        np.testing.assert_allclose(np.sort(true[listed]), np.sort(true[alive])[:10], rtol=2e-4, atol=2e-5)
        near, _ = search_graph(index.picture(), metric, rows, query, 10, 100, limit=1500)
        found += recall(near, slots) / 15
        some, _ = search_graph(index.picture(), metric, rows, query, 10, 200, limit=1500, allowed=bits)
        assert np.isin(some, alive).all()
    assert found > 0.95


def test_haversine_in_kilometres():
    rng = np.random.default_rng(1)
    places = np.column_stack([rng.uniform(-90, 90, 2000), rng.uniform(-180, 180, 2000)]).astype(np.float32)
    places[:4] = [[52.52, 13.405], [48.8566, 2.3522], [0, 179.9], [0, -179.9]]
    rows, metric = rows_of(Metric.HAVERSINE, places), Metric.HAVERSINE
    slots, km = exact_search(metric, rows, places[0], 2000, start=0, stop=2000)
    assert km[slots == 1] == pytest.approx(877.46, abs=0.5)  # Berlin to Paris
    _, near = exact_search(metric, rows, places[2], 2, start=0, stop=4)
    assert near[1] == pytest.approx(0.2 * 111.195, rel=1e-3)  # over the date line
    index = HnswIndex(metric, 2, HnswParams())
    index.extend(rows, 2000)
    for query in places[:50] * np.float32(0.99):
        expected, true = nearest(metric, places, query, 10)
        found, km = search_graph(index.picture(), metric, rows, query, 10, 100, limit=2000)
        assert recall(found, expected) == 1
        np.testing.assert_allclose(km, true, rtol=1e-3, atol=5e-3)
    np.testing.assert_allclose(true_distances(metric, places[:2], places[0]), [0, 877.46], atol=0.5)


def test_a_pair_without_a_distance_is_as_far_as_can_be():
    vectors = np.array([[2, 0], [0, 0], [4, -1], [8, 2], [3, 1]], np.float32)  # only 0 and 4 have one
    rows, metric = Rows(vectors, NO_NORMS), Metric("partial")
    slots, distances = exact_search(metric, rows, vectors[0], 5, start=0, stop=5)
    assert slots.tolist() == [0, 4, 1, 2, 3]
    assert distances[:2].tolist() == pytest.approx([0, 4 / 3])
    assert (distances[2:] == np.finfo(np.float32).max).all()


def test_rows_without_distances_stay_reachable():
    rng = np.random.default_rng(2)
    vectors = rng.choice([0, 1, 2, 3], (800, 2), p=[0.4, 0.2, 0.2, 0.2]).astype(np.float32)
    vectors[:300] = 0
    rows, metric = Rows(vectors, NO_NORMS), Metric("partial")
    index = HnswIndex(metric, 2, HnswParams(M=4, ef_construction=20))
    index.extend(rows, 800)
    index.mend(rows)
    everything, _ = search_graph(index.picture(), metric, rows, vectors[400], 800, 800, limit=800)
    assert sorted(everything.tolist()) == list(range(800))


def test_one_compiled_walk_serves_every_metric():
    before = len(beam.search.signatures)
    vectors = clustered(300, 8, 1)
    for metric in (Metric.L2, Metric.L1, Metric("snr"), Metric("uphill")):
        rows = rows_of(metric, vectors)
        index = HnswIndex(metric, 8, HnswParams(M=4, ef_construction=20))
        index.extend(rows, 300)
        search_graph(index.picture(), metric, rows, vectors[0], 5, 20, limit=300)
    assert len(beam.search.signatures) == max(before, 1)


def test_the_same_rows_under_another_metric_are_another_space():
    rows = Rows(clustered(20, 4, 1), NO_NORMS)
    assert space_at(Metric("snr"), rows)
    one, _ = exact_search(Metric("snr"), rows, rows.vectors[3], 20, start=0, stop=20)
    other, _ = exact_search(Metric("uphill"), rows, rows.vectors[3], 20, start=0, stop=20)
    assert one.tolist() != other.tolist()


def raises(a, b):
    raise ValueError("no such thing")


def gives_nan(a, b):
    return np.sqrt(-1.0 - a[0] * b[0])


def gives_a_pair(a, b):
    return a[0], b[0]


def writes(a, b):
    a[0] = 0
    return b[0]


def reads_beyond(a, b):
    return a[8] - b[8]


def not_numba(a, b):
    return {str(x) for x in a} | set(map(repr, b))


@njit(parallel=True)
def in_parallel(a, b):
    return np.abs(a - b).sum()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (raises, "no such thing"),
        (gives_nan, "gives nan"),
        (gives_a_pair, "tuple, not a number"),
        (writes, "changes its arguments"),
        (reads_beyond, "IndexError"),
        (njit(reads_beyond), "IndexError"),
        (not_numba, "cannot compile"),
        (lambda a: a[0], "cannot compile|argument"),
        (in_parallel, "parallel=True"),
        (np.add, "."),
        (7, "cannot be called"),
    ],
    # names, because processes that share the tests must find them called alike
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", str(value)),
)
def test_what_will_not_do_is_refused_and_leaves_no_name(function, why):
    with pytest.raises(InvalidArgument, match=why):
        register_metric("unfit", function)
    with pytest.raises(ValueError, match="unfit"):
        Metric("unfit")


@pytest.mark.parametrize("name", ["", "a b", "l2", "cosine", "haversine", "ip", "hamming", "x" * 65, 7, None])
def test_names_are_checked(name):
    with pytest.raises(InvalidArgument, match=r"name|built in"):
        register_metric(name, snr)


def test_a_name_keeps_its_function():
    there: dict[str, Any] = {"np": np}
    cell = "def spread(a, b):\n    return np.var(a {} b) / np.var(a)\n"
    for _ in range(2):  # as a notebook's cell, run twice
        exec(cell.format("-"), there)
        register_metric("spread", there["spread"])
    exec(cell.format("+"), there)
    for other in (there["spread"], numba.njit(snr)):
        with pytest.raises(AlreadyExists, match="spread"):
            register_metric("spread", other)


def test_a_function_of_one_dimension():
    register_metric("weighted", weighted)
    check_function(Metric("weighted"), 8)
    with pytest.raises(InvalidArgument, match="4 numbers"):
        check_function(Metric("weighted"), 4)
    with pytest.raises(InvalidArgument, match="2 numbers"):
        register_metric("weighted_too", weighted, dim=2)


def test_members_are_shown_apart():
    assert Metric("snr") is Metric("snr")
    assert Metric("snr") not in list(Metric)
    assert str(Metric("snr")) == Metric("snr").value == "snr"
    assert not Metric("snr").is_coded


def test_importing_the_name_imports_no_numba():
    code = "import sys, vicinal; print('numba' in sys.modules); vicinal.register_metric; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
