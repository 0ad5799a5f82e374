"""Tokens as numbers of centroids: assign them, and score every point by its centroids alone.

A query gives a table with one line per centroid and one byte per query token: how near that centroid is. A point's
score is the sum, over the bytes, of the largest among its centroids' lines: one load and one byte-wise maximum a token.
PLAID (Santhanam et al., CIKM 2022) prunes before this step; in vector registers it is cheap enough for all points.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.maxsim_tile import BODY, CODE_ROWS, LANES, code_products, first_totals, tile_rows
from vicinal.kernels.simd import Loop, call, const, i8, i16, i32, load, reduce_add, splat, store, vec

__all__ = ["add_members", "assign", "choose", "make_table", "scan", "unique_codes"]

_CHUNK = 64  # tokens compared with all centroids before the next ones
_LOWEST = np.int32(-(1 << 31))


@intrinsic
def _nearest_tile(typingctx, centroids, bias, label, first, last, dim, best):
    """Compare CODE_ROWS rows with two vectors of sixteen centroids, numbered label and label + 1.

    Addresses; per row `best` holds 16 products, then 16 numbers of vectors; the first of equal ones stays.
    """

    def gen(ctx, b, sig, args):
        centroids, bias, label, first, last, dim, best = args
        kind = vec(i32, LANES)
        starts = tile_rows(b, first, last, dim, CODE_ROWS)
        totals = code_products(b, BODY, centroids, first_totals(b, BODY, bias, 2), starts, dim, 2)
        here = b.trunc(label, i32)
        numbers = [splat(b, here, LANES), splat(b, b.add(here, i32(1)), LANES)]
        for r in range(CODE_ROWS):
            most, which = load(b, best, kind, 128 * r, align=4), load(b, best, kind, 128 * r + 64, align=4)
            for v in range(2):
                nearer = b.icmp_signed(">", totals[2 * r + v], most)
                most = b.select(nearer, totals[2 * r + v], most)
                which = b.select(nearer, numbers[v], which)
            store(b, most, best, 128 * r, align=4)
            store(b, which, best, 128 * r + 64, align=4)
        return ctx.get_dummy_value()

    return types.void(*[types.intp] * 7), gen


@njit
def assign(tokens, start, stop, centroids, bias, out):
    """Number of the centroid with the largest product, the smallest of equal ones, of tokens start..stop into out.

    `tokens` (t, dim >= 4) int8; `centroids` and `bias` from `pack_codes`, a multiple of 32 centroids; `out`
    (stop - start,) uint16.
    """
    dim = tokens.shape[1]
    best = np.empty((_CHUNK + CODE_ROWS, 2, LANES), np.int32)
    base, most = tokens.ctypes.data, best.ctypes.data
    stride = centroids.shape[1] * 64
    for low in range(start, stop, _CHUNK):
        high = min(low + _CHUNK, stop)
        best[:, 0] = _LOWEST
        for v in range(0, centroids.shape[0], 2):
            lanes, starts_at = centroids.ctypes.data + v * stride, bias.ctypes.data + v * 64
            for t in range(low, high, CODE_ROWS):
                place = most + (t - low) * 128
                _nearest_tile(lanes, starts_at, v, base + t * dim, base + (high - 1) * dim, dim, place)
        for t in range(high - low):
            largest, number = np.int64(_LOWEST) - 1, np.int64(0)
            for lane in range(LANES):
                value, label = np.int64(best[t, 0, lane]), np.int64(best[t, 1, lane]) * LANES + lane
                if value > largest or (value == largest and label < number):
                    largest, number = value, label
            out[low - start + t] = number


@njit
def add_members(tokens, numbers, sums, counts):
    """Add each token, brought to length one, to the sum of its centroid, in order; float64."""
    for t in range(numbers.shape[0]):
        square = np.int64(0)
        for j in range(tokens.shape[1]):
            square += np.int64(tokens[t, j]) * np.int64(tokens[t, j])
        if square:
            counts[numbers[t]] += 1
            for j in range(tokens.shape[1]):
                sums[numbers[t], j] += np.float64(tokens[t, j]) / np.sqrt(np.float64(square))


@njit
def unique_codes(numbers, counts, out, ends, at):
    """Sort each point's centroid numbers and drop repetitions: into `out` from `at` on, `ends` tells where each ends.

    `numbers` holds counts[i] of point i, one after another.
    """
    start = 0
    for point in range(counts.shape[0]):
        some = np.sort(numbers[start : start + counts[point]])
        for i in range(some.shape[0]):
            if i == 0 or some[i] != some[i - 1]:
                out[at] = some[i]
                at += 1
        ends[point] = at
        start += counts[point]


@njit
def make_table(products, tokens, centroids, table):
    """Bytes table[c, j] from products[j, c] of query token j and centroid c; returns (step, offset).

    A byte is (product - lowest of token j) / step, 0 below; a sum of bytes * step + offset is a sum of products.
    The largest product of each token is 255 at the widest token's step.
    """
    step, offset = np.float32(1e-30), 0.0
    for j in range(tokens):
        most, total = products[j, 0], 0.0
        for c in range(centroids):
            most = max(most, products[j, c])
            total += products[j, c]
        # what lies below the mean never wins for points that matter
        step = max(step, np.float32((most - total / centroids) / 255))
    for j in range(tokens):
        most = products[j, 0]
        for c in range(centroids):
            most = max(most, products[j, c])
        lowest = most - 255 * step
        offset += lowest
        for c in range(centroids):
            table[c, j] = np.uint8(max(np.float32(0), np.rint((products[j, c] - lowest) / step)))
    return step, offset


def _make_sum(lanes):
    """The sum of byte-wise maxima over lines of `lanes` bytes."""

    @intrinsic
    def largest_sum(typingctx, table, stride, codes, count):
        """Addresses of the table and of `count` uint16 line numbers; lines are `stride` bytes apart."""

        def gen(ctx, b, sig, args):
            table, stride, codes, count = args
            kind = vec(i8, lanes)
            loop = Loop(b, count, [const(kind, 0)])
            number = b.zext(load(b, codes, i16, b.mul(loop.i, loop.i.type(2))), loop.i.type)
            line = load(b, b.add(table, b.mul(number, stride)), kind, align=1)
            (most,) = loop.close([call(b, f"llvm.umax.v{lanes}i8", kind, [loop.vals[0], line])])
            total = reduce_add(b, b.zext(most, vec(i16, lanes)))  # 64 * 255 fits 16 bits
            return b.zext(total, count.type)

        return types.intp(*[types.intp] * 4), gen

    return largest_sum


_sum16, _sum32, _sum64 = (_make_sum(lanes) for lanes in (16, 32, 64))


@njit
def scan(codes, ends, slots, table, out):
    """Sum of bytes of the points `slots` (uint32) into out (len(slots),) int32; -1 for a point without tokens.

    `codes` uint16, those of slot s at ends[s - 1] .. ends[s]; `table` (centroids, 16, 32 or a multiple of 64) uint8.
    """
    base, lines, stride = codes.ctypes.data, table.ctypes.data, table.shape[1]
    for i in range(slots.shape[0]):
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        count = ends[slot] - start
        first = base + 2 * start
        if count <= 0:
            out[i] = -1
        elif stride == 16:
            out[i] = _sum16(lines, stride, first, count)
        elif stride == 32:
            out[i] = _sum32(lines, stride, first, count)
        else:
            total = 0
            for v in range(0, stride, 64):
                total += _sum64(lines + v, stride, first, count)
            out[i] = total


@njit
def choose(sums, most, wanted, out):
    """Positions of the `wanted` largest sums of 0 .. most, ascending; of equal ones the first; returns how many."""
    histogram = np.zeros(most + 2, np.int64)
    for i in range(sums.shape[0]):
        histogram[sums[i] + 1] += 1
    least, above = most, 0
    while least > 0 and above + histogram[least + 1] < wanted:
        above += histogram[least + 1]
        least -= 1
    equal = wanted - above
    n = 0
    for i in range(sums.shape[0]):
        if sums[i] > least or (sums[i] == least and equal > 0):
            if sums[i] == least:
                equal -= 1
            out[n] = i
            n += 1
    return n
