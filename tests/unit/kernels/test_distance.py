from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from tests.support.vectors_oracle import FLOAT_METRICS, rows_of, true_distances

from vicinal.index.spaces import space_of
from vicinal.kernels import distance as kernel
from vicinal.types import Metric

DIMS = [*range(1, 70), 100, 127, 128, 129, 144, 255, 384, 500, 784, 1000, 1537]


@njit
def _raw(a, b, dim, limit):
    one = np.float32(0)
    return kernel.difference(one, a, b, dim), kernel.dot(a, b, dim), kernel.difference_within(one, a, b, dim, limit)


@njit
def _all(space, query, scale, out):
    for slot in range(out.shape[0]):
        out[slot] = kernel.distance(space, query, scale, slot)


def _pair(dim: int, offset: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two rows that begin anywhere and end where the memory may end."""
    rng = np.random.default_rng(dim)
    a, b = rng.standard_normal((2, dim + offset)).astype(np.float32)
    return a[offset:], b[offset:]


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_every_dimension_against_float64(offset):
    for dim in DIMS:
        a, b = _pair(dim, offset)
        x, y = a.astype(np.float64), b.astype(np.float64)
        l2, dot, _ = _raw(a.ctypes.data, b.ctypes.data, dim, np.float32(np.inf))
        assert l2 == pytest.approx(((x - y) ** 2).sum(), rel=1e-5, abs=1e-6), dim
        assert dot == pytest.approx(x @ y, rel=1e-5, abs=1e-5 * dim), dim


def test_symmetric_to_the_bit():
    for dim in DIMS:
        a, b = _pair(dim)
        limit = np.float32(np.inf)
        assert _raw(a.ctypes.data, b.ctypes.data, dim, limit) == _raw(b.ctypes.data, a.ctypes.data, dim, limit)
        copy = a.copy()
        assert _raw(a.ctypes.data, copy.ctypes.data, dim, limit)[0] == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999, 1.0, 1.1, np.inf])
def test_within_a_limit(share):
    for dim in DIMS:
        a, b = _pair(dim)
        full = _raw(a.ctypes.data, b.ctypes.data, dim, np.float32(np.inf))[0]
        limit = np.float32(np.float32(share) * np.float32(full))
        found = _raw(a.ctypes.data, b.ctypes.data, dim, limit)[2]
        assert (found == full) if full <= limit else (found > limit)


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize("dim", [1, 7, 16, 50, 384])
def test_the_three_metrics(metric, dim):
    vectors = np.random.default_rng(dim).standard_normal((40, dim)).astype(np.float32)
    query = vectors[3] * np.float32(2) + np.float32(0.25)
    rows = rows_of(metric, vectors)
    space, out = space_of(metric, rows), np.empty(40, np.float32)
    scale = np.float32(1 / np.linalg.norm(query)) if metric is Metric.COSINE else np.float32(1)
    _all(space, query.ctypes.data, scale, out)
    np.testing.assert_allclose(out, true_distances(metric, vectors, query), rtol=1e-4, atol=1e-4)


def test_a_zero_row_is_at_distance_one_under_cosine():
    rows = rows_of(Metric.COSINE, np.zeros((1, 5), np.float32))
    query, out = np.ones(5, np.float32), np.empty(1, np.float32)
    _all(space_of(Metric.COSINE, rows), query.ctypes.data, np.float32(1), out)
    assert out[0] == 1
