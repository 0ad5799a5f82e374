"""Sets of slots as bits: uint64 words, slot s is bit s & 63 of word s >> 6."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Bits

__all__ = ["all_bits", "bits_of", "clear_beyond", "count_bits", "no_bits", "pack", "words_for"]

_FEW = 64  # one slot in so many or fewer: set single bits instead of packing a mask


def words_for(n: int) -> int:
    """Words that n slots take."""
    return (n + 63) >> 6


def no_bits(n: int) -> Bits:
    """The empty set over n slots."""
    return np.zeros(words_for(n), np.uint64)


def all_bits(n: int) -> Bits:
    """All of n slots."""
    return clear_beyond(np.full(words_for(n), ~np.uint64(0)), n)


def clear_beyond(bits: Bits, n: int) -> Bits:
    """Clear, in place, the bits of slots n and above in the last word."""
    if n & 63 and bits.size:
        bits[-1] &= np.uint64((1 << (n & 63)) - 1)
    return bits


def pack(mask: NDArray[np.bool_]) -> Bits:
    """The set of the positions that hold True."""
    packed = np.packbits(mask, bitorder="little")
    room = words_for(mask.size) * 8
    if packed.size != room:
        wider = np.zeros(room, np.uint8)
        wider[: packed.size] = packed
        packed = wider
    return packed.view("<u8").astype(np.uint64, copy=False)


def bits_of(slots: NDArray[Any], n: int) -> Bits:
    """The set of the given slots, all below n, in any order and with repeats."""
    if slots.size * _FEW > n:
        mask = np.zeros(n, np.bool_)
        mask[slots.astype(np.intp)] = True  # numpy casts other integers in small pieces, at 1.5 times the cost
        return pack(mask)
    bits = no_bits(n)
    if slots.size:
        wide = slots.astype(np.uint64)
        np.bitwise_or.at(bits, wide >> np.uint64(6), np.uint64(1) << (wide & np.uint64(63)))
    return bits


def count_bits(bits: Bits) -> int:
    """Slots in the set."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))
