from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from vicinal.kernels.bitset import bits_to_slots, count_bits, has_bit, slots_to_bits, words_of


@njit
def _has(words, slot):
    return has_bit(words, slot)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_there_and_back(n, share):
    slots = np.flatnonzero(np.random.default_rng(n).random(n) < share)
    bits = slots_to_bits(slots, n)
    assert bits.dtype == np.uint64
    assert len(bits) == words_of(n)
    assert count_bits(bits) == len(slots)
    assert bits_to_slots(bits).tolist() == slots.tolist()
    for slot in range(0, n, 7):
        assert _has(bits.ctypes.data, slot) == (slot in slots)


def test_bit_63_is_a_slot_like_any_other():
    bits = slots_to_bits(np.array([63, 64]), 65)
    assert bits.tolist() == [1 << 63, 1]
    assert bits_to_slots(bits).tolist() == [63, 64]
