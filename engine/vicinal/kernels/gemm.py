"""Blocked int8 products: rows against packed groups of sixteen rows, and single pairs.

Score convention of the whole graph b. Lanes are candidates j (u8 = s8 + 128, packed sixteen to a group), the
broadcast side is a row i (s8):

    score(i, j) = dot(i, j) + 128 sum(i) - half(j)      half(x) = |x|^2 / 2     larger is nearer
    half squared distance (i, j) = offset(i) - score(i, j)      offset(i) = half(i) + 128 sum(i)

The bias -half(j) is the start value of the sums, so squared L2 costs what a dot product costs. Padding lanes
carry the bias
`LOW` and lose every comparison. Sums stay below 2^29 at 8,192 dimensions of bytes in -127 .. 127.

A tile takes int32 lists of row numbers and of group numbers, so contiguous and gathered operands use one
kernel and there
are no tail kernels: lists repeat their last row, or name an empty group.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vicinal.kernels.dot8 import best_body
from vicinal.kernels.operands import operand, pointer, read, row_width, write
from vicinal.kernels.simd import const, i8, i32, i64, reduce_add, splat, vec

__all__ = ["BLOCK", "GROUP", "LOW", "ROWS_PER_TILE", "dot8", "pack16", "tile6x2", "tile6x4"]

LOW = np.int32(-(1 << 30))  # score of a lane that holds no row
GROUP = 16  # candidates side by side in a packed group
BLOCK = 64  # codes are padded to whole cache lines of bytes
ROWS_PER_TILE = 6
_BODY = best_body()


def _make_tile(groups_wide: int):
    """Build the intrinsic that multiplies six rows by `groups_wide` groups."""

    @intrinsic(prefer_literal=False)
    def tile(typingctx, codes, rows, row, panel, groups, group, bias, out, at, stride):
        """Score rows codes[rows[row + r]], r < 6, against groups panel[groups[group + v]].

        Row r, group v go to out[at + r * stride + 16 v ...].
        """
        signature = types.void(
            operand(codes, types.int8),
            operand(rows, types.int32),
            types.intp,
            operand(panel, types.uint8),
            operand(groups, types.int32),
            types.intp,
            operand(bias, types.int32),
            operand(out, types.int32),
            types.intp,
            types.intp,
        )

        def generate(ctx, b, sig, args):
            _tile_body(ctx, b, sig.args, args, groups_wide)
            return ctx.get_dummy_value()

        return signature, generate

    return tile


def _tile_body(ctx, b, kinds, args, groups_wide: int) -> None:
    """Emit the loops of one tile: all of it in registers (AVX-512), or part after part."""
    codes_t, rows_t, _, panel_t, groups_t, _, bias_t, out_t, _, _ = kinds
    codes, rows, row, panel, groups, group, bias, out, at, stride = args
    width = row_width(ctx, b, codes_t, codes)
    wide = b.mul(width, i64(GROUP))
    per = GROUP // _BODY.lanes  # registers a group takes
    starts = []
    for r in range(ROWS_PER_TILE):
        number = read(b, pointer(ctx, b, rows_t, rows, b.add(row, i64(r))), i32)
        starts.append(pointer(ctx, b, codes_t, codes, b.mul(b.sext(number, i64), width)))
    columns = []
    for v in range(groups_wide):
        place = pointer(ctx, b, groups_t, groups, b.add(group, i64(v)))
        number = b.sext(read(b, place, i32), i64)
        for part in range(per):
            start = b.add(b.mul(number, wide), i64(part * _BODY.lanes * 4))
            first = b.add(b.mul(number, i64(GROUP)), i64(part * _BODY.lanes))
            columns.append(
                (
                    pointer(ctx, b, panel_t, panel, start),
                    pointer(ctx, b, bias_t, bias, first),
                )
            )
    outs = [pointer(ctx, b, out_t, out, b.add(at, b.mul(stride, i64(r)))) for r in range(ROWS_PER_TILE)]
    for r0 in range(0, ROWS_PER_TILE, _BODY.rows):
        some = starts[r0 : r0 + _BODY.rows]
        corrections = [_byte_sums(b, start, width) for start in some] if _BODY.signed else None
        for c0 in range(0, len(columns), _BODY.columns):
            sums = _products(b, some, columns[c0 : c0 + _BODY.columns], width, corrections)
            for r, of_row in enumerate(sums):
                for c, total in enumerate(of_row):
                    place = b.gep(outs[r0 + r], [i64((c0 + c) * _BODY.lanes * 4)])
                    write(b, total, place)


def _products(b, starts, columns, width, corrections):
    """Emit one loop over the dimensions with every sum in a register; give the sums [row][column]."""
    sums_kind, bytes_kind = vec(i32, _BODY.lanes), vec(i8, 4 * _BODY.lanes)
    first = [[read(b, bias, sums_kind) for _, bias in columns] for _ in starts]
    if corrections is not None:
        first = [[b.add(x, fix) for x in of_row] for of_row, fix in zip(first, corrections, strict=True)]
    before = b.block
    loop, after = b.append_basic_block("dims"), b.append_basic_block("dims.end")
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(i64)
    k.add_incoming(i64(0), before)
    totals = [[b.phi(sums_kind) for _ in columns] for _ in starts]
    for of_row, given in zip(totals, first, strict=True):
        for phi, value in zip(of_row, given, strict=True):
            phi.add_incoming(value, before)
    now = [list(of_row) for of_row in totals]
    for u in range(_BODY.unroll):
        step = b.add(k, i64(4 * u))
        lane_step = b.mul(step, i64(GROUP))
        xs = [_BODY.prepare(b, read(b, b.gep(lanes, [lane_step]), bytes_kind)) for lanes, _ in columns]
        for r, start in enumerate(starts):
            a = _BODY.broadcast(b, read(b, b.gep(start, [step]), i32))
            for c, x in enumerate(xs):
                now[r][c] = _BODY.step(b, now[r][c], x, a)
    following = b.add(k, i64(4 * _BODY.unroll))
    k.add_incoming(following, loop)
    for of_row, ends in zip(totals, now, strict=True):
        for phi, value in zip(of_row, ends, strict=True):
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", following, width), loop, after)
    b.position_at_end(after)
    return now


def _byte_sums(b, start, width):
    """Emit the sum of 128 times a row's bytes, in every lane."""
    sums_kind = vec(i32, _BODY.lanes)
    bytes_kind = vec(i8, 4 * _BODY.lanes)
    slot = cgutils.alloca_once_value(b, const(sums_kind, 0))
    with cgutils.for_range(b, b.udiv(width, i64(4 * _BODY.lanes))) as turn:
        place = b.gep(start, [b.mul(turn.index, i64(4 * _BODY.lanes))])
        b.store(_BODY.byte_sum(b, b.load(slot), read(b, place, bytes_kind)), slot)
    return splat(b, reduce_add(b, b.load(slot)), _BODY.lanes)


tile6x4 = _make_tile(4)
tile6x2 = _make_tile(2)


@intrinsic(prefer_literal=False)
def pack16(typingctx, codes, rows, row, panel, group):
    """Transpose rows codes[rows[row + l]], l < 16, into group panel[group]: [k][l][4 bytes], each + 128."""
    signature = types.void(
        operand(codes, types.int8),
        operand(rows, types.int32),
        types.intp,
        operand(panel, types.uint8),
        types.intp,
    )

    def generate(ctx, b, sig, args):
        codes, rows, row, panel, group = args
        width = row_width(ctx, b, sig.args[0], codes)
        words = vec(i32, GROUP)
        starts = []
        for lane in range(GROUP):
            place = pointer(ctx, b, sig.args[1], rows, b.add(row, i64(lane)))
            number = b.sext(read(b, place, i32), i64)
            starts.append(pointer(ctx, b, sig.args[0], codes, b.mul(number, width)))
        out = pointer(ctx, b, sig.args[3], panel, b.mul(group, b.mul(width, i64(GROUP))))
        low = ir.Constant(words, [x for i in range(8) for x in (i, 16 + i)])
        high = ir.Constant(words, [x for i in range(8, 16) for x in (i, 16 + i)])
        flip = const(words, 0x80808080 - (1 << 32))
        with cgutils.for_range(b, b.udiv(width, i64(BLOCK))) as turn:
            offset = b.mul(turn.index, i64(BLOCK))
            v = [b.xor(read(b, b.gep(start, [offset]), words), flip) for start in starts]
            for _ in range(4):  # four rounds of interleaving transpose 16 x 16 words
                v = [
                    x
                    for i in range(8)
                    for x in (
                        b.shuffle_vector(v[i], v[i + 8], low),
                        b.shuffle_vector(v[i], v[i + 8], high),
                    )
                ]
            to = b.gep(out, [b.mul(turn.index, i64(BLOCK * GROUP))])
            for lane in range(GROUP):
                write(b, v[lane], b.gep(to, [i64(BLOCK * lane)]))
        return ctx.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=False)
def dot8(typingctx, codes, first, second):
    """Give dot(i, j) + 128 sum(j) of rows i = `first`, read as u8, and j = `second` of a code array."""
    signature = types.int32(operand(codes, types.int8), types.intp, types.intp)

    def generate(ctx, b, sig, args):
        codes, first, second = args
        width = row_width(ctx, b, sig.args[0], codes)
        one = pointer(ctx, b, sig.args[0], codes, b.mul(first, width))
        other = pointer(ctx, b, sig.args[0], codes, b.mul(second, width))
        return _pair(b, one, other, width)

    return signature, generate


def _pair(b, one, other, width):
    """Emit the product of one pair of rows: `one` read as u8, `other` as s8."""
    sums_kind = vec(i32, _BODY.lanes)
    step = 4 * _BODY.lanes
    bytes_kind = vec(i8, step)
    flip = const(bytes_kind, 0x80)
    slot = cgutils.alloca_once_value(b, const(sums_kind, 0))
    with cgutils.for_range(b, b.udiv(width, i64(step))) as turn:
        offset = b.mul(turn.index, i64(step))
        x = b.xor(read(b, b.gep(one, [offset]), bytes_kind), flip)
        y = read(b, b.gep(other, [offset]), bytes_kind)
        total = _BODY.step(b, b.load(slot), _BODY.prepare(b, x), y)
        if _BODY.signed:
            total = _BODY.byte_sum(b, total, y)
        b.store(total, slot)
    return reduce_add(b, b.load(slot))
