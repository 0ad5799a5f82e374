"""Estimates of all centres of cells, one after the other as they lie.

Rows are estimated by lists of slots, whose lines lie anywhere. Centres are all estimated by every query, so their sign
lines are laid out eight at a time, word by word: what counts bits then counts those of eight centres, and no sum
crosses a register. Estimates are the same to the last bit. Levels are estimated as rows are.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from vicinal.kernels import njit
from vicinal.kernels.lines import ADD_AT, BATCH, CELL_AT, PLANES, SIGN_BITS, SignQuery, estimate, lines_at
from vicinal.kernels.simd import Loop, at, call, const, f32, i32, i64, load, set_f32, splat, store, vec
from vicinal.kernels.walk_ir import LINE, gathered

__all__ = ["GROUP", "score_centres"]

GROUP: Final = 8  # lines laid out together: (lines / 8, word, line) of 64 bits
_LEAST = np.float32(-np.inf)
_MOST = np.float32(np.inf)
_WORDS, _FLOATS, _INTS = vec(i64, GROUP), vec(f32, GROUP), vec(i32, GROUP)


def _counted(b, group, lines):
    """Emit, for each line of a group, the sum of what `lines.estimate_signs` counts."""
    counts = [const(_WORDS, 0)] * PLANES
    for word in range(SIGN_BITS // 64):
        code = load(b, group, _WORDS, LINE * word, align=LINE)
        for plane in range(PLANES):
            wanted = splat(b, load(b, lines, i64, LINE * plane + 8 * word), GROUP)
            found = call(b, f"llvm.ctpop.v{GROUP}i64", _WORDS, [b.xor(code, wanted)])
            counts[plane] = b.add(counts[plane], found)
    total = counts[-1]
    for lower in reversed(counts[:-1]):
        total = b.add(b.add(total, total), lower)
    return total


@intrinsic
def _estimate_groups(typingctx, groups, count, lines, offsets, base, k0, k1, out):
    """Estimate `count` groups of sign lines, as `lines.estimate_signs` does."""

    def gen(ctx, b, sig, args):
        groups, count, lines, offsets, *numbers, out = args
        base, k0, k1 = (splat(b, x, GROUP) for x in numbers)
        loop = Loop(b, count, [])
        group = gathered(b, groups, loop.i, LINE * GROUP)
        n = b.sitofp(b.trunc(_counted(b, group, lines), _INTS), _FLOATS)
        factors = load(b, group, _WORDS, LINE * (ADD_AT // 8), align=LINE)
        add = b.bitcast(b.trunc(factors, _INTS), _FLOATS)
        mul = b.bitcast(b.trunc(b.lshr(factors, const(_WORDS, 32)), _INTS), _FLOATS)
        cells = b.and_(load(b, group, _WORDS, LINE * (CELL_AT // 8), align=LINE), const(_WORDS, (1 << 32) - 1))
        places = b.add(splat(b, offsets, GROUP), b.shl(cells, const(_WORDS, 2)))
        offset = const(_FLOATS, 0.0)
        for lane in range(GROUP):
            value = b.load(at(b, b.extract_element(places, i32(lane)), f32), align=4)
            offset = b.insert_element(offset, value, i32(lane))
        add = b.fadd(b.fadd(add, base), offset)
        distance = b.fadd(add, b.fmul(mul, b.fadd(k0, b.fmul(k1, n))))
        store(b, distance, gathered(b, out, loop.i, 4 * GROUP))
        loop.close([])
        return ctx.get_dummy_value()

    address, number = types.intp, types.float32
    return types.void(*[address] * 4, *[number] * 3, address), gen


@njit
def _score_groups(code, work, names, cells, scores):
    groups = (cells.cells + GROUP - 1) // GROUP
    _estimate_groups(cells.groups, groups, code.lines, code.offsets, code.base, code.k0, code.k1, scores)


@njit
def _score_lines(code, work, names, cells, scores):
    centres = lines_at(code, cells.centres)
    for i in range(0, cells.cells, BATCH):
        count = min(BATCH, cells.cells - i)
        estimate(centres, names + i * 4, count, _LEAST, scores + i * 4, work.lane_work)


def _scored(code, work, names, cells, scores):
    raise NotImplementedError("compiled code only")


@overload(_scored)
def _scored_by_kind(code, work, names, cells, scores):
    chosen = _score_groups if getattr(code, "instance_class", None) is SignQuery else _score_lines
    return lambda code, work, names, cells, scores: chosen(code, work, names, cells, scores)  # noqa: PLW0108


@njit
def score_centres(code, work, names, cells, scores):
    """Write the estimates of the centres of CellFields to float32 `scores`, then +inf up to a whole vector of 16.

    names: address of u32 0, 1, 2 ... for each centre.
    """
    _scored(code, work, names, cells, scores)
    for i in range(cells.cells, (cells.cells + 15) & -16):
        set_f32(scores + i * 4, _MOST)
