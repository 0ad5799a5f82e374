"""The slots of stretches of an order, as bits of uint64 words.

Where each slot stands once in the order, sets of its first so many slots turn a stretch into the difference of two of
them, and only the slots between an end and the nearest such set are flipped one by one.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit

__all__ = ["flip_spans", "set_spans"]

_WORDS_PER_FLIP = 3  # words of two sets that are combined in the time of one flip, about


@njit
def _nearest(ranks, rank):
    """The place of the entry of `ranks`, which ascend from 0, that is nearest to a rank."""
    low, high = 0, len(ranks) - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if ranks[middle] <= rank:
            low = middle
        else:
            high = middle
    return high if ranks[high] - rank < rank - ranks[low] else low


@njit
def _flip(order, begin, end, out):
    """Flip the bits of order[begin:end], the ends in either order."""
    for place in range(min(begin, end), max(begin, end)):
        slot = order[place]
        out[slot >> 6] ^= np.uint64(1) << np.uint64(slot & 63)


@njit
def _flip_sets(sets, first, second, out):
    """Flip the bits of what is in one of two sets only; number 0 is the empty set, which is not kept."""
    if first == 0:
        row = sets[second - 1]
        for word in range(len(out)):
            out[word] ^= row[word]
        return
    row, other = sets[first - 1], sets[second - 1]
    for word in range(len(out)):
        out[word] ^= row[word] ^ other[word]


@njit
def flip_spans(order, ranks, sets, spans, out):
    """Flip in `out` the slots order[i:j] of each span (i, j); no slot stands twice in the order.

    order (m,) uint32; ranks (s + 1,) int64, ascending from 0 to m; sets (s, words) uint64: sets[r - 1] holds
    order[: ranks[r]]; spans (p, 2) int64; out (words,) uint64.
    """
    for s in range(len(spans)):
        begin, end = spans[s, 0], spans[s, 1]
        first, second = _nearest(ranks, begin), _nearest(ranks, end)
        apart = abs(begin - ranks[first]) + abs(end - ranks[second]) + len(out) // _WORDS_PER_FLIP
        if first == second or end - begin <= apart:
            _flip(order, begin, end, out)
        else:
            _flip_sets(sets, first, second, out)
            _flip(order, begin, ranks[first], out)
            _flip(order, end, ranks[second], out)


@njit
def set_spans(order, spans, out):
    """Set in `out` the slots order[i:j] of each span (i, j), whichever stand there more than once.

    Types are those of `flip_spans`.
    """
    for s in range(len(spans)):
        for place in range(spans[s, 0], spans[s, 1]):
            slot = order[place]
            out[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
