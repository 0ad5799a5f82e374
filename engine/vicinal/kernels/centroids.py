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
from vicinal.kernels.maxsim_rows import pack_rows
from vicinal.kernels.maxsim_tile import (
    BODY,
    CODE_ROWS,
    KNOWN_BODY,
    LANES,
    code_products,
    first_totals,
    known_totals,
    tile_rows,
)
from vicinal.kernels.simd import Loop, call, const, f32, i8, i16, i32, load, reduce_add, splat, store, vec

__all__ = ["add_members", "assign", "choose", "make_table", "scan", "unique_codes"]

_LOWEST = np.int32(-(1 << 31))


@intrinsic
def _nearest_tile(typingctx, lanes, bias, first, dim, number, best):
    """Compare CODE_ROWS centroids from `first` on, numbered from `number` on, with two vectors of sixteen tokens.

    Addresses; for each vector `best` holds 16 products, then 16 numbers; the first of equal ones stays.
    """

    def gen(ctx, b, sig, args):
        lanes, bias, first, dim, number, best = args
        kind, here = vec(i32, LANES), b.trunc(number, i32)
        starts = tile_rows(b, first, dim, CODE_ROWS)
        totals = code_products(b, BODY, lanes, first_totals(b, BODY, bias, CODE_ROWS, 2), starts, dim, 2)
        for v in range(2):
            most, which = load(b, best, kind, 128 * v, align=4), load(b, best, kind, 128 * v + 64, align=4)
            for r in range(CODE_ROWS):
                nearer = b.icmp_signed(">", totals[2 * r + v], most)
                most = b.select(nearer, totals[2 * r + v], most)
                which = b.select(nearer, splat(b, b.add(here, i32(r)), LANES), which)
            store(b, most, best, 128 * v, align=4)
            store(b, which, best, 128 * v + 64, align=4)
        return ctx.get_dummy_value()

    return types.void(*[types.intp] * 6), gen


@njit
def assign(tokens, start, stop, centroids, out):
    """Number of the centroid with the largest product, the smallest of equal ones, of tokens start..stop into out.

    `tokens` (t, dim >= 4) int8; `centroids` (a multiple of CODE_ROWS, dim) int8; `out` (stop - start,) uint16.
    """
    dim = tokens.shape[1]
    lanes, bias = np.empty((2, -(-dim // 4), LANES, 4), np.int8), np.empty((2, LANES), np.int32)
    best = np.empty((2, 2, LANES), np.int32)
    for low in range(start, stop, 2 * LANES):
        high = min(low + 2 * LANES, stop)
        pack_rows(tokens, low, high, lanes, bias)
        best[:, 0] = _LOWEST
        for c in range(0, centroids.shape[0], CODE_ROWS):
            first = centroids.ctypes.data + c * dim
            _nearest_tile(lanes.ctypes.data, bias.ctypes.data, first, dim, c, best.ctypes.data)
        for t in range(high - low):
            out[low - start + t] = best[t // LANES, 1, t % LANES]


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


def _make_line_tile(vectors):
    """The tile that writes lines of bytes, of one or two vectors of sixteen query tokens."""

    @intrinsic
    def tile(typingctx, lanes, weights, shifts, first, dim, biases, factors, out, stride):
        """Bytes of the products of CODE_ROWS centroids from `first` on: product * weight * factor + shift, cut.

        Addresses; weights and shifts of tokens, biases and factors of centroids; lines are `stride` bytes apart.
        """

        def gen(ctx, b, sig, args):
            lanes, weights, shifts, first, dim, biases, factors, out, stride = args
            floats = vec(f32, LANES)
            begin = known_totals(b, KNOWN_BODY, biases, CODE_ROWS, vectors)
            starts = tile_rows(b, first, dim, CODE_ROWS)
            totals = code_products(b, KNOWN_BODY, lanes, begin, starts, dim, vectors)
            for r in range(CODE_ROWS):
                factor = splat(b, load(b, factors, f32, 4 * r, align=4), LANES)
                line = b.add(out, b.mul(stride, stride.type(r)))
                for v in range(vectors):
                    weight = b.fmul(load(b, weights, floats, 64 * v, align=4), factor)
                    value = b.fmul(b.sitofp(totals[r * vectors + v], floats), weight)
                    value = b.fadd(value, load(b, shifts, floats, 64 * v, align=4))
                    value = call(b, "llvm.maxnum.v16f32", floats, [value, const(floats, 0.0)])
                    value = call(b, "llvm.minnum.v16f32", floats, [value, const(floats, 255.0)])
                    store(b, b.trunc(b.fptosi(value, vec(i32, LANES)), vec(i8, LANES)), line, LANES * v)
            return ctx.get_dummy_value()

        return types.void(*[types.intp] * 9), gen

    return tile


_line_tile1, _line_tile2 = _make_line_tile(1), _make_line_tile(2)


@njit
def make_table(query, lanes, steps, lengths, centroids, factors, biases, mean, longest, table):
    """Bytes table[c, j] of the product of query token j and centroid c; returns (step, offset).

    A byte is (product - lowest of token j) / step, 0 below, rounded; a sum of bytes * step + offset is a sum of
    products. What no product can exceed is 255 for the widest token. `query` (m, dim) float32 and what `code_rows`
    makes of it; centroid c is factors[c] * centroids[c], biases[c] int32 is -128 times the sum of its codes; `mean`
    (dim,) float32 is the average of all, `longest` the length of the longest; `table` (centroids, 16, 32 or a multiple
    of 64) uint8.
    """
    tokens, width, dim = query.shape[0], table.shape[1], centroids.shape[1]
    weights, shifts = np.zeros(width, np.float32), np.zeros(width, np.float32)
    step, offset = 1e-30, 0.0
    for j in range(tokens):  # what lies below the mean never wins for points that matter
        middle = np.float64(0)
        for d in range(mean.shape[0]):
            middle += np.float64(query[j, d]) * np.float64(mean[d])
        step = max(step, (np.float64(lengths[j]) * longest - middle) / 255)
    for j in range(tokens):
        lowest = np.float64(lengths[j]) * longest - 255 * step
        offset += lowest
        weights[j], shifts[j] = np.float64(steps[j]) / step, 0.5 - lowest / step
    for v in range(0, lanes.shape[0], 2):
        tokens_at = lanes.ctypes.data + v * lanes.shape[1] * 64
        weight, shift = weights.ctypes.data + v * 64, shifts.ctypes.data + v * 64
        for c in range(0, centroids.shape[0], CODE_ROWS):
            first, own, begin = centroids.ctypes.data + c * dim, factors.ctypes.data + c * 4, biases.ctypes.data + c * 4
            out = table.ctypes.data + c * width + v * LANES
            if v + 1 < lanes.shape[0]:
                _line_tile2(tokens_at, weight, shift, first, dim, begin, own, out, width)
            else:
                _line_tile1(tokens_at, weight, shift, first, dim, begin, own, out, width)
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
