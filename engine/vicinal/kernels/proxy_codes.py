"""Wide vectors at 1, 4 or 8 bits a component: encoding, and products of many with one query (RaBitQ's estimate).

Gao & Long, "RaBitQ" (SIGMOD 2024), and its extension to more bits: a rotated vector x is kept as levels l of 0 .. top,
top = 2^bits - 1, that stand for the values v = 2 l - top, and as the factor |x|^2 / <v, x>, with which
<x, q> is estimated by factor * <v, q>. Departures: no cells; the query is 8 bits; the factor keeps the estimate exact
for q = x whatever the step, which is the best of five.

Lines are whole pieces of 64 bytes. 1 bit: component j is bit j & 7 of byte j >> 3. 4 bits: byte i of piece p holds
component 128 p + i below and 128 p + 64 + i above. Queries are in the components' order.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.codes import best_levels
from vicinal.kernels.simd import Loop, const, i1, i8, i64, load, prefetch, reduce_add, vec
from vicinal.kernels.vnni import multiply_add
from vicinal.kernels.walk_ir import LINE, V16I, gathered

__all__ = ["BLOCK", "encode_levels", "scan_bits", "scan_bytes", "scan_nibbles"]

BLOCK = 256  # components are a multiple of it
_BYTES = vec(i8, 64)
_AHEAD = 4  # lines fetched before they are needed


def _levels_of(b, line, turn, bits):
    """The four pieces of 64 levels, as raw bytes, that one turn reads from a line."""
    if bits == 8:
        at = gathered(b, line, turn, BLOCK)
        return [load(b, at, V16I, LINE * i) for i in range(4)]
    if bits == 4:
        at = gathered(b, line, turn, BLOCK // 2)
        pieces = []
        for i in range(2):
            both = load(b, at, _BYTES, LINE * i)
            pieces += [b.and_(both, const(_BYTES, 15)), b.lshr(both, const(_BYTES, 4))]
        return [b.bitcast(piece, V16I) for piece in pieces]
    at = gathered(b, line, turn, BLOCK // 8)
    words = [b.bitcast(load(b, at, i64, 8 * i), vec(i1, 64)) for i in range(4)]
    return [b.bitcast(b.zext(word, _BYTES), V16I) for word in words]


def _make_dot(bits):
    """The sum of level * query byte (s8) over `turns` of 256 components."""

    @intrinsic
    def dot(typingctx, line, query, turns):
        def gen(ctx, b, sig, args):
            line, query, turns = args
            loop = Loop(b, turns, [const(V16I, 0)] * 4)  # four sums, because one waits for itself
            at = gathered(b, query, loop.i, BLOCK)
            levels = _levels_of(b, line, loop.i, bits)
            parts = [load(b, at, V16I, LINE * i) for i in range(4)]
            new = [multiply_add(b, *each) for each in zip(loop.vals, levels, parts, strict=True)]
            w, x, y, z = loop.close(new)
            return reduce_add(b, b.add(b.add(w, x), b.add(y, z)))

        return types.int32(types.intp, types.intp, types.intp), gen

    return dot


@njit
def encode_levels(rows, bits, lines, factors, start):
    """Write the lines and factors of rotated rows (n, m) from line `start` on; bits is 1, 4 or 8.

    lines: uint8 (capacity, m * bits / 8), factors: float32 (capacity,); m a multiple of BLOCK. A row of zeros
    has factor 0.
    """
    m, top = rows.shape[1], (1 << bits) - 1
    levels, tried = np.empty(m, np.uint8), np.empty(m, np.uint8)
    for i in range(rows.shape[0]):
        square, dot = best_levels(rows[i], levels, tried, top, bits)
        factors[start + i] = square / dot
        line = lines[start + i]
        if bits == 8:
            line[:] = levels
        elif bits == 4:
            for j in range(m // 2):
                at = 2 * (j & ~63) + (j & 63)
                line[j] = levels[at] | levels[at + 64] << 4
        else:
            for j in range(m // 8):
                byte = 0
                for k in range(8):
                    byte |= levels[8 * j + k] << k
                line[j] = byte


def _make_scan(bits):
    """The scan of lines of so many bits."""
    top, dot = (1 << bits) - 1, _make_dot(bits)

    @njit
    def scan(lines, factors, slots, query, total, unit, out):
        """Estimated products of the rows `slots` (uint32) with a query, into out (len(slots),) float32.

        query: (m,) int8 that stand for unit * query, `total` their sum; every slot must be below len(lines).
        """
        base, width, q = lines.ctypes.data, lines.shape[1], query.ctypes.data
        for i in range(slots.shape[0]):
            if i + _AHEAD < slots.shape[0]:
                ahead = base + np.int64(slots[i + _AHEAD]) * width
                for at in range(0, min(width, 256), 64):
                    prefetch(ahead + at)
            slot = np.int64(slots[i])
            product = 2 * np.int64(dot(base + slot * width, q, query.shape[0] // BLOCK)) - top * total
            out[i] = factors[slot] * unit * np.float32(product)

    return scan


scan_bits, scan_nibbles, scan_bytes = (_make_scan(bits) for bits in (1, 4, 8))
