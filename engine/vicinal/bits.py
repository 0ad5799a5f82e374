"""Sets of slots as bits: uint64 words, slot s is bit s & 63 of word s >> 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Bits

__all__ = [
    "all_bits",
    "bits_at",
    "bits_from_mask",
    "bits_from_slots",
    "clear_beyond",
    "count_bits",
    "mask_from_bits",
    "no_bits",
    "slots_from_bits",
    "word_count",
]

_FEW = 64  # one slot in so many or fewer: set single bits instead of packing a mask


def word_count(n: int) -> int:
    """Words of 64 bits that n slots take."""
    return (n + 63) >> 6


def no_bits(n: int) -> Bits:
    """The empty set over n slots."""
    return np.zeros(word_count(n), np.uint64)


def all_bits(n: int) -> Bits:
    """All of n slots."""
    return clear_beyond(np.full(word_count(n), ~np.uint64(0)), n)


def clear_beyond(bits: Bits, n: int) -> Bits:
    """Clear, in place, the bits of slots n and above in the last word."""
    if n & 63 and bits.size:
        bits[-1] &= np.uint64((1 << (n & 63)) - 1)
    return bits


def bits_at(bits: Bits, slots: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of these slots is in the set: (m,)."""
    words: NDArray[np.uint64] = bits[slots >> 6]
    found: NDArray[np.bool_] = (words >> (slots & 63).astype(np.uint64)) & np.uint64(1) == 1
    return found


def bits_from_mask(mask: NDArray[np.bool_]) -> Bits:
    """The set of the positions of a mask (n,) that hold True."""
    packed = np.packbits(mask, bitorder="little")
    room = word_count(mask.size) * 8
    if packed.size != room:
        wider = np.zeros(room, np.uint8)
        wider[: packed.size] = packed
        packed = wider
    return packed.view("<u8").astype(np.uint64, copy=False)


def bits_from_slots(slots: NDArray[Any] | Sequence[int], n: int) -> Bits:
    """The set of the given slots, all below n, in any order and with repeats."""
    listed = np.asarray(slots)
    if listed.size * _FEW > n:
        mask = np.zeros(n, np.bool_)
        mask[listed.astype(np.intp)] = True  # numpy casts other integers in small pieces, at 1.5 times the cost
        return bits_from_mask(mask)
    bits = no_bits(n)
    if listed.size:
        wide = listed.astype(np.uint64)
        np.bitwise_or.at(bits, wide >> np.uint64(6), np.uint64(1) << (wide & np.uint64(63)))
    return bits


def mask_from_bits(bits: Bits, n: int) -> NDArray[np.bool_]:
    """Boolean mask (n,) of a set."""
    return np.unpackbits(bits.view(np.uint8), count=n, bitorder="little").view(np.bool_)


def slots_from_bits(bits: Bits, n: int) -> NDArray[np.uint32]:
    """Slots below n in the set, ascending."""
    return np.flatnonzero(mask_from_bits(bits, n)).astype(np.uint32)


def count_bits(bits: Bits) -> int:
    """Slots in the set."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))
