"""Filters that ask which values of sorted columns lie between bounds, by address.

The slots between two bounds are one stretch of the slots in the order of their values. What reads a list of slots takes
a stretch as it lies, or several copied together, so nothing but their ends need be found; what reads bits has them
marked (see `spans`). Several such questions are put together as bits.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import types

from vicinal.kernels import njit
from vicinal.kernels.heap import pool_fill
from vicinal.kernels.simd import get_i32, get_i64, get_u8, get_u32, popcount, set_i64, set_u32
from vicinal.kernels.spans import Order, flip_stretch
from vicinal.kernels.walk_ir import LINE, read_fields

__all__ = [
    "COPY",
    "FIND",
    "JOIN",
    "KINDS",
    "MARK",
    "NARROW",
    "StretchFields",
    "copy_stretch",
    "find_stretch",
    "join_stretches",
    "mark_stretch",
    "narrow",
]

_I1, _I2, _I4, _I8, _U1, _U2, _F8 = range(7)
KINDS: Final = {"i1": _I1, "i2": _I2, "i4": _I4, "i8": _I8, "u1": _U1, "u2": _U2, "f8": _F8}
_MOST: Final = (1 << 63) - 1

FIND = (types.int64, types.int64)
COPY = (types.int64, types.int64, types.int64)
MARK = (types.int64, types.int64, types.int64, types.int64)
JOIN = (types.int64,) * 7
NARROW = (types.int64, types.int64, types.int64)


class StretchFields(NamedTuple):
    """A sorted column and pairs of bounds, both inclusive, that ascend and do not overlap.

    keys: `size` ascending values of one of `KINDS`; then the fields of an `Order` of their slots. run: address of the
    bits of the only stretch, as many words, or 0. bounds: int64 (pairs, 2), of floats their bits as `_key` orders them.
    inverted: 1 where all other slots below n are meant. No slot stands in two of the stretches.
    """

    keys: int
    kind: int
    size: int
    order: int
    ranks: int
    sets: int
    kept: int
    words: int
    run: int
    bounds: int
    pairs: int
    inverted: int
    n: int


@njit
def _two_bytes(at):
    return get_u8(at) | (get_u8(at + 1) << 8)


@njit
def _key(kind, keys, at):
    """Give a value as an integer of the same order; of a float its bits, but for the sign flipped where that is set."""
    if kind == _I4:
        return np.int64(get_i32(keys + at * 4))
    if kind == _I2:
        return (_two_bytes(keys + at * 2) ^ (1 << 15)) - (1 << 15)
    if kind == _U2:
        return _two_bytes(keys + at * 2)
    if kind == _U1:
        return get_u8(keys + at)
    if kind == _I1:
        return (get_u8(keys + at) ^ (1 << 7)) - (1 << 7)
    value = get_i64(keys + at * 8)
    if kind == _F8 and value < 0:
        value ^= _MOST
    return value


@njit
def _below(fields, bound):
    """Count the keys less than a bound."""
    low, high = 0, fields.size
    while low < high:
        middle = (low + high) >> 1
        if _key(fields.kind, fields.keys, middle) < bound:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def find_stretch(at, ends):
    """Count the slots that the fields at an address mean; the ends of each stretch of the order go to `ends`."""
    fields, count = read_fields(StretchFields, at), 0
    for pair in range(fields.pairs):
        low, high = get_i64(fields.bounds + pair * 16), get_i64(fields.bounds + pair * 16 + 8)
        begin, end = _below(fields, low), fields.size
        if high < _MOST:
            end = _below(fields, high + 1)
        end = max(begin, end)
        set_i64(ends + pair * 16, begin)
        set_i64(ends + pair * 16 + 8, end)
        count += end - begin
    return fields.n - count if fields.inverted != 0 else count


@njit
def copy_stretch(at, ends, out):
    """Write the slots between the ends that `find_stretch` gave to the u32 list `out`; they are not inverted."""
    fields = read_fields(StretchFields, at)
    for pair in range(fields.pairs):
        for place in range(get_i64(ends + pair * 16), get_i64(ends + pair * 16 + 8)):
            set_u32(out, get_u32(fields.order + place * 4))
            out += 4


@njit
def mark_stretch(at, ends, out, lines):
    """Write the bits of the slots whose ends `find_stretch` gave to so many lines of eight words."""
    fields = read_fields(StretchFields, at)
    pool_fill(out, lines, -fields.inverted)
    if fields.inverted != 0:
        last = fields.n >> 6
        for word in range(last, lines * 8):
            set_i64(out + word * 8, (np.int64(1) << (fields.n & 63)) - 1 if word == last else 0)
    if fields.run != 0:
        for byte in range(0, fields.words * 8, 8):
            set_i64(out + byte, get_i64(out + byte) ^ get_i64(fields.run + byte))
        return
    arranged = Order(fields.order, fields.ranks, fields.sets, fields.kept, fields.words)
    for pair in range(fields.pairs):
        flip_stretch(arranged, get_i64(ends + pair * 16), get_i64(ends + pair * 16 + 8), out)


@njit
def join_stretches(parts, count, either, ends, out, spare, lines):
    """Write the bits of slots that `count` fields mean, all of them or any, to lines of eight words; count the slots.

    parts: address of the addresses of the fields. ends: room for those of each. spare: as much room as `out`.
    """
    for part in range(count):
        at = get_i64(parts + part * 8)
        find_stretch(at, ends)
        mark_stretch(at, ends, spare if part else out, lines)
        if part == 0:
            continue
        for byte in range(0, lines * LINE, 8):
            word, other = get_i64(out + byte), get_i64(spare + byte)
            set_i64(out + byte, word | other if either != 0 else word & other)
    found = 0
    for byte in range(0, lines * LINE, 8):
        found += popcount(get_i64(out + byte))
    return found


@njit
def narrow(bits, others, words):
    """Leave in a set what is in another, too; count it."""
    count = 0
    for at in range(0, words * 8, 8):
        word = get_i64(bits + at) & get_i64(others + at)
        set_i64(bits + at, word)
        count += popcount(word)
    return count
