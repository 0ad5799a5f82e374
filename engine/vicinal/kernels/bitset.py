"""Sets of slots as uint64 words: bit s & 63 of word s >> 6 belongs to slot s."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.simd import get_i64, lowest_bit

__all__ = ["bits_to_slots", "count_bits", "has_bit", "slots_to_bits", "words_of"]


@njit
def has_bit(words, slot):
    """1 if the slot is in the set at address `words`, else 0."""
    return (get_i64(words + (slot >> 6) * 8) >> (slot & 63)) & 1


def words_of(n: int) -> int:
    """How many words hold n slots."""
    return (n + 63) >> 6


def count_bits(bits: NDArray[np.uint64]) -> int:
    """How many slots the set holds."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


@njit
def _list(words, count, out):
    n = 0
    for w in range(count):
        word = get_i64(words + w * 8)
        while word != 0:
            out[n] = w * 64 + lowest_bit(word)
            n += 1
            word &= word - 1


def bits_to_slots(bits: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The slots of the set, ascending: (count,) uint32."""
    bits = np.ascontiguousarray(bits)
    out = np.empty(count_bits(bits), np.uint32)
    _list(bits.ctypes.data, len(bits), out)
    return out


def slots_to_bits(slots: NDArray[np.integer], n: int) -> NDArray[np.uint64]:
    """The set of the given slots, each below n, in (n + 63) // 64 words."""
    marks = np.zeros(words_of(n) * 64, np.uint8)
    marks[slots] = 1
    return np.packbits(marks, bitorder="little").view("<u8")
