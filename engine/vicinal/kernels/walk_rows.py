"""Distances from the bytes of a row, and from the stored floats."""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.distance import COSINE, DOT, L2, Space, distance, dot
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.simd import (
    INF_KEY,
    Loop,
    const,
    get_f32,
    get_i32,
    get_i64,
    get_u32,
    i8,
    key_distance,
    key_slot,
    load,
    make_key,
    prefetch_l2,
    reduce_add,
    set_f32,
    set_i64,
    set_u32,
    splat,
    vec,
)
from vicinal.kernels.vnni import dot_bytes
from vicinal.kernels.walk_fields import (
    HEAD_NORM,
    HEAD_SQUARE,
    HEAD_STEP,
    HEAD_SUM,
    SLOTS,
    VECTOR_AT,
    WIDE_SLOTS,
    Number,
)
from vicinal.kernels.walk_ir import LINE, V16F, V16I, gathered, sum_lanes

__all__ = ["RowQuery", "answer", "fetch_last", "row_query", "row_score", "settle"]


_NEAR = np.float32(0.25)  # of a row's square: distances below are too near 0 for 16 bits
# 16 bits round a distance by about 2 |x - q| |x| / (887 b), b the length of the row's bytes (887: 256 sqrt(12)); four
# times as much stays below 2e-5 of the larger square s where |x - q|^2 |x|^2 * _FAR < (b s)^2.
_FAR = np.float32((4 * 2 / 887 / 2e-5) ** 2)
_SPIKY = 4 * 127 * 127  # square of a row's bytes, below which one dimension is more than half its length


class RowQuery(NamedTuple):
    """A framed query against rows of bytes."""

    bytes: int
    lines: int
    base: float
    factor: float
    offset: float
    constant: float


@njit(forceinline=True)
def row_query(framed, index, work):
    """Prepare a framed query for `row_score`."""
    zero = get_f32(index.numbers + 4 * Number.ZERO)
    lines = index.padded // LINE
    factor = np.float32(-2) * framed.scale
    return RowQuery(work.bytes, lines, framed.square, factor, framed.offset, zero * framed.total)


@njit(forceinline=True)
def row_score(query, row):
    """Distance in the frame of the row at an address."""
    product = np.float32(dot_bytes(row + VECTOR_AT, query.bytes, query.lines))
    product += query.offset * np.float32(get_i32(row + HEAD_SUM)) - query.constant
    scaled = query.factor * get_f32(row + HEAD_STEP) * product
    return query.base + get_f32(row + HEAD_NORM) + scaled


@intrinsic
def _square_whole(typingctx, x, blocks):
    """Sum of (byte + 128)^2 over 16 * blocks int8."""

    def gen(ctx, b, sig, args):
        loop = Loop(b, args[1], [const(V16I, 0)])
        value = b.sext(load(b, gathered(b, args[0], loop.i, 16), vec(i8, 16)), V16I)
        value = b.add(value, const(V16I, 128))
        (total,) = loop.close([b.add(loop.vals[0], b.mul(value, value))])
        return reduce_add(b, total)

    return types.int32(types.intp, types.intp), gen


@njit(forceinline=True)
def _settle_whole(index, work, count, room):
    """Insert the exact integer distances of `count` chosen nodes into work.settled."""
    square = np.int64(_square_whole(work.bytes, index.padded // 16))
    for i in range(count):
        slot = get_u32(work.chosen + i * 4)
        row = index.rows + slot * index.row_bytes
        product = np.int64(dot_bytes(row + VECTOR_AT, work.bytes, index.padded // LINE))
        product += np.int64(128) * np.int64(get_i32(row + HEAD_SUM))
        whole = square + np.int64(get_i32(row + HEAD_SQUARE)) - np.int64(2) * product
        pool_insert(work.settled, room, make_key(np.float32(whole), slot))


@njit(forceinline=True)
def _settle_floats(index, work, query, inverse, vectors, inv_norms, count, room):
    """Insert the distances of `count` chosen nodes, on the stored floats, into work.settled."""
    space = Space(index.metric, index.dim, vectors, inv_norms, index.dim * 4, 0, np.float32(0))
    for i in range(count):
        slot = get_u32(work.chosen + i * 4)
        pool_insert(work.settled, room, make_key(distance(space, query, inverse, slot), slot))


@njit(forceinline=True)
def _settle_results(work, count, room):
    """Insert the first `count` results as they are: stored rows are not of floats, and the caller settles on them."""
    before = INF_KEY
    for i in range(count):
        key = get_i64(work.results + i * 8)
        if key == INF_KEY:
            break
        if key != before:
            pool_insert(work.settled, room, key)
        before = key


def _fine_sum(*, squared):
    """Make the intrinsic that compares a row of 16 bits a dimension with the framed query."""

    @intrinsic
    def fine_sum(typingctx, high, low, factor, constant, query, blocks):
        """Sum of (value - query)^2 or of value * query, 16 per block; value = (256 high + low) factor + constant."""

        def gen(ctx, b, sig, args):
            high, low, factor, constant, query, blocks = args
            loop = Loop(b, blocks, [const(V16F, 0.0)])
            word = b.zext(load(b, gathered(b, high, loop.i, 16), vec(i8, 16)), V16I)
            word = b.shl(word, const(V16I, 8))
            word = b.or_(word, b.zext(load(b, gathered(b, low, loop.i, 16), vec(i8, 16)), V16I))
            value = b.fadd(b.fmul(b.sitofp(word, V16F), splat(b, factor, 16)), splat(b, constant, 16))
            q = load(b, gathered(b, query, loop.i, LINE), V16F)
            difference = b.fsub(value, q)
            term = b.fmul(difference, difference) if squared else b.fmul(value, q)
            (total,) = loop.close([b.fadd(loop.vals[0], term)])
            return sum_lanes(b, total)

        number, address = types.float32, types.intp
        return types.float32(address, address, number, number, address, address), gen

    return fine_sum


_fine_square, _fine_product = _fine_sum(squared=True), _fine_sum(squared=False)


@njit
def _is_spiky(row):
    """Whether the row at an address is led by one dimension, which leaves the others' 16 bits too coarse a step."""
    return get_i32(row + HEAD_SQUARE) < _SPIKY


@njit(forceinline=True)
def _settle_fine(index, work, query, framed, vectors, inv_norms, count, room):
    """Insert the distances of `count` chosen nodes, on 16 bits a dimension, into work.settled.

    The padding of rows and of the query stands for 0 on both sides. Rounding is about 4e-6 of |x| |x - q|, so rows much
    nearer than they are long are settled on the stored floats: a row finds itself at distance 0. So are spiky rows, and
    such as are so far that rounding might show.
    """
    space = Space(index.metric, index.dim, vectors, inv_norms, index.dim * 4, 0, np.float32(0))
    scale = get_f32(index.numbers + 4 * Number.SCALE)
    unit = np.float32(1) / (scale * scale)
    blocks = (index.dim + 15) // 16
    across = np.float32(0)
    if index.metric == DOT:  # rows are about their mean, the query is not
        across = dot(work.vector, index.mean_shift, index.dim)
    elif index.metric == COSINE:
        unit *= np.float32(0.5)
    for i in range(count):
        slot = get_u32(work.chosen + i * 4)
        row, low = index.rows + slot * index.row_bytes, index.fine + slot * index.padded
        step = get_f32(row + HEAD_STEP)
        factor, constant = step / np.float32(256), step * np.float32(-128.5)
        if index.metric == DOT:
            value = -(_fine_product(row + VECTOR_AT, low, factor, constant, work.vector, blocks) + across)
        else:
            value = _fine_square(row + VECTOR_AT, low, factor, constant, work.vector, blocks)
        norm = get_f32(row + HEAD_NORM)
        near = value < norm * _NEAR and index.metric != DOT
        larger = max(norm, framed.square)
        square = larger * larger * np.float32(get_i32(row + HEAD_SQUARE))
        far = value * norm * _FAR > square and index.metric == L2
        value *= unit
        if vectors != 0 and (near or far or _is_spiky(row)):
            value = distance(space, query, framed.inverse, slot)
        pool_insert(work.settled, room, make_key(value, slot))


@njit(forceinline=True)
def settle(index, work, framed, query, vectors, inv_norms, k, count):
    """Settle the first `count` results: the k nearest of them, in order, to work.settled. `fetch_last` comes before."""
    whole = index.whole != 0 and framed.whole
    found, before = 0, INF_KEY
    for i in range(count):
        key = get_i64(work.results + i * 8)
        if key == INF_KEY:
            break
        if key == before:  # links that change while they are read may name a slot twice
            continue
        before = key
        set_u32(work.chosen + found * 4, key_slot(key))
        found += 1
    room = (k + 7) // 8
    pool_clear(work.settled, room)
    if whole:
        _settle_whole(index, work, found, room)
    elif index.fine != 0:
        _settle_fine(index, work, query, framed, vectors, inv_norms, found, room)
    elif vectors == 0:
        _settle_results(work, count, room)
    else:
        _settle_floats(index, work, query, framed.inverse, vectors, inv_norms, found, room)


@njit(forceinline=True)
def answer(work, names, slots, distances, k):
    """Write the first k settled to the addresses of slots and of float32 distances; give how many there are.

    names: see `Call`.
    """
    for i in range(k):
        key = get_i64(work.settled + i * 8)
        if key == INF_KEY:
            return i
        name = key_slot(key)
        if names == SLOTS:
            set_u32(slots + i * 4, name)
        else:
            if names != WIDE_SLOTS:
                name = get_i64(names + name * 8)
            set_i64(slots + i * 8, name)
        set_f32(distances + i * 4, key_distance(key))
    return k


@njit(forceinline=True)
def fetch_last(index, work, framed, vectors, count):
    """Start fetching what settles the first `count` results: low bytes or stored floats, or nothing."""
    if (vectors == 0 and index.fine == 0) or (index.whole != 0 and framed.whole):
        return
    for i in range(count):
        key = get_i64(work.results + i * 8)
        if key == INF_KEY:
            break
        slot = key_slot(key)
        row, vector = index.dim * 4, vectors
        if index.fine != 0 and (vectors == 0 or not _is_spiky(index.rows + slot * index.row_bytes)):
            row, vector = index.padded, index.fine
        vector += slot * row
        for at in range(0, row, LINE):
            prefetch_l2(vector + at)
