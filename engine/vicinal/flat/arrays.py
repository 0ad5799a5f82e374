"""Arrays that grow while readers hold the old ones, and sets of slots as bits."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import word_count
from vicinal.types import Bits

__all__ = ["all_bits", "bits_without", "last_of_each"]

_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def all_bits(slots: int) -> Bits:
    """A set of at least so many slots, all in it."""
    return np.full(word_count(slots), _ALL, np.uint64)


def last_of_each(
    vectors: NDArray[np.float32], inv_norms: NDArray[np.float32], labels: NDArray[np.uint64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint64]]:
    """The rows with the last row of each label only, in their order."""
    if (labels[1:] > labels[:-1]).all():
        return vectors, inv_norms, labels
    _, from_end = np.unique(labels[::-1], return_index=True)
    if len(from_end) == len(labels):
        return vectors, inv_norms, labels
    kept = np.sort(len(labels) - 1 - from_end)
    return vectors[kept], inv_norms[kept] if len(inv_norms) else inv_norms, labels[kept]


def bits_without(bits: Bits | None, ended: NDArray[np.int64], slots: int, room: int) -> Bits | None:
    """A set without some slots, None for all: a copy where it loses any or is too short for `slots`, with `room`."""
    if bits is None and not len(ended):
        return None
    if bits is None or len(bits) < word_count(slots) or len(ended):
        wider = all_bits(room)
        if bits is not None:
            wider[: len(bits)] = bits
        bits = wider
    np.bitwise_and.at(bits, ended >> 6, ~(np.uint64(1) << (ended & 63).astype(np.uint64)))
    return bits
