"""Rows of stored tokens: quantised to bytes or bits, and unpacked where they are compared (see `maxsim`).

A token of BITS is the signs of a rotated token x (RaBitQ, Gao & Long, SIGMOD 2024) and a byte `a`: it stands for
scale * a * signs, where scale * a is nearly |x|^2 / |x|_1, so that its product with x itself is |x|^2 and products with
other vectors are estimated without bias. Departures: no centroid; the factor is a byte and one scale per point.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.elements import ELEMENTS
from vicinal.kernels.maxsim_tile import LANES, in_order
from vicinal.kernels.simd import (
    Loop,
    call,
    const,
    f32,
    get_u32,
    i1,
    i8,
    i32,
    i64,
    load,
    set_u32,
    splat,
    store,
    vec,
)

__all__ = [
    "BITS",
    "CODES",
    "FLOATS",
    "HALVES",
    "code_rows",
    "pack_rows",
    "quantise_bits",
    "quantise_rows",
    "to_floats",
    "unpack_bits",
    "unpack_rows",
]

CODES, BITS, HALVES, FLOATS = range(4)  # what stored tokens are
_HALF = ELEMENTS[types.uint16]


@intrinsic
def unpack_bits(typingctx, source, groups, target):
    """Write 64 * groups int8 codes, +a or -a, of one token of BITS; addresses."""

    def gen(ctx, b, sig, args):
        source, groups, target = args
        size = groups.type
        a = load(b, b.add(source, b.mul(groups, size(8))), i8)
        above, below = splat(b, a, 64), splat(b, b.sub(i8(0), a), 64)
        loop = Loop(b, groups, [])
        mask = b.bitcast(load(b, source, i64, b.mul(loop.i, size(8))), vec(i1, 64))
        store(b, b.select(mask, above, below), target, b.mul(loop.i, size(64)))
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), gen


@intrinsic
def _widen(typingctx, source, blocks, target):
    """Write 16 * blocks float32 of as many halves; addresses."""

    def gen(ctx, b, sig, args):
        source, blocks, target = args
        size = blocks.type
        loop = Loop(b, blocks, [])
        store(b, _HALF.read(b, source, b.mul(loop.i, size(32))), target, b.mul(loop.i, size(64)))
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), gen


@intrinsic
def _widen_one(typingctx, source):
    """The float32 of one half at an address."""

    def gen(ctx, b, sig, args):
        return _HALF.read_one(b, args[0], 0)

    return types.float32(types.intp), gen


@njit
def to_floats(source, width, rows, kind, out):
    """Turn rows of `width` bytes at an address into float32 (rows, dim): CODES or HALVES, without the scale."""
    dim = out.shape[1]
    for t in range(rows):
        at = source + t * width
        place = out.ctypes.data + t * dim * 4
        if kind == HALVES:
            _widen(at, dim // 16, place)
            for j in range(dim - dim % 16, dim):
                out[t, j] = _widen_one(at + 2 * j)
        else:
            _from_bytes(at, dim, place)


@intrinsic
def _from_bytes(typingctx, source, count, target):
    """Write `count` float32 of as many int8; addresses."""

    def gen(ctx, b, sig, args):
        source, count, target = args
        size = count.type
        wide, narrow = vec(f32, 16), vec(i8, 16)
        blocks = b.sdiv(count, size(16))
        loop = Loop(b, blocks, [])
        bytes_ = load(b, source, narrow, b.mul(loop.i, size(16)))
        store(b, b.sitofp(bytes_, wide), target, b.mul(loop.i, size(64)))
        loop.close([])
        rest = Loop(b, b.srem(count, size(16)), [])
        at = b.add(b.mul(blocks, size(16)), rest.i)
        store(b, b.sitofp(load(b, source, i8, at), f32), target, b.mul(at, size(4)))
        rest.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), gen


@njit
def unpack_rows(tokens, codes):
    """Codes (t, dim) int8 of rows of BITS (t, dim / 8 + 1) uint8."""
    dim = codes.shape[1]
    for t in range(tokens.shape[0]):
        unpack_bits(tokens.ctypes.data + t * tokens.shape[1], dim // 64, codes.ctypes.data + t * dim)


@njit
def pack_rows(codes, start, stop, lanes, bias):
    """Rows start..stop of (n, dim) int8 as lanes (v, ceil(dim / 4), 16, 4) int8 and their bias (v, 16) int32.

    Where dim is no multiple of 4 the last group holds the last four dimensions, zeros for those of the group before.
    """
    dim, groups = codes.shape[1], lanes.shape[1]
    lanes[:] = 0
    bias[:] = 0
    for row in range(stop - start):
        v, lane = row // LANES, row % LANES
        source = codes.ctypes.data + (start + row) * dim
        target = lanes.ctypes.data + (v * groups * LANES + lane) * 4
        for g in range(dim // 4):
            set_u32(target + g * 4 * LANES, get_u32(source + 4 * g))
        for j in range(dim - dim % 4, dim):
            lanes[v, groups - 1, lane, 4 - dim + j] = codes[start + row, j]
        total = np.int64(0)
        for j in range(dim):
            total += np.int64(codes[start + row, j])
        bias[v, lane] = -128 * total


@intrinsic
def _largest(typingctx, source, count):
    """The largest absolute value of `count` float32 at an address, 0 of none."""

    def gen(ctx, b, sig, args):
        source, count = args
        size, kind = count.type, vec(f32, LANES)
        blocks = b.sdiv(count, size(LANES))
        loop = Loop(b, blocks, [const(kind, 0.0)])
        values = call(b, "llvm.fabs.v16f32", kind, [load(b, source, kind, b.mul(loop.i, size(64)), align=4)])
        (most,) = loop.close([call(b, "llvm.maxnum.v16f32", kind, [loop.vals[0], values])])
        rest = Loop(b, b.srem(count, size(LANES)), [call(b, "llvm.vector.reduce.fmax.v16f32", f32, [most])])
        at = b.mul(b.add(b.mul(blocks, size(LANES)), rest.i), size(4))
        value = call(b, "llvm.fabs.f32", f32, [load(b, source, f32, at, align=4)])
        (most,) = rest.close([call(b, "llvm.maxnum.f32", f32, [rest.vals[0], value])])
        return most

    return types.float32(types.intp, types.intp), gen


def _rounded(b, values, step, same):
    """Emit values / step as whole numbers, halves to even, within -127 .. 127; `same` spreads a constant."""
    kind = values.type
    suffix = "f32" if kind is f32 else "v16f32"
    ratio = call(b, f"llvm.minnum.{suffix}", kind, [b.fdiv(values, step), same(127.0)])
    ratio = call(b, f"llvm.maxnum.{suffix}", kind, [ratio, same(-127.0)])
    magic = same(1.5 * 2**23)  # what is added to it keeps no digit below one
    return b.fsub(b.fadd(ratio, magic), magic)


@intrinsic
def _quantise(typingctx, source, count, step, target):
    """Write `count` int8 codes of as many float32, value = step * code; addresses."""

    def gen(ctx, b, sig, args):
        source, count, step, target = args
        size, kind = count.type, vec(f32, LANES)
        blocks, steps = b.sdiv(count, size(LANES)), splat(b, step, LANES)
        loop = Loop(b, blocks, [])
        values = load(b, source, kind, b.mul(loop.i, size(64)), align=4)
        codes = b.fptosi(_rounded(b, values, steps, lambda x: const(kind, x)), vec(i32, LANES))
        store(b, b.trunc(codes, vec(i8, LANES)), target, b.mul(loop.i, size(LANES)))
        loop.close([])
        rest = Loop(b, b.srem(count, size(LANES)), [])
        at = b.add(b.mul(blocks, size(LANES)), rest.i)
        value = load(b, source, f32, b.mul(at, size(4)), align=4)
        store(b, b.trunc(b.fptosi(_rounded(b, value, step, f32), i32), i8), target, at)
        rest.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp), gen


@njit
def quantise_rows(tokens, ends, scale, codes, scales):
    """int8 codes of float32 tokens: value = scale * code, halves to even, at most 127.

    One scale per point where `scale` is 0: max|value| / 127, and 1 where all values are 0.
    """
    start, dim = 0, tokens.shape[1]
    for point in range(ends.shape[0]):
        count, source = (ends[point] - start) * dim, tokens.ctypes.data + start * dim * 4
        step = scale if scale > 0 else _largest(source, count) / np.float32(127)
        if step == 0:
            step = np.float32(1)
        scales[point] = step
        _quantise(source, count, step, codes.ctypes.data + start * dim)
        start = ends[point]


@intrinsic
def _measure(typingctx, source, codes, count, step, out):
    """Write squared lengths in units of a step: of what codes lose of float32, of the float32, of the codes."""

    def gen(ctx, b, sig, args):
        source, codes, count, step, out = args
        size, kind = count.type, vec(f32, LANES)
        blocks, steps = b.sdiv(count, size(LANES)), splat(b, step, LANES)
        loop = Loop(b, blocks, [const(kind, 0.0)] * 3)
        value = b.fdiv(load(b, source, kind, b.mul(loop.i, size(64)), align=4), steps)
        code = b.sitofp(load(b, codes, vec(i8, LANES), b.mul(loop.i, size(LANES))), kind)
        sums = loop.close(_squares_added(b, loop.vals, value, code))
        sums = [in_order(b, total) for total in sums]
        rest = Loop(b, b.srem(count, size(LANES)), sums)
        at = b.add(b.mul(blocks, size(LANES)), rest.i)
        value = b.fdiv(load(b, source, f32, b.mul(at, size(4)), align=4), step)
        code = b.sitofp(load(b, codes, i8, at), f32)
        for number, total in enumerate(rest.close(_squares_added(b, rest.vals, value, code))):
            store(b, total, out, 4 * number, align=4)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32, types.intp), gen


def _squares_added(b, totals, value, code):
    """Emit sums with the squares of difference, value and code added."""
    terms = zip(totals, (b.fsub(value, code), value, code), strict=True)
    return [b.fadd(total, b.fmul(x, x)) for total, x in terms]


@njit
def code_rows(query, rounding, codes, lanes, bias, steps, apart, lengths):
    """Code a query (m, dim) float32 for the kernels, each token with a scale of its own.

    Into `codes` (m, dim) int8, `lanes` and `bias` as `pack_rows` makes them, and (m,) float32 each: `steps`, the
    scales; `apart`, how far products by codes may lie from those in float32 for each unit of a token's length, where
    float32 itself is off by `rounding` of the query token's; `lengths` of the coded tokens.
    """
    dim, squares = query.shape[1], np.empty(3, np.float32)
    for j in range(query.shape[0]):
        source, place = query.ctypes.data + j * dim * 4, codes.ctypes.data + j * dim
        step = _largest(source, dim) / np.float32(127)
        if step == 0:
            step = np.float32(1)
        _quantise(source, dim, step, place)
        _measure(source, place, dim, step, squares.ctypes.data)
        lost, whole, coded = np.sqrt(squares[0]), np.sqrt(squares[1]), np.sqrt(squares[2])
        steps[j] = step
        apart[j] = step * (np.float32(1.0001) * lost + np.float32(rounding) * whole)
        lengths[j] = np.float32(1.0001) * step * coded
    pack_rows(codes, 0, query.shape[0], lanes, bias)


@njit
def quantise_bits(tokens, ends, out, scales):
    """Rows of BITS, out (t, dim / 8 + 1) uint8, of rotated float32 tokens (t, dim), and one scale per point."""
    dim = tokens.shape[1]
    start = 0
    for point in range(ends.shape[0]):
        stop = ends[point]
        factors = np.zeros(stop - start, np.float64)
        for t in range(start, stop):
            square, total = 0.0, 0.0
            for j in range(dim):
                value = np.float64(tokens[t, j])
                square += value * value
                total += abs(value)
            if total > 0:
                factors[t - start] = square / total
            for j in range(dim // 8):
                byte = 0
                for k in range(8):
                    byte |= (1 if tokens[t, 8 * j + k] > 0 else 0) << k
                out[t, j] = byte
        scale = factors.max() / 127 if stop > start else 0.0
        if not scale > 0:
            scale = 1.0
        scales[point] = np.float32(scale)
        for t in range(start, stop):
            out[t, dim // 8] = np.uint8(min(127.0, np.rint(factors[t - start] / scale)))
        start = stop
