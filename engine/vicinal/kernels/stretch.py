"""A filter that asks for values between two bounds of a sorted column, by address.

Its slots are one stretch of the slots in the order of their values. What reads a list of slots takes the stretch as it
lies, so nothing but its ends need be found; what reads bits has them marked (see `spans`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import types

from vicinal.kernels import njit
from vicinal.kernels.heap import pool_fill
from vicinal.kernels.simd import get_i32, get_i64, get_u8, popcount, set_i64
from vicinal.kernels.spans import Order, flip_stretch
from vicinal.kernels.walk_ir import read_fields

__all__ = ["FIND", "KINDS", "MARK", "NARROW", "StretchFields", "find_stretch", "mark_stretch", "narrow"]

_I1, _I2, _I4, _I8, _U1, _U2, _F8 = range(7)
KINDS: Final = {"i1": _I1, "i2": _I2, "i4": _I4, "i8": _I8, "u1": _U1, "u2": _U2, "f8": _F8}
_MOST: Final = (1 << 63) - 1

FIND = (types.int64, types.int64)
MARK = (types.int64, types.int64, types.int64, types.int64, types.int64)
NARROW = (types.int64, types.int64, types.int64)


class StretchFields(NamedTuple):
    """A sorted column and two bounds, both inclusive.

    keys: `size` ascending values of one of `KINDS`; then the fields of an `Order` of their slots. low, high: int64, of
    floats their bits as `_key` orders them.
    """

    keys: int
    kind: int
    size: int
    order: int
    ranks: int
    sets: int
    kept: int
    words: int
    low: int
    high: int


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
def find_stretch(at, first):
    """Count the slots of the stretch whose fields lie at an address; the address of the first goes to `first`."""
    fields = read_fields(StretchFields, at)
    begin, end = _below(fields, fields.low), fields.size
    if fields.high < _MOST:
        end = _below(fields, fields.high + 1)
    set_i64(first, fields.order + begin * 4)
    return max(end - begin, 0)


@njit
def mark_stretch(at, first, count, out, lines):
    """Write the bits of `count` slots from an address that `find_stretch` gave to so many lines of eight words."""
    fields = read_fields(StretchFields, at)
    pool_fill(out, lines, 0)
    begin = (first - fields.order) >> 2
    arranged = Order(fields.order, fields.ranks, fields.sets, fields.kept, fields.words)
    flip_stretch(arranged, begin, begin + count, out)


@njit
def narrow(bits, others, words):
    """Leave in a set what is in another, too; count it."""
    count = 0
    for at in range(0, words * 8, 8):
        word = get_i64(bits + at) & get_i64(others + at)
        set_i64(bits + at, word)
        count += popcount(word)
    return count
