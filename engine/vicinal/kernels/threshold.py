"""The best L of many int32 scores without a heap: count above a threshold, bisect it, compress once.

Score buffers are int32, larger is nearer, filled to a multiple of sixteen with `LOW`, and end with sixteen
spare entries,
because a compressed register is stored whole. Equal scores go by position, so results depend on the input's
order alone.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.gemm import LOW
from vicinal.kernels.operands import greater, operand, pointer, read, write
from vicinal.kernels.simd import call, i16, i32, i64, splat, vec

__all__ = ["SLACK", "above64", "count_above", "keep_above", "rank_sort", "shrink", "span"]

SLACK = 16  # entries that a cut may leave beyond what was asked for: saves steps of bisection
_LANES = 16
_SUMS = vec(i32, _LANES)


def _count(b, mask):
    """Emit the number of set lanes of a mask."""
    bits = b.bitcast(mask, i16)
    return b.zext(call(b, "llvm.ctpop.i16", i16, [bits]), i64)


def _compress(b, values, mask):
    """Emit the chosen lanes of a register, moved to its front."""
    return call(b, "llvm.experimental.vector.compress.v16i32", _SUMS, [values, mask, ir.Constant(_SUMS, ir.Undefined)])


@intrinsic(prefer_literal=False)
def keep_above(typingctx, scores, first, ids, first_id, registers, least, out_scores, out_ids, out, count):
    """Append (score, id) of 16 * `registers` entries above `least` at out[count]; give the new count.

    `first`, `first_id`, `out` are element offsets. Working in place is fine. Stores whole registers: sixteen
    entries behind
    the last one kept are overwritten (compressing straight to memory is microcoded on some processors).
    """
    signature = types.intp(
        operand(scores, types.int32),
        types.intp,
        operand(ids, types.int32),
        types.intp,
        types.intp,
        types.int32,
        operand(out_scores, types.int32),
        operand(out_ids, types.int32),
        types.intp,
        types.intp,
    )

    def generate(ctx, b, sig, args):
        scores, first, ids, first_id, registers, least, out_scores, out_ids, out, count = args
        bound = splat(b, least, _LANES)
        kept = cgutils.alloca_once_value(b, count)
        with cgutils.for_range(b, registers) as turn:
            offset = b.mul(turn.index, i64(_LANES))
            score = read(b, pointer(ctx, b, sig.args[0], scores, b.add(first, offset)), _SUMS)
            mask = b.icmp_signed(">", score, bound)
            some = b.icmp_unsigned("!=", b.bitcast(mask, i16), i16(0))
            with b.if_then(some, likely=False):
                place = pointer(ctx, b, sig.args[2], ids, b.add(first_id, offset))
                name = read(b, place, _SUMS)
                now = b.load(kept)
                to = b.add(out, now)
                packed = _compress(b, score, mask)
                write(b, packed, pointer(ctx, b, sig.args[6], out_scores, to))
                packed = _compress(b, name, mask)
                write(b, packed, pointer(ctx, b, sig.args[7], out_ids, to))
                b.store(b.add(now, _count(b, mask)), kept)
        return b.load(kept)

    return signature, generate


@intrinsic(prefer_literal=False)
def above64(typingctx, scores, first, least):
    """Give a u64 whose bit l is set where scores[first + l] > least: one branch for a row of a tile."""
    signature = types.uint64(operand(scores, types.int32), types.intp, types.int32)

    def generate(ctx, b, sig, args):
        bound = splat(b, args[2], _LANES)
        found = i64(0)
        for part in range(4):
            place = pointer(ctx, b, sig.args[0], args[0], b.add(args[1], i64(_LANES * part)))
            mask = b.icmp_signed(">", read(b, place, _SUMS), bound)
            bits = b.shl(b.zext(b.bitcast(mask, i16), i64), i64(_LANES * part))
            found = b.or_(found, bits)
        return found

    return signature, generate


@intrinsic(prefer_literal=False)
def count_above(typingctx, scores, registers, least):
    """Count the entries above `least` among the first 16 * `registers`."""
    signature = types.intp(operand(scores, types.int32), types.intp, types.int32)

    def generate(ctx, b, sig, args):
        bound = splat(b, args[2], _LANES)
        total = cgutils.alloca_once_value(b, i64(0))
        with cgutils.for_range(b, args[1]) as turn:
            place = pointer(ctx, b, sig.args[0], args[0], b.mul(turn.index, i64(_LANES)))
            mask = b.icmp_signed(">", read(b, place, _SUMS), bound)
            b.store(b.add(b.load(total), _count(b, mask)), total)
        return b.load(total)

    return signature, generate


@intrinsic(prefer_literal=False)
def span(typingctx, scores, first, registers):
    """Give (least, greatest) of 16 * `registers` scores from `first` on; `registers` is at least one."""
    signature = types.UniTuple(types.int32, 2)(operand(scores, types.int32), types.intp, types.intp)

    def generate(ctx, b, sig, args):
        start = read(b, pointer(ctx, b, sig.args[0], args[0], args[1]), _SUMS)
        ends = []
        for which in ("smin", "smax"):
            slot = cgutils.alloca_once_value(b, start)
            ends.append((which, slot))
        with cgutils.for_range(b, args[2]) as turn:
            offset = b.add(args[1], b.mul(turn.index, i64(_LANES)))
            score = read(b, pointer(ctx, b, sig.args[0], args[0], offset), _SUMS)
            for which, slot in ends:
                b.store(call(b, f"llvm.{which}.v16i32", _SUMS, [b.load(slot), score]), slot)
        found = [call(b, f"llvm.vector.reduce.{which}.v16i32", i32, [b.load(slot)]) for which, slot in ends]
        return ctx.make_tuple(b, sig.return_type, found)

    return signature, generate


@njit
def _cut(scores, n, keep):
    """Give a threshold t with keep <= count(scores > t) <= keep + SLACK, where equal scores allow it."""
    registers = (n + 15) // 16
    for j in range(n, registers * 16):
        scores[j] = LOW
    least, greatest = span(scores, 0, registers)
    low = greater(np.int64(least) - 1, LOW)
    high = np.int64(greatest)
    while high - low > 1:
        middle = (low + high) >> 1
        found = count_above(scores, registers, np.int32(middle))
        if found >= keep:
            low = middle
            if found <= keep + SLACK:
                break
        else:
            high = middle
    return np.int32(low)


@njit
def shrink(scores, ids, n, keep):
    """Keep the best `keep` .. `keep` + SLACK of n entries, in place and in order; give (count, threshold).

    The threshold is the score that later entries must exceed. Needs n > keep. Of equal scores the first stay.
    """
    least = _cut(scores, n, keep)
    found = keep_above(scores, 0, ids, 0, (n + 15) // 16, least, scores, ids, 0, 0)
    if found > keep + SLACK:  # many equal scores least + 1: the last of them go
        for j in range(found, (found + 15) // 16 * 16):
            scores[j] = LOW
        room = keep - count_above(scores, (found + 15) // 16, np.int32(least + 1))
        kept = 0
        for j in range(found):
            if scores[j] == least + 1:
                room -= 1
                if room < 0:
                    continue
            scores[kept] = scores[j]
            ids[kept] = ids[j]
            kept += 1
        return kept, np.int32(least + 1)
    return found, least


@njit
def rank_sort(scores, ids, n, sorted_scores, sorted_ids):
    """Sort n entries by (score descending, position): the rank is the number of greater ones. Quadratic."""
    registers = (n + 15) // 16
    for j in range(n, registers * 16):
        scores[j] = LOW
    for j in range(n):
        sorted_scores[j] = LOW
    for j in range(n):
        rank = count_above(scores, registers, scores[j])
        while sorted_scores[rank] != LOW:
            rank += 1
        sorted_scores[rank] = scores[j]
        sorted_ids[rank] = ids[j]
