from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from vicinal.index.scratch import address, aligned
from vicinal.kernels.heap import pool_clear, pool_first_open, pool_insert
from vicinal.kernels.simd import INF_KEY


@njit
def _clear(pool, vectors):
    pool_clear(pool, vectors)


@njit
def _insert(pool, vectors, keys):
    for key in keys:
        pool_insert(pool, vectors, key)


@njit
def _first(pool, vectors):
    return pool_first_open(pool, vectors)


def _pool(vectors: int) -> np.ndarray:
    memory = aligned((8 * (vectors + 2),), np.int64, 77)  # eight of guard before, eight of canary behind
    _clear(address(memory) + 64, vectors)
    return memory


@pytest.mark.parametrize("vectors", [1, 2, 3, 7, 25])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 400])
def test_holds_the_smallest_in_order(vectors, count):
    keys = np.random.default_rng(count).integers(-(2**62), 2**62, count) & ~1
    memory = _pool(vectors)
    _insert(address(memory) + 64, vectors, keys)
    expected = np.full(8 * vectors, INF_KEY)
    best = np.sort(keys)[: 8 * vectors]
    expected[: len(best)] = best
    assert (memory[8:-8] == expected).all()
    assert (memory[-8:] == 77).all(), "wrote beyond the pool"


def test_equal_keys_are_kept():
    memory = _pool(2)
    _insert(address(memory) + 64, 2, np.array([4, 4, 2, 4], np.int64))
    assert memory[8:13].tolist() == [2, 4, 4, 4, INF_KEY]


@pytest.mark.parametrize("closed", [0, 1, 7, 8, 15, 16, 23, 24])
def test_first_open_entry(closed):
    memory = _pool(3)
    memory[8:] = np.arange(len(memory) - 8) * 2
    memory[8 : 8 + closed] |= 1
    assert _first(address(memory) + 64, 3) == closed


def test_an_empty_pool_has_no_open_entry():
    memory = _pool(3)
    assert _first(address(memory) + 64, 3) == 24
