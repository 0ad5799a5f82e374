"""A query enters the walk: into the index's frame, to signed bytes, to its nearest cell, to code lines.

The **frame** is where rows are stored as bytes: vector * scale - shift (scale holds 1 / |vector| under cosine), so
that cosine and L2 are squared Euclid there and dot is -2 <q, x> up to a constant per query. A row is step * (byte -
zero), a query q = scale (t + offset) with t in -128 .. 127, and

    <q, x> = step * scale * (sum byte t + offset sum byte - zero sum (t + offset)).

offset is 128 for a whole-number query against whole-number rows, where nothing is rounded, else 0.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from vicinal.kernels import njit
from vicinal.kernels.distance import COSINE, DOT, inverse_norm
from vicinal.kernels.heap import pool_fill
from vicinal.kernels.lines import PLANES, ByteQuery, NibbleQuery, SignQuery
from vicinal.kernels.rotate import rotate
from vicinal.kernels.simd import (
    Loop,
    call,
    const,
    f32,
    get_f32,
    get_i64,
    i8,
    i16,
    i32,
    i64,
    load,
    reduce_add,
    set_i64,
    splat,
    store,
    vec,
)
from vicinal.kernels.vnni import affine64, dots64, nearest_cell
from vicinal.kernels.walk_fields import Number
from vicinal.kernels.walk_ir import LINE, V16F, gathered, larger, smaller, sum_lanes

__all__ = [
    "CellQuery",
    "Framed",
    "Table",
    "byte_query",
    "cell_query",
    "dot_tables",
    "enter",
    "frame_query",
    "into_code_space",
    "line_query",
    "nearest",
    "nibble_query",
    "project",
    "sign_query",
]

_FLOATS = vec(f32, 64)
_LEVEL = np.float32(0.335)  # step of 16 levels over a normal variable of spread 1 (Max 1960)


class Table(NamedTuple):
    """A packed table that queries are multiplied with."""

    at: int
    blocks: int  # of 64 rows
    stride: int  # bytes of a block
    quads: int  # of bytes in a row; what follows is 0


class CellQuery(NamedTuple):
    """How a dot with a cell's centre becomes its score: see `vnni.nearest_cell`."""

    factor: np.float32
    sums: np.float32
    constant: np.float32


class Framed(NamedTuple):
    """A query in the frame; see the module's formula."""

    scale: np.float32  # of a byte
    offset: np.float32
    total: np.float32  # sum of (t + offset) over the dimensions
    square: np.float32  # |q|^2 in the frame; 0 under dot
    inverse: np.float32  # 1 / |query| under cosine
    whole: bool


@intrinsic
def _into_frame(typingctx, x, dim, scale, shift, out):
    """Write out = x * scale - shift for dim floats; a last part of a block of 16 reads nothing beyond x."""

    def gen(ctx, b, sig, args):
        x, dim, scale, shift, out = args
        factor = splat(b, scale, 16)
        loop = Loop(b, b.lshr(dim, i64(4)), [])
        at = b.shl(loop.i, i64(6))
        value = b.fsub(b.fmul(load(b, x, V16F, at), factor), load(b, shift, V16F, at))
        store(b, value, out, at)
        loop.close([])
        start = b.and_(dim, i64(-16))
        rest = Loop(b, b.sub(dim, start), [])
        at = b.shl(b.add(start, rest.i), i64(2))
        value = b.fsub(b.fmul(load(b, x, f32, at), scale), load(b, shift, f32, at))
        store(b, value, out, at)
        rest.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp, types.intp), gen


@intrinsic
def _square_and_largest(typingctx, x, blocks, largest):
    """Sum of squares of 64 * blocks floats; the largest magnitude goes to the float32 at `largest`."""

    def gen(ctx, b, sig, args):
        zero = const(_FLOATS, 0.0)  # four sums side by side: one would wait for its own additions
        loop = Loop(b, args[1], [zero, zero])
        value = load(b, gathered(b, args[0], loop.i, 4 * LINE), _FLOATS)
        total = b.fadd(loop.vals[0], b.fmul(value, value))
        magnitude = call(b, "llvm.fabs.v64f32", _FLOATS, [value])
        total, most = loop.close([total, larger(b, magnitude, loop.vals[1])])
        store(b, sum_lanes(b, most, lambda p, q: larger(b, p, q)), args[2])
        return sum_lanes(b, total)

    return types.float32(types.intp, types.intp, types.intp), gen


@intrinsic
def _to_bytes(typingctx, x, scale, offset, out, blocks):
    """Write clamp(rint(x * scale - offset), -128, 127) of 64 * blocks floats as int8; give their sum."""

    def gen(ctx, b, sig, args):
        x, scale, offset, out, blocks = args
        loop = Loop(b, blocks, [const(vec(i32, 64), 0)])
        value = b.fmul(load(b, gathered(b, x, loop.i, 4 * LINE), _FLOATS), splat(b, scale, 64))
        value = call(b, "llvm.rint.v64f32", _FLOATS, [b.fsub(value, splat(b, offset, 64))])
        value = larger(b, value, const(_FLOATS, -128.0))
        number = b.fptosi(smaller(b, value, const(_FLOATS, 127.0)), vec(i32, 64))
        store(b, b.trunc(number, vec(i8, 64)), gathered(b, out, loop.i, LINE))
        (total,) = loop.close([b.add(loop.vals[0], number)])
        return reduce_add(b, total)

    return types.int32(types.intp, types.float32, types.float32, types.intp, types.intp), gen


@intrinsic
def _is_whole(typingctx, x, blocks):
    """Whether 16 * blocks floats are whole numbers from 0 to 255."""

    def gen(ctx, b, sig, args):
        loop = Loop(b, args[1], [i16(-1)])
        value = load(b, gathered(b, args[0], loop.i, LINE), V16F)
        good = b.fcmp_ordered("==", value, call(b, "llvm.rint.v16f32", V16F, [value]))
        good = b.and_(good, b.fcmp_ordered(">=", value, const(V16F, 0.0)))
        good = b.and_(good, b.fcmp_ordered("<=", value, const(V16F, 255.0)))
        (all_good,) = loop.close([b.and_(loop.vals[0], b.bitcast(good, i16))])
        return b.icmp_unsigned("==", all_good, i16(-1))

    return types.boolean(types.intp, types.intp), gen


@intrinsic
def _subtract(typingctx, x, y, out, blocks):
    """Write out = x - y, 16 floats per block."""

    def gen(ctx, b, sig, args):
        loop = Loop(b, args[3], [])
        at = b.shl(loop.i, i64(6))
        store(b, b.fsub(load(b, args[0], V16F, at), load(b, args[1], V16F, at)), args[2], at)
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), gen


@intrinsic
def _bit_planes(typingctx, x, scale, out, words):
    """Cut 64 * words floats to levels clamp(floor(x * scale) + 8, 0, 15), one line of bits per binary digit."""

    def gen(ctx, b, sig, args):
        x, scale, out, words = args
        floats, bytes64 = _FLOATS, vec(i8, 64)
        loop = Loop(b, words, [])
        value = b.fmul(load(b, gathered(b, x, loop.i, 256), floats), splat(b, scale, 64))
        value = larger(b, b.fadd(value, const(floats, 8.0)), const(floats, 0.0))
        level = b.trunc(b.fptosi(smaller(b, value, const(floats, 15.0)), vec(i32, 64)), bytes64)
        for plane in range(PLANES):
            bits = b.icmp_unsigned("!=", b.and_(level, const(bytes64, 1 << plane)), const(bytes64, 0))
            store(b, b.bitcast(bits, i64), gathered(b, out, loop.i, 8), LINE * plane)
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.float32, types.intp, types.intp), gen


@njit(forceinline=True)
def frame_query(query, index, work):
    """Bring the float32 query at an address into the frame and to signed bytes (work.vector, work.bytes)."""
    dim, padded = index.dim, index.padded
    scale, inverse = get_f32(index.numbers + 4 * Number.SCALE), np.float32(1)
    if index.metric == COSINE:
        inverse = inverse_norm(query, dim)
        scale *= inverse
    _into_frame(query, dim, scale, index.shift, work.vector)
    square = _square_and_largest(work.vector, padded // 64, work.estimates)
    whole = index.whole != 0 and _is_whole(work.vector, padded // 16)
    byte, offset = max(get_f32(work.estimates), np.float32(1e-30)) / np.float32(127), np.float32(0)
    if whole:
        byte, offset = np.float32(1), np.float32(128)
    total = np.float32(_to_bytes(work.vector, np.float32(1) / byte, offset, work.bytes, padded // 64))
    total += offset * np.float32(padded)  # the padding is byte -128, or 0, as its t + offset is 0
    if index.metric == DOT:
        square = np.float32(0)
    return Framed(byte, offset, total, square, inverse, whole)


@njit(forceinline=True)
def dot_tables(index):
    """What a framed query and its cells are multiplied with: the projection and the centres."""
    stride = index.padded * 64
    projection = Table(index.projection, index.outputs // 64, stride, (index.dim + 3) // 4)
    if index.narrow != 0:
        return projection, Table(index.narrow, index.cell_blocks, index.outputs * 64, index.outputs // 4)
    return projection, Table(index.cells, index.cell_blocks, stride, index.padded // 4)


@njit(forceinline=True)
def _dots(table, query, out):
    """Multiply a table with one query."""
    dots64(table.at, table.blocks, table.stride, query, table.quads, out)


@njit(forceinline=True)
def into_code_space(framed, index, work):
    """Turn the dots of a query with the projection into floats, in work.projected."""
    total = framed.total - framed.offset * np.float32(index.dim)
    shift = index.projection_shift_whole if framed.whole else index.projection_shift
    blocks = index.outputs // 16
    add = np.float32(-128) * total
    affine64(work.dots, add, framed.scale, index.projection_scale, shift, work.projected, blocks)
    pool_fill(work.projected + index.outputs * 4, (index.projected - index.outputs) // 16, 0)


@njit(forceinline=True)
def project(framed, index, work):
    """Project the framed query onto the code space, in work.projected, where there is one apart from the frame."""
    if index.projection != 0:
        _dots(dot_tables(index)[0], work.bytes, work.dots)
        into_code_space(framed, index, work)


@njit(forceinline=True)
def cell_query(framed, index, work):
    """Prepare a query to be compared with centres, in the frame or projected, in work.narrow; give its formula."""
    if index.narrow == 0:
        step = get_f32(index.numbers + 4 * Number.CELL_STEP)
        zero = get_f32(index.numbers + 4 * Number.CELL_ZERO)
        factor = np.float32(-2) * step * framed.scale
        return CellQuery(factor, factor * framed.offset, -factor * zero * framed.total)
    blocks = index.outputs // 64
    _square_and_largest(work.projected, blocks, work.estimates)
    byte = max(get_f32(work.estimates), np.float32(1e-30)) / np.float32(127)
    total = np.float32(_to_bytes(work.projected, np.float32(1) / byte, np.float32(0), work.narrow, blocks))
    factor = np.float32(-2) * get_f32(index.numbers + 4 * Number.NARROW_STEP) * byte
    return CellQuery(factor, np.float32(0), np.float32(-128) * factor * total)


@njit(forceinline=True)
def nearest(query, index, work):
    """Turn the dots with the centres in work.scores into scores, without the query's square; give the nearest cell."""
    norms, sums = index.cell_norms, index.cell_sums
    if index.narrow != 0:
        norms = sums = index.narrow_norms
    return nearest_cell(work.scores, index.cell_blocks, norms, sums, query.factor, query.sums, query.constant)


@njit(forceinline=True)
def enter(framed, index, work):
    """Score the cells into work.scores, without the query's square; give the nearest. `project` comes before.

    Centres are compared where codes are, if what lies outside is little.
    """
    query = cell_query(framed, index, work)
    _dots(dot_tables(index)[1], work.narrow if index.narrow != 0 else work.bytes, work.scores)
    return nearest(query, index, work)


@njit(forceinline=True)
def _code_base(framed, index, work):
    """|q - centre|^2, or 0 under dot."""
    if index.off_centre == 0 or index.metric == DOT:
        return framed.square
    _subtract(work.vector, index.centre, work.centred, index.padded // 16)
    return _square_and_largest(work.centred, index.padded // 64, work.estimates)


@njit(forceinline=True)
def sign_query(framed, index, work):
    """Prepare a framed and projected query for sign lines; `enter` has scored the cells."""
    m = index.projected
    base = framed.square if index.narrow == 0 else _code_base(framed, index, work)
    if index.projection == 0:
        _subtract(work.vector, index.centre, work.projected, index.padded // 16)
        pool_fill(work.projected + index.padded * 4, (m - index.padded) // 16, 0)
    rotate(work.projected, index.signs, m)
    spread = np.sqrt(_square_and_largest(work.projected, m // 64, work.estimates) / np.float32(m))
    step = _LEVEL * spread + np.float32(1e-30)
    _bit_planes(work.projected, np.float32(1) / step, work.lines, m // 64)
    k0 = step * np.float32(0.5) * np.float32(15 * m)
    return SignQuery(index.codes, work.lines, work.scores, base, k0, -step)


@njit(forceinline=True)
def nibble_query(framed, index, work):
    """Prepare a framed and projected query for lines of 4-bit levels."""
    base = _code_base(framed, index, work)
    blocks = index.projected // 64
    _square_and_largest(work.projected, blocks, work.estimates)
    step = max(get_f32(work.estimates), np.float32(1e-30)) / np.float32(127)
    total = np.float32(_to_bytes(work.projected, np.float32(1) / step, np.float32(0), work.lines, blocks))
    return NibbleQuery(index.codes, work.lines, base, np.float32(-15) * step * total, np.float32(2) * step)


@njit(forceinline=True)
def byte_query(framed, index, work):
    """Prepare a framed query for lines of 8-bit levels: its own bytes."""
    for at in range(0, LINE, 8):
        set_i64(work.lines + at, get_i64(work.bytes + at))
    zero = get_f32(index.numbers + 4 * Number.ZERO)
    k1 = np.float32(-2) * framed.scale
    return ByteQuery(index.codes, work.lines, framed.square, -k1 * zero * framed.total, k1)


def line_query(kind, framed, index, work):
    """Prepare a framed and projected query for the kind of lines that `kind`, a query for such, is for."""
    raise NotImplementedError("compiled code only")


@overload(line_query)
def _line_query(kind, framed, index, work):
    if getattr(kind, "instance_class", None) is SignQuery:
        return lambda kind, framed, index, work: sign_query(framed, index, work)  # noqa: ARG005 - it told which
    if getattr(kind, "instance_class", None) is NibbleQuery:
        return lambda kind, framed, index, work: nibble_query(framed, index, work)  # noqa: ARG005
    return lambda kind, framed, index, work: byte_query(framed, index, work)  # noqa: ARG005
