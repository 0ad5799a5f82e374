"""Encoding rows: bytes with a head, and code lines of three kinds (layouts: `lines`, `walk_fields`).

Every kernel writes one row from that row alone, so any split into chunks or threads gives the same bytes.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.lines import ADD_AT, BYTE_DIMS, CELL_AT, MUL_AT
from vicinal.kernels.walk_fields import HEAD_NORM, HEAD_SQUARE, HEAD_STEP, HEAD_SUM, VECTOR_AT

__all__ = [
    "best_levels",
    "encode_bytes",
    "encode_fine",
    "encode_nibbles",
    "encode_rows",
    "encode_signs",
    "encode_whole_rows",
    "nearest_centres",
    "product",
]

_CELL, _ADD, _MUL = CELL_AT // 4, ADD_AT // 4, MUL_AT // 4
_NORM, _STEP, _SUM, _SQUARE = HEAD_NORM // 4, HEAD_STEP // 4, HEAD_SUM // 4, HEAD_SQUARE // 4
_TINY = np.float32(1e-30)
_SUMS = {"reassoc", "nsz"}  # of floats, in any order: so that they are vectors
_TRIALS = (np.float32(0.75), np.float32(0.85), np.float32(1), np.float32(1.15), np.float32(1.3))
# steps between so many bits of levels over a normal variable of spread 1 (Max 1960)
_STEPS = np.array([0, 1, 0, 0, 0.3352, 0, 0, 0, 0.0308], np.float32)


@njit
def _to_bytes(row, out):
    """Write a row as bytes about 128; give the step, the sum of the bytes and the sum of their squares about 128."""
    dim = row.shape[0]
    most = np.float32(0)
    for i in range(dim):
        most = max(most, abs(row[i]))
    step = max(most / np.float32(127), _TINY)
    total, square = np.int64(0), np.int64(0)
    for i in range(dim):
        byte = np.int32(row[i] / step + np.float32(128.5))
        out[i] = byte
        total += byte
        square += (byte - 128) * (byte - 128)
    return step, total, square


@njit(fastmath=_SUMS)
def product(row, other):
    """Sum the products of two rows."""
    total = np.float32(0)
    for j in range(row.shape[0]):
        total += row[j] * other[j]
    return total


@njit
def nearest_centres(rows, centres, squares, cells, scores):
    """Write each row's nearest centre to `cells`, and |c|^2 - 2 <x, c> of it to `scores`."""
    for i in range(rows.shape[0]):
        best, which = np.float32(np.inf), np.int64(0)
        for c in range(centres.shape[0]):
            score = squares[c] - np.float32(2) * product(rows[i], centres[c])
            if score < best:
                best, which = score, np.int64(c)
        cells[i], scores[i] = which, best


@njit
def encode_rows(rows, squared, out, floats, numbers, start):
    """Write framed float32 rows (n, dim) as bytes with heads to rows start.. of out.

    out: uint8 (capacity, row bytes); floats, numbers: the same memory as float32 and int32. squared: whether a
    distance holds the row's own square (L2 and cosine) or not (dot).
    """
    dim = rows.shape[1]
    for i in range(rows.shape[0]):
        at = start + i
        step, total, square = _to_bytes(rows[i], out[at, VECTOR_AT : VECTOR_AT + dim])
        norm = np.float32(square) * step * step
        floats[at, _NORM] = norm if squared else np.float32(0)
        floats[at, _STEP] = step
        numbers[at, _SUM] = total
        numbers[at, _SQUARE] = square


@njit
def encode_fine(rows, out, floats, low, start):
    """Write the low bytes of framed rows, already encoded: value = step * (byte - 128 + (low - 128) / 256).

    The padding becomes 128 in both, which stands for 0.
    """
    dim, padded = rows.shape[1], low.shape[1]
    for i in range(rows.shape[0]):
        at = start + i
        step = floats[at, _STEP]
        for j in range(dim):
            value = rows[i, j] / step + np.float32(128)
            rest = value - np.float32(np.int32(value + np.float32(0.5)))
            low[at, j] = np.int32(min(max(rest * np.float32(256) + np.float32(128.5), np.float32(0)), np.float32(255)))
        for j in range(dim, padded):
            low[at, j] = 128
            out[at, VECTOR_AT + j] = 128


@njit
def encode_whole_rows(rows, out, floats, numbers, start):
    """Write framed whole-number rows as they are, nearest first where one is not; give whether all were exact."""
    exact = True
    for i in range(rows.shape[0]):
        at = start + i
        total, square = np.int64(0), np.int64(0)
        for j in range(rows.shape[1]):
            value = min(max(rows[i, j], np.float32(0)), np.float32(255))
            byte = np.int32(value + np.float32(0.5))
            exact &= np.float32(byte) == rows[i, j]
            out[at, VECTOR_AT + j] = byte
            total += byte
            square += byte * byte
        floats[at, _NORM] = np.float32(square)
        floats[at, _STEP] = np.float32(1)
        numbers[at, _SUM] = total
        numbers[at, _SQUARE] = square
    return exact


@njit
def encode_signs(rows, centres, cells, constants, words, floats, numbers, start):
    """Write sign lines of rows (n, m), which are about their cells' centres and rotated, to lines start...

    centres: rotated. constants: per row |x - c|^2, or under dot -2 <c, x - c>. words, floats, numbers: the lines as
    uint64 (capacity, 8), float32 (capacity, 16) and int32 (capacity, 16).
    """
    m = rows.shape[1]
    for i in range(rows.shape[0]):
        at, cell = start + i, cells[i]
        square, spread, across = np.float32(0), np.float32(0), np.float32(0)
        for word in range(m // 64):
            bits = np.uint64(0)
            for j in range(64 * word, 64 * word + 64):
                origin = centres[cell, j]
                r = rows[i, j]
                square += r * r
                positive = r > 0
                spread += r if positive else -r
                across += origin if positive else -origin
                bits |= np.uint64(positive) << np.uint64(j & 63)
            words[at, word] = bits
        factor = square / max(spread, _TINY)
        numbers[at, _CELL] = cell
        floats[at, _ADD] = constants[i] + np.float32(2) * factor * across
        floats[at, _MUL] = np.float32(-2) * factor


@njit(fastmath=_SUMS)
def _square(row):
    """Sum the squares of a row."""
    total = np.float32(0)
    for j in range(row.shape[0]):
        total += row[j] * row[j]
    return total


@njit(fastmath=_SUMS)
def _fit_levels(row, levels, trial, top):
    """Write the levels 0 .. top of a row for one step; give <row, 2 level - top> and the square of the latter."""
    dot, square = np.float32(0), np.float32(0)
    inverse, middle, last = np.float32(1) / trial, np.float32((top + 1) // 2), np.float32(top)
    for j in range(row.shape[0]):
        level = np.int32(min(max(row[j] * inverse + middle, np.float32(0)), last))
        levels[j] = level
        value = np.float32(2 * level - top)
        dot += row[j] * value
        square += value * value
    return dot, square


@njit
def best_levels(row, levels, tried, top, bits):
    """Write the levels whose values, 2 level - top, lie nearest to the row by angle; give |row|^2 and <row, values>.

    levels, tried: uint8 (len(row),), of which the second is overwritten.
    """
    square = _square(row)
    unit = np.sqrt(square / np.float32(row.shape[0])) * _STEPS[bits] + _TINY
    best, best_dot = np.float32(-1), np.float32(1)
    for trial in _TRIALS:
        dot, length = _fit_levels(row, tried, unit * trial, top)
        if dot / np.sqrt(length) > best:
            best, best_dot = dot / np.sqrt(length), dot
            levels[:] = tried
        if bits == 1:
            break  # signs do not depend on the step
    return square, max(best_dot, _TINY)


@njit
def encode_nibbles(rows, constants, lines, floats, start):
    """Write 4-bit lines of projected rows (n, dims) to lines start..; of five steps the one with the best cosine.

    constants: per row |x - centre|^2, or 0 under dot. lines, floats: uint8 (capacity, 64), float32 (capacity, 16).
    """
    dims = rows.shape[1]
    half = (dims + 1) // 2
    levels, tried = np.empty(dims, np.uint8), np.empty(dims, np.uint8)
    for i in range(rows.shape[0]):
        at = start + i
        square, dot = best_levels(rows[i], levels, tried, 15, 4)
        lines[at, :BYTE_DIMS] = 0
        for j in range(half):
            lines[at, j] = levels[j]
        for j in range(half, dims):
            lines[at, j - half] |= levels[j] << 4
        floats[at, _ADD] = constants[i]
        floats[at, _MUL] = np.float32(-2) * square / dot


@njit
def encode_bytes(rows, squared, lines, floats, start):
    """Write 8-bit lines of framed rows (n, dim <= BYTE_DIMS) to lines start..; squared as for `encode_rows`."""
    dim = rows.shape[1]
    for i in range(rows.shape[0]):
        at = start + i
        step, _, square = _to_bytes(rows[i], lines[at, :dim])
        floats[at, _ADD] = np.float32(square) * step * step if squared else np.float32(0)
        floats[at, _MUL] = step
