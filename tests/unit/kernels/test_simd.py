from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from vicinal.kernels import simd


@njit
def _key(distance, slot):
    key = simd.make_key(distance, slot)
    return key, simd.key_distance(key), simd.key_slot(key)


@njit
def _memory(address):
    simd.publish_u32(address, 0xFFFFFFFE)
    simd.publish_fence()
    simd.set_u8(address + 4, 200)
    simd.set_u32(address + 8, 0x80000001)
    simd.set_f32(address + 12, np.float32(1.5))
    simd.set_i64(address + 16, -7)
    simd.prefetch(address)
    simd.prefetch_l2(address)
    return (
        simd.get_u32(address),
        simd.get_u8(address + 4),
        simd.get_u32(address + 8),
        simd.get_f32(address + 12),
        simd.get_i64(address + 16),
        simd.get_i32(address + 8),
    )


@njit
def _bits(word):
    return simd.lowest_bit(word), simd.popcount(word)


def test_keys_sort_as_distance_then_slot():
    values = [-np.inf, -3.4e38, -3.5, -1e-40, 0.0, 1e-40, 2.0, 3.4e38, np.inf]
    keys = [_key(np.float32(v), slot)[0] for v in values for slot in (0, 1, 2**31 - 2)]
    assert keys == sorted(keys)
    assert keys[-1] < simd.INF_KEY


@pytest.mark.parametrize("value", [-np.inf, -3.5, 0.0, 1e-40, 17.25, np.inf])
def test_keys_give_back_what_they_hold(value):
    _, distance, slot = _key(np.float32(value), 123456789)
    assert (distance, slot) == (np.float32(value), 123456789)


def test_minus_zero_ties_with_zero_and_nan_comes_last():
    assert _key(np.float32(-0.0), 5)[0] == _key(np.float32(0.0), 5)[0]
    for sign in (1, -1):
        assert _key(np.copysign(np.float32(np.nan), np.float32(sign)), 5)[1] == np.inf


def test_no_slot_for_the_filler():
    assert simd.INF_KEY & 1
    assert (simd.INF_KEY & 0xFFFFFFFF) >> 1 == 0x7FFFFFFF


def test_loads_and_stores_by_address():
    memory = np.zeros(4, np.int64)
    assert _memory(memory.ctypes.data) == (0xFFFFFFFE, 200, 0x80000001, 1.5, -7, -(2**31) + 1)


@pytest.mark.parametrize("word", [1, 0b1011000, -(2**63), -1])
def test_bits_of_a_word(word):
    text = f"{word & 0xFFFFFFFFFFFFFFFF:b}"
    assert _bits(word) == (len(text) - 1 - text.rindex("1"), text.count("1"))
