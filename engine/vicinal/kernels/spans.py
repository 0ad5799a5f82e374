"""The slots of stretches of an order, as bits of uint64 words.

Where each slot stands once in the order, sets of its first so many slots turn a stretch into the difference of two of
them, and only the slots between an end and the nearest such set are flipped one by one.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.simd import Loop, get_i64, get_u32, i64, load, set_i64, store, vec

__all__ = ["Order", "flip_spans", "flip_stretch", "set_spans"]

_WORDS_PER_FLIP = 3  # words of two sets that are combined in the time of one flip, about


class Order(NamedTuple):
    """Addresses: order u32 (m,), no slot twice; ranks int64 (sets + 1,) ascending from 0 to m; kept u64 (sets, words).

    Row r - 1 of `kept` holds order[: ranks[r]].
    """

    order: int
    ranks: int
    sets: int
    kept: int
    words: int


@njit
def _nearest(ranks, sets, rank):
    """The place of the entry of the ranks that is nearest to a rank."""
    low, high = 0, sets
    while high - low > 1:
        middle = (low + high) >> 1
        if get_i64(ranks + middle * 8) <= rank:
            low = middle
        else:
            high = middle
    return high if get_i64(ranks + high * 8) - rank < rank - get_i64(ranks + low * 8) else low


@njit
def _flip(order, begin, end, out):
    """Flip the bits of order[begin:end], the ends in either order."""
    for place in range(min(begin, end), max(begin, end)):
        slot = get_u32(order + place * 4)
        word = out + (slot >> 6) * 8
        set_i64(word, get_i64(word) ^ (np.int64(1) << (slot & 63)))


@intrinsic
def _flip_lines(typingctx, one, other, out, lines):
    """Flip the bits that differ in two sets, eight words a line."""

    def gen(ctx, b, sig, args):
        one, other, out, lines = args
        loop = Loop(b, lines, [])
        here, words = b.shl(loop.i, i64(6)), vec(i64, 8)
        differ = b.xor(load(b, one, words, here), load(b, other, words, here))
        store(b, b.xor(load(b, out, words, here), differ), out, here)
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), gen


@njit
def _flip_sets(arranged, first, second, out):
    """Flip the bits of what is in one of two sets only; number 0 is the empty set, which is not kept."""
    words = arranged.words
    row, other = arranged.kept + (first - 1) * words * 8, arranged.kept + (second - 1) * words * 8
    done = 0
    if first > 0:
        done = words & -8
        _flip_lines(row, other, out, words >> 3)
    for at in range(done * 8, words * 8, 8):
        word = get_i64(out + at) ^ get_i64(other + at)
        if first > 0:
            word ^= get_i64(row + at)
        set_i64(out + at, word)


@njit
def flip_stretch(arranged, begin, end, out):
    """Flip in the words at `out` the slots order[begin:end] of an Order."""
    first, second = _nearest(arranged.ranks, arranged.sets, begin), _nearest(arranged.ranks, arranged.sets, end)
    low, high = get_i64(arranged.ranks + first * 8), get_i64(arranged.ranks + second * 8)
    if first == second or end - begin <= abs(begin - low) + abs(end - high) + arranged.words // _WORDS_PER_FLIP:
        _flip(arranged.order, begin, end, out)
    else:
        _flip_sets(arranged, first, second, out)
        _flip(arranged.order, begin, low, out)
        _flip(arranged.order, end, high, out)


@njit
def flip_spans(order, ranks, sets, spans, out):
    """Flip in `out` the slots order[i:j] of each span (i, j); no slot stands twice in the order.

    order (m,) uint32; ranks (s + 1,) int64, ascending from 0 to m; sets (s, words) uint64: sets[r - 1] holds
    order[: ranks[r]]; spans (p, 2) int64; out (words,) uint64.
    """
    arranged = Order(order.ctypes.data, ranks.ctypes.data, len(ranks) - 1, sets.ctypes.data, len(out))
    for s in range(len(spans)):
        flip_stretch(arranged, spans[s, 0], spans[s, 1], out.ctypes.data)


@njit
def set_spans(order, spans, out):
    """Set in `out` the slots order[i:j] of each span (i, j), whichever stand there more than once.

    Types are those of `flip_spans`.
    """
    for s in range(len(spans)):
        for place in range(spans[s, 0], spans[s, 1]):
            slot = order[place]
            out[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
