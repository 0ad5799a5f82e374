"""MaxSim in float32 of points whose tokens are codes, at little more than the price of the products of codes.

Products of codes tell which of a point's tokens can be a query token's best at all: those within twice what rounding
the query may move a product by. Only these are compared in float32, and only of points that may be among the k best.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.maxsim import fetch_ahead
from vicinal.kernels.maxsim_rows import BITS, unpack_bits
from vicinal.kernels.maxsim_tile import CODE_ROWS, LANES, in_order, make_kept_tile
from vicinal.kernels.simd import Loop, call, const, f32, i8, i16, i32, i64, load, lowest_bit, reduce_add, vec

__all__ = ["carve", "settle"]

_LOWEST, _HIGHEST = np.int32(-(1 << 31)), np.int32((1 << 31) - 1)
_KEPT = 1 << 15  # bytes of products that are kept: they stay in the first-level cache

_tile1, _tile2 = make_kept_tile(CODE_ROWS, 1), make_kept_tile(CODE_ROWS, 2)


# --- products --------------------------------------------------------------------------------------------------------


def _make_product(element):
    """The float32 product of float32 with as many int8 or float32; sums are taken in one order on every processor."""

    @intrinsic
    def product(typingctx, floats, others, count):
        def gen(ctx, b, sig, args):
            floats, others, count = args
            size, kind, width = count.type, vec(f32, LANES), 4 if element is f32 else 1
            blocks = b.sdiv(count, size(LANES))
            loop = Loop(b, blocks, [const(kind, 0.0)])
            x = load(b, floats, kind, b.mul(loop.i, size(64)), align=4)
            y = load(b, others, vec(element, LANES), b.mul(loop.i, size(width * LANES)), align=width)
            y = y if element is f32 else b.sitofp(y, kind)
            (total,) = loop.close([call(b, "llvm.fma.v16f32", kind, [x, y, loop.vals[0]])])
            rest = Loop(b, b.srem(count, size(LANES)), [in_order(b, total)])
            at = b.add(b.mul(blocks, size(LANES)), rest.i)
            x, y = load(b, floats, f32, b.mul(at, size(4)), align=4), load(b, others, element, b.mul(at, size(width)))
            y = y if element is f32 else b.sitofp(y, f32)
            (total,) = rest.close([call(b, "llvm.fma.f32", f32, [x, y, rest.vals[0]])])
            return total

        return types.float32(types.intp, types.intp, types.intp), gen

    return product


_product_bytes, _product_floats = _make_product(i8), _make_product(f32)


@intrinsic
def _square(typingctx, codes, count):
    """Sum of squares of `count` int8 at an address."""

    def gen(ctx, b, sig, args):
        codes, count = args
        size, kind = count.type, vec(i32, LANES)
        blocks = b.sdiv(count, size(LANES))
        loop = Loop(b, blocks, [const(kind, 0)])
        x = b.sext(load(b, codes, vec(i8, LANES), b.mul(loop.i, size(LANES))), kind)
        (total,) = loop.close([b.add(loop.vals[0], b.mul(x, x))])
        rest = Loop(b, b.srem(count, size(LANES)), [reduce_add(b, total)])
        x = b.sext(load(b, codes, i8, b.add(b.mul(blocks, size(LANES)), rest.i)), i32)
        (total,) = rest.close([b.add(rest.vals[0], b.mul(x, x))])
        return b.sext(total, i64)

    return types.int64(types.intp, types.intp), gen


@intrinsic
def _reached(typingctx, products, least):
    """Which of sixteen int32 are at least as large as those at another address, a bit each."""

    def gen(ctx, b, sig, args):
        kind = vec(i32, LANES)
        products, least = (load(b, address, kind, align=4) for address in args)
        return b.zext(b.bitcast(b.icmp_signed(">=", products, least), i16), i64)

    return types.int64(types.intp, types.intp), gen


# --- points ----------------------------------------------------------------------------------------------------------


@njit
def _keep_products(tokens, kind, low, rows, lanes, bias, codes, kept, best):
    """Products of tokens low..low + rows with every query lane, kept and folded into `best`; address of their codes."""
    dim = codes.shape[1]
    base = tokens.ctypes.data + low * tokens.shape[1]
    if kind == BITS:
        for t in range(rows):
            unpack_bits(base + t * tokens.shape[1], dim // 64, codes.ctypes.data + t * dim)
        base = codes.ctypes.data
    last, vectors, stride = base + (rows - 1) * dim, lanes.shape[0], lanes.shape[0] * 64
    for v in range(0, vectors, 2):
        query, begin = lanes.ctypes.data + v * lanes.shape[1] * 64, bias.ctypes.data + v * 64
        most, place = best.ctypes.data + v * 64, kept.ctypes.data + v * 64
        for t in range(0, rows, CODE_ROWS):
            if v + 1 < vectors:
                _tile2(query, begin, base + t * dim, last, dim, most, place + t * stride, stride)
            else:
                _tile1(query, begin, base + t * dim, last, dim, most, place + t * stride, stride)
    return base


@njit
def _longest(tokens, kind, dim, start, stop):
    """Length of the longest of tokens start..stop, without the scale."""
    most = np.int64(0)
    for t in range(start, stop):
        if kind == BITS:
            square = dim * np.int64(tokens[t, dim // 8]) * np.int64(tokens[t, dim // 8])
        else:
            square = _square(tokens.ctypes.data + t * dim, dim)
        most = max(most, square)
    return np.sqrt(np.float64(most))


@njit
def _compare(base, rows, dim, kept, least, query, values):
    """Fold into `values` the float32 products of those pairs whose kept products are at least `least`."""
    vectors = least.shape[0]
    for t in range(rows):
        for v in range(vectors):
            mask = _reached(kept.ctypes.data + (t * vectors + v) * 64, least.ctypes.data + v * 64)
            while mask:
                j = v * LANES + lowest_bit(mask)
                mask &= mask - 1
                values[j] = max(values[j], _product_bytes(query.ctypes.data + j * dim * 4, base + t * dim, dim))


@njit
def settle(tokens, kind, dim, ends, scales, slots, query, lanes, bias, steps, apart, k, out):
    """Exact MaxSim in float32 of those of the points `slots` that may be among the k best; returns how many were.

    `tokens` are CODES of dim >= 4 or BITS, `slots` uint32, best first as far as is known; into out (len(slots),)
    float32, -inf for points without tokens and those that cannot be. `query` (m, dim) float32, the others from
    `code_rows`. Products are float32, their sum is float64.
    """
    vectors, whole = bias.shape[0], np.float64(0)
    room = max(_KEPT // (64 * vectors), CODE_ROWS)
    kept = np.empty((room + CODE_ROWS, vectors, LANES), np.int32)
    codes = np.empty((room if kind == BITS else 0, dim), np.int8)
    best, least = np.empty((vectors, LANES), np.int32), np.full((vectors, LANES), _HIGHEST, np.int32)
    of_lane, least_of_lane = best.reshape(-1), least.reshape(-1)
    values = np.empty(steps.shape[0], np.float32)
    heap = np.full(k, -np.inf, np.float32)  # the k best so far, the least on top
    for j in range(apart.shape[0]):
        whole += np.float64(apart[j])
    settled = 0
    for i in range(slots.shape[0]):
        fetch_ahead(tokens, ends, slots, i + 1)
        slot = np.int64(slots[i])
        start, stop, out[i] = ends[slot - 1] if slot else 0, ends[slot], -np.inf
        if stop <= start:
            continue
        best[:] = _LOWEST
        for low in range(start, stop, room):
            base = _keep_products(tokens, kind, low, min(room, stop - low), lanes, bias, codes, kept, best)
        first = 0.0
        for j in range(steps.shape[0]):
            first += np.float64(of_lane[j]) * np.float64(steps[j])
        if first + whole * 127 * np.sqrt(np.float64(dim)) < np.float64(heap[0]) / np.float64(scales[slot]):
            continue
        longest = _longest(tokens, kind, dim, start, stop)
        if (first + whole * longest) * np.float64(scales[slot]) < np.float64(heap[0]):
            continue
        for j in range(steps.shape[0]):
            values[j] = -np.inf
            doubt = min(2 * np.float64(apart[j]) * longest / np.float64(steps[j]), 2.0**32)
            least_of_lane[j] = max(np.int64(of_lane[j]) - np.int64(doubt) - 1, np.int64(_LOWEST))
        for low in range(start, stop, room):
            if stop - start > room:
                base = _keep_products(tokens, kind, low, min(room, stop - low), lanes, bias, codes, kept, best)
            _compare(base, min(room, stop - low), dim, kept, least, query, values)
        total = 0.0
        for j in range(steps.shape[0]):
            total += np.float64(values[j])
        out[i] = total * np.float64(scales[slot])
        settled += 1
        _replace_least(heap, out[i])
    return settled


@njit
def _replace_least(heap, value):
    """Put a value in the place of the least of a heap, unless it is less."""
    if value <= heap[0]:
        return
    at = 0
    while 2 * at + 1 < heap.shape[0]:
        below = 2 * at + 1
        if below + 1 < heap.shape[0] and heap[below + 1] < heap[below]:
            below += 1
        if value <= heap[below]:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = value


# --- queries ---------------------------------------------------------------------------------------------------------


@njit
def carve(query, least, cosines, out):
    """Greedy balls of query tokens (m, dim) float32, each replaced by its sum, into `out`; returns how many.

    A ball holds the tokens whose product with its first one is at least `least`; with `cosines` that of unit tokens.
    """
    count, dim, size = 0, query.shape[1], query.shape[1] * 4
    base, taken, lengths = query.ctypes.data, np.zeros(query.shape[0], np.bool_), np.ones(query.shape[0], np.float32)
    if cosines:
        for j in range(query.shape[0]):
            lengths[j] = np.sqrt(_product_floats(base + j * size, base + j * size, dim))
    for first in range(query.shape[0]):
        if taken[first]:
            continue
        out[count] = query[first]
        for j in range(first + 1, query.shape[0]):
            if not taken[j]:
                product = _product_floats(base + first * size, base + j * size, dim)
                if product >= np.float32(least) * lengths[first] * lengths[j]:
                    taken[j] = True
                    for d in range(dim):
                        out[count, d] += query[j, d]
        count += 1
    return count
