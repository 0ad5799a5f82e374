"""Rows as int8 codes: encode, gather, pack into groups, find exact copies.

Codes are round((x - mean) * scale) clipped to -127 .. 127 with one mean and one scale for all rows, so that
integer distances
between any two rows compare. Arrays of codes end with `SPARE` rows of zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.gemm import LOW, dot8, pack16
from vicinal.kernels.operands import greater

__all__ = [
    "AS_IS",
    "SPARE",
    "UNIT",
    "Codes",
    "encode",
    "encode_one",
    "fill_groups",
    "gather",
    "hash_rows",
    "measure",
    "numbers",
    "owners",
]

_LANES = np.int64(16)
SPARE = np.int64(64)  # rows of zeros behind the last one; row SPARE - 1 after n serves as the zero vector
AS_IS, UNIT = 0, 1  # what `encode` does to a row first
_LARGEST = 127
_ROUND = np.float32(12582912)  # adding 1.5 * 2^23 rounds to the nearest integer and vectorises; np.rint does not


class Codes(NamedTuple):
    """Int8 rows and what scores need of them.

    `rows` (n + SPARE, width) int8, width a multiple of 64, the spare rows zero; `half` (n + SPARE,) int32: |x|^2 // 2;
    `offset` (n + SPARE,) int32: half + 128 sum(x).
    """

    rows: NDArray[np.int8]
    half: NDArray[np.int32]
    offset: NDArray[np.int32]


@njit
def numbers(n):
    """Give 0, 1, ... n - 1 as int32."""
    out = np.empty(n, np.int32)
    for i in range(n):
        out[i] = i
    return out


@njit
def _square(vectors, row, sums):
    """Give |x|^2 by sixteen sums in a fixed order: it vectorises without fastmath, same bytes everywhere."""
    d = vectors.shape[1]
    for lane in range(16):
        sums[lane] = 0
    for j in range(0, d - 15, 16):
        for lane in range(16):
            sums[lane] += np.float64(vectors[row, j + lane]) * np.float64(vectors[row, j + lane])
    total = np.float64(0)
    for j in range(d - d % 16, d):
        total += np.float64(vectors[row, j]) * np.float64(vectors[row, j])
    for lane in range(16):
        total += sums[lane]
    return total


@njit
def _encode(vectors, slot, mean, scale, mode, out, sums):
    """Write the codes of vectors[slot] to `out`, which may be wider."""
    d = vectors.shape[1]
    factor = np.float32(1)
    if mode == UNIT:
        square = _square(vectors, slot, sums)
        factor = np.float32(1 / np.sqrt(square)) if square > 0 else np.float32(0)
    for j in range(d):
        v = (vectors[slot, j] * factor - mean[j]) * scale
        v = v if v < np.float32(127) else np.float32(127)  # noqa: FURB136 - min() would not vectorise
        v = v if v > np.float32(-127) else np.float32(-127)  # noqa: FURB136
        out[j] = np.int8(np.int32((v + _ROUND) - _ROUND))


@njit
def encode(vectors, slots, mean, scale, mode, codes, start, stop):
    """Encode vectors[slots[i]], i in start .. stop, as they are or (UNIT) at unit length; a zero vector stays zero."""
    sums = np.zeros(_LANES, np.float64)
    for i in range(start, stop):
        _encode(vectors, slots[i], mean, scale, mode, codes.rows[i], sums)
    measure(codes, start, stop)


@njit
def encode_one(vectors, slot, mean, scale, mode, inner, codes):
    """Encode vectors[slot] to row `slot`, as a product alone if `inner`; give its hash and whether it was clipped."""
    row = codes.rows[slot]
    _encode(vectors, slot, mean, scale, mode, row, np.zeros(_LANES, np.float64))
    for j in range(vectors.shape[1], row.shape[0]):
        row[j] = 0
    measure(codes, slot, slot + 1)
    if inner:
        codes.offset[slot] -= codes.half[slot]
        codes.half[slot] = 0
    clipped = False
    for j in range(row.shape[0]):
        clipped |= abs(row[j]) == _LARGEST
    return _hash(row.view(np.uint64)), clipped


@njit
def measure(codes, start, stop):
    """Fill `half` and `offset` of rows start .. stop; the last spare row is zero."""
    zero = codes.rows.shape[0] - 1
    for i in range(start, stop):
        sum128 = dot8(codes.rows, zero, i)
        square = dot8(codes.rows, i, i) - sum128
        codes.half[i] = square >> 1
        codes.offset[i] = (square >> 1) + sum128


@njit
def gather(codes, order, out, start, stop):
    """Copy rows order[i] to rows i of `out`."""
    for i in range(start, stop):
        o = order[i]
        for j in range(codes.rows.shape[1]):
            out.rows[i, j] = codes.rows[o, j]
        out.half[i] = codes.half[o]
        out.offset[i] = codes.offset[o]


@njit
def fill_groups(codes, members, lanes, bias, start, stop):
    """Pack groups start .. stop: members (groups, 16) int32 names the row of each lane, -1 for none."""
    rows = np.empty(_LANES, np.int32)
    for g in range(start, stop):
        for lane in range(16):
            row = members[g, lane]
            rows[lane] = greater(row, 0)
            bias[g, lane] = LOW if row < 0 else -codes.half[row]
        pack16(codes.rows, rows, 0, lanes, g)


@njit
def _hash(words):
    """Hash a row of unsigned integers."""
    x = np.uint64(0x9E3779B97F4A7C15)
    for j in range(words.shape[0]):
        x = (x ^ np.uint64(words[j])) * np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(29)
    return x


@njit
def hash_rows(words, rows, out, start, stop):
    """Hash words[rows[i]] to out[i], i in start .. stop; words (any, width) of any unsigned integers."""
    for i in range(start, stop):
        out[i] = _hash(words[rows[i]])


@njit
def owners(words, rows, hashes, order):
    """Give for each i the first j with words[rows[j]] equal to words[rows[i]], itself when there is none before it.

    `order` sorts the hashes stably.
    """
    n = order.shape[0]
    own = numbers(n)
    a = 0
    while a < n:
        b = a + 1
        while b < n and hashes[order[b]] == hashes[order[a]]:
            b += 1
        for i in range(a + 1, b):
            for j in range(a, i):  # almost always the first
                if own[order[j]] != order[j]:
                    continue
                same = True
                for e in range(words.shape[1]):
                    if words[rows[order[i]], e] != words[rows[order[j]], e]:
                        same = False
                        break
                if same:
                    own[order[i]] = order[j]
                    break
        a = b
    return own
