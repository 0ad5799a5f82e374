"""Long pools against sorting."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from vicinal.index.coded_arrays import aligned
from vicinal.kernels import walk_pool
from vicinal.kernels.simd import INF_KEY

LEAST = -(1 << 63)


@njit(cache=False)
def insert_all(memory, vectors, keys):
    for key in keys:
        walk_pool.insert(memory.ctypes.data + 64, vectors, key)


@pytest.mark.parametrize("vectors", [1, 2, 39, 40, 41, 100])
@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal"])
def test_the_least_keys_stay_in_order(vectors, order):
    rng = np.random.default_rng(vectors)
    keys = rng.integers(-1000, 1 << 60, 8 * vectors + 150)
    keys[:5] = keys[5]
    if order == "equal":
        keys[:] = 7
    elif order != "random":
        keys = np.sort(keys)[:: 1 if order == "ascending" else -1].copy()
    memory = aligned((8 * vectors + 24,), np.int64)
    memory[:8] = LEAST
    memory[8:] = INF_KEY
    memory[8 + 8 * vectors :] = 5
    insert_all(memory, vectors, keys)
    assert (memory[8 : 8 + 8 * vectors] == np.sort(keys)[: 8 * vectors]).all()
    assert (memory[:8] == LEAST).all()
    assert (memory[8 + 8 * vectors :] == 5).all()


def test_taken_keys_at_the_front_stay_there():
    memory = aligned((8 + 8 * 40,), np.int64)
    memory[:8] = LEAST
    memory[8:] = np.arange(320) * 2
    memory[8:108] = LEAST
    insert_all(memory, 40, np.array([3, 221, 9999], np.int64))
    assert (memory[:108] == LEAST).all()
    assert memory[108] == 3
    assert 221 in memory
    assert (np.diff(memory[108:]) >= 0).all()
