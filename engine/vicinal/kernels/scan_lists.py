"""Lists of slots for scans: set bits of a word, members of a cell that match, cells within a distance.

A cell's members lie in chunks of one cache line: fifteen slots and the number of the cell's next chunk, -1 after the
last. Places that hold no slot are `SENTINEL`, which is beyond every limit, so a writer may fill them under readers.
Nothing here branches on whether a slot matches: it is stored, and the count moves on only if it does.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.cpu import HAS_AVX512, HAS_VBMI2
from vicinal.kernels.simd import (
    Loop,
    at,
    call,
    const,
    get_i32,
    get_u32,
    i1,
    i8,
    i16,
    i32,
    i64,
    load,
    set_u32,
    splat,
    store,
    vec,
)
from vicinal.kernels.walk_ir import LINE, V16F, V16I, gathered, larger, smaller, sum_lanes, take

__all__ = [
    "CHUNK",
    "SPARE",
    "append_word",
    "count_within",
    "list_chunk",
    "list_within",
    "nonzero_words",
    "nth_distance",
]

CHUNK = 15  # slots of a chunk
SPARE = 64 + 16  # entries that one `append_word` or `list_chunk` may write beyond the count
_LANES = ir.Constant(V16I, list(range(16)))
_MASK = vec(i1, 16)
_STEPS = 48  # of a bisection between two float32: more than their digits


def _ones(b, mask):
    """Emit the number of set lanes."""
    return b.zext(call(b, "llvm.ctpop.i16", i16, [b.bitcast(mask, i16)]), i64)


def _append(b, values, mask, out, count):
    """Emit: the chosen lanes go to out[count ..]; give the new count. Sixteen entries are overwritten."""
    name = "llvm.experimental.vector.compress.v16i32"
    packed = call(b, name, V16I, [values, mask, ir.Constant(V16I, ir.Undefined)])
    store(b, packed, gathered(b, out, count, 4))
    return b.add(count, _ones(b, mask))


def _append_bytes(b, word, first, out, count):
    """Emit `append_word` by the numbers of the set bits as bytes, of which there are seldom more than sixteen."""
    numbers, undefined = vec(i8, 64), ir.Constant(vec(i8, 64), ir.Undefined)
    name, mask = "llvm.experimental.vector.compress.v64i8", b.bitcast(word, vec(i1, 64))
    packed = call(b, name, numbers, [ir.Constant(numbers, list(range(64))), mask, undefined])
    start, place = splat(b, b.trunc(first, i32), 16), gathered(b, out, count, 4)

    def write(part):
        sixteen = take(b, packed, packed, list(range(16 * part, 16 * part + 16)))
        store(b, b.add(b.zext(sixteen, V16I), start), place, LINE * part)

    write(0)
    found = call(b, "llvm.ctpop.i64", i64, [word])
    with b.if_then(b.icmp_unsigned(">", found, i64(16)), likely=False):
        for part in (1, 2, 3):
            write(part)
    return b.add(count, found)


def _append_parts(b, word, first, out, count):
    """Emit `append_word` by sixteen bits at a time."""
    values = b.add(splat(b, b.trunc(first, i32), 16), _LANES)
    for part in range(4):
        mask = b.bitcast(b.trunc(b.lshr(word, i64(16 * part)), i16), _MASK)
        count = _append(b, b.add(values, ir.Constant(V16I, [16 * part] * 16)), mask, out, count)
    return count


@intrinsic
def append_word(typingctx, word, first, out, count):
    """Append first + i for every set bit i of a word to the u32 list `out` of `count`; give the new count."""

    def gen(ctx, b, sig, args):
        return (_append_bytes if HAS_VBMI2 else _append_parts)(b, *args)

    return types.int64(types.int64, types.int64, types.intp, types.int64), gen


def _within(b, scores, block, low, high):
    """Emit the mask of low < score <= high for 16 scores."""
    x = load(b, gathered(b, scores, block, LINE), V16F)
    return b.and_(b.fcmp_ordered(">", x, low), b.fcmp_ordered("<=", x, high))


@intrinsic
def count_within(typingctx, scores, blocks, low, high):
    """Count low < score <= high among 16 * blocks float32."""

    def gen(ctx, b, sig, args):
        low, high = splat(b, args[2], 16), splat(b, args[3], 16)
        loop = Loop(b, args[1], [i64(0)])
        (total,) = loop.close([b.add(loop.vals[0], _ones(b, _within(b, args[0], loop.i, low, high)))])
        return total

    return types.int64(types.intp, types.intp, types.float32, types.float32), gen


@intrinsic
def list_within(typingctx, scores, blocks, low, high, out):
    """List the places of low < score <= high among 16 * blocks float32, ascending; give how many."""

    def gen(ctx, b, sig, args):
        low, high = splat(b, args[2], 16), splat(b, args[3], 16)
        loop = Loop(b, args[1], [i64(0)])
        first = b.trunc(b.mul(loop.i, loop.i.type(16)), i32)
        mask = _within(b, args[0], loop.i, low, high)
        (total,) = loop.close([_append(b, b.add(splat(b, first, 16), _LANES), mask, args[4], loop.vals[0])])
        return total

    return types.int64(types.intp, types.intp, types.float32, types.float32, types.intp), gen


@intrinsic
def _span(typingctx, scores, blocks):
    """Least and greatest of 16 * blocks float32 that are not +inf; +inf and -inf if there are none."""

    def gen(ctx, b, sig, args):
        most = const(V16F, float("inf"))
        loop = Loop(b, args[1], [most, const(V16F, float("-inf"))])
        x = load(b, gathered(b, args[0], loop.i, LINE), V16F)
        finite = b.select(b.fcmp_ordered("<", x, most), x, loop.vals[1])
        least, greatest = loop.close([smaller(b, x, loop.vals[0]), larger(b, finite, loop.vals[1])])
        ends = [
            sum_lanes(b, least, lambda p, q: smaller(b, p, q)),
            sum_lanes(b, greatest, lambda p, q: larger(b, p, q)),
        ]
        return ctx.make_tuple(b, sig.return_type, ends)

    return types.UniTuple(types.float32, 2)(types.intp, types.intp), gen


@njit
def nth_distance(scores, n, wanted):
    """Give a bound with `wanted` or a sixteenth more of n float32 scores at or below it, where ties allow it.

    `scores` is filled to whole vectors of 16 with +inf; 1 <= wanted <= n.
    """
    blocks = (n + 15) // 16
    below = np.float32(-np.inf)
    low, high = _span(scores, blocks)
    if wanted >= n:
        return high
    for _ in range(_STEPS):
        middle = low + (high - low) * np.float32(0.5)
        if middle <= low or middle >= high:
            break
        found = count_within(scores, blocks, below, middle)
        if found < wanted:
            low = middle
        else:
            high = middle
            if found <= wanted + (wanted >> 4):
                break
    return high


@intrinsic
def nonzero_words(typingctx, words):
    """Give which of eight words are not 0, as bits."""

    def gen(ctx, b, sig, args):
        some = b.icmp_unsigned("!=", load(b, args[0], vec(i64, 8)), const(vec(i64, 8), 0))
        return b.zext(b.bitcast(some, i8), i64)

    return types.int64(types.intp), gen


def _chunk_lister(*, among):
    """Make the intrinsic that lists a chunk's slots below a limit and, with `among`, in a set."""

    @intrinsic
    def listed(typingctx, chunk, limit, allowed, out, count):
        def gen(ctx, b, sig, args):
            chunk, limit, allowed, out, count = args
            slots = load(b, chunk, V16I)
            inside = b.icmp_unsigned("<", slots, splat(b, b.trunc(limit, i32), 16))
            inside = b.and_(inside, ir.Constant(_MASK, [1] * CHUNK + [0]))
            if among:
                name = "llvm.x86.avx512.mask.gather.dpi.512"
                which = b.lshr(slots, const(V16I, 5))
                words = call(b, name, V16I, [const(V16I, 0), at(b, allowed, i8), which, inside, i32(4)])
                bit = b.and_(b.lshr(words, b.and_(slots, const(V16I, 31))), const(V16I, 1))
                inside = b.and_(inside, b.icmp_unsigned("!=", bit, const(V16I, 0)))
            return _append(b, slots, inside, out, count)

        return types.int64(*[types.intp] * 5), gen

    return listed


_list_below, _list_among = _chunk_lister(among=False), _chunk_lister(among=True)


@njit
def _list_chunk_vector(chunk, limit, allowed, out, count):
    """Do as `_list_chunk_scalar`, sixteen at a time."""
    if allowed != 0:
        count = _list_among(chunk, limit, allowed, out, count)
    else:
        count = _list_below(chunk, limit, allowed, out, count)
    return count, get_i32(chunk + CHUNK * 4)


@njit
def _list_chunk_scalar(chunk, limit, allowed, out, count):
    """Append the slots of the chunk at an address that are below limit and, unless `allowed` is 0, in that set.

    Gives the new count and the number of the cell's next chunk.
    """
    for i in range(CHUNK):
        slot = get_u32(chunk + i * 4)
        inside = np.int64(slot < limit)
        if allowed != 0:
            inside &= has_bit(allowed, slot * inside)
        set_u32(out + count * 4, slot)
        count += inside
    return count, get_i32(chunk + CHUNK * 4)


list_chunk = _list_chunk_vector if HAS_AVX512 else _list_chunk_scalar
