"""One round of neighbours of neighbours for whole blocks of rows, by dense comparison.

The rows that a block's neighbours cite are voted for; the most cited are packed and compared with every row
of the block.
NN-descent (Dong, Charikar, Li 2011) joins lists pairwise; here the block shares one list, which makes it a
matrix product.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.build import BLOCK_ROWS, BUFFER, Panel, scan_groups, set_down
from vicinal.kernels.gemm import LOW, pack16
from vicinal.kernels.operands import fetch, lesser
from vicinal.kernels.rows8 import numbers
from vicinal.kernels.threshold import shrink

__all__ = ["BLOCKS_PER_CALL", "refine"]

_LANES = np.int64(16)
_STAMP = 20  # votes below, stamp of the block above
BLOCKS_PER_CALL = 1000  # two stamps a block must stay below 2^31
_VOTES = np.int64(64)


@njit
def _set_bits(bits, near, count, starts):
    """Set one bit per row of the listed cells."""
    for t in range(count):
        c = near[t]
        for p in range(starts[c], starts[c + 1]):
            bits[p >> 5] |= np.uint32(1) << np.uint32(p & 31)


@njit
def _clear_bits(bits, near, count, starts):
    """Undo `_set_bits`; whole words, since nothing else is set."""
    for t in range(count):
        c = near[t]
        for w in range(starts[c] >> 5, (starts[c + 1] + 31) >> 5):
            bits[w] = np.uint32(0)


@njit
def _cited(ids, rev, first, m, take, follow, bits, mark, stamp, direct, weight, found):
    """List what the neighbours of rows first .. first + m cite and `bits` lacks; give how many.

    A neighbour is one of a row's `take` candidates or of its reverse list. Each cites itself, its `follow` best and
    its reverse list, with as many votes (in `mark`) as rows of the block name it.
    """
    width = rev.shape[1]
    base = np.int32(stamp << _STAMP)
    n1 = 0
    for p in range(first, first + m):
        for a in range(take + width):
            q = ids[p, a] if a < take else rev[p, a - take]
            if q >= 0:
                if mark[q] < base:
                    mark[q] = base
                    direct[n1] = q
                    n1 += 1
                    fetch(ids, np.int64(q) * ids.shape[1])
                    fetch(rev, np.int64(q) * width)
                mark[q] += 1
    for j in range(n1):
        weight[j] = mark[direct[j]] - base
    base += np.int32(1 << _STAMP)
    n = 0
    for j in range(n1):
        q = direct[j]
        for e in range(-1, follow + width):
            t = q if e < 0 else (ids[q, e] if e < follow else rev[q, e - follow])
            if t < 0 or (bits[t >> 5] >> np.uint32(t & 31)) & np.uint32(1) != 0:
                continue
            if mark[t] < base:
                mark[t] = base
                found[n] = t
                n += 1
            mark[t] += weight[j]
    return n


@njit
def _most_cited(found, n, mark, base, room, votes):
    """Keep the `room` entries with the most votes, ties by position; in place, in order. Give how many."""
    for v in range(_VOTES):
        votes[v] = 0
    for j in range(n):
        votes[lesser(mark[found[j]] - base, _VOTES - 1)] += 1
    least = np.int64(_VOTES - 1)
    total = votes[least]
    while least > 1 and total + votes[least - 1] <= room:
        least -= 1
        total += votes[least]
    spare = room - total
    kept = 0
    for j in range(n):
        v = lesser(mark[found[j]] - base, _VOTES - 1)
        if v >= least or (v == least - 1 and spare > 0):
            if v < least:
                spare -= 1
            if kept < room:
                found[kept] = found[j]
                kept += 1
    return kept


@njit
def _pack_found(codes, found, n, panel):
    """Pack codes[found[:n]] into a block's own panel; give the number of groups, padded to four."""
    groups = (n + 63) // 64 * 4
    for j in range(groups * 16):
        panel.members[j >> 4, j & 15] = found[j] if j < n else 0
        panel.bias[j >> 4, j & 15] = -codes.half[found[j]] if j < n else LOW
    width = codes.rows.shape[1]
    for g in range(groups):
        for j in range(16 * g + 32, lesser(16 * g + 48, n)):  # two groups ahead
            for line in range(0, width, 64):
                fetch(codes.rows, np.int64(found[j]) * width + line)
        pack16(codes.rows, panel.members, 16 * g, panel.lanes, g)
    return groups


@njit
def refine(codes, blocks, near, used, starts, given, rev, take, follow, cap, out, start, stop):
    """Compare blocks start .. stop with at most `cap` cited rows each, outside the cells they have seen.

    near, used: the cells that each cell was compared with; starts: first row of each cell; rev: reverse lists of
    `given`. `out` gets the better of the given candidates and the cited rows.
    """
    n, L = given.ids.shape
    width = codes.rows.shape[1]
    mark = np.zeros(n, np.int32)
    bits = np.zeros(n // 32 + 2, np.uint32)
    direct = np.empty(BLOCK_ROWS * (take + rev.shape[1]), np.int32)
    weight = np.empty(direct.shape[0], np.int32)
    found = np.empty(direct.shape[0] * (follow + rev.shape[1] + 1), np.int32)
    votes = np.empty(_VOTES, np.int64)
    size = cap // 16 + 4
    panel = Panel(
        np.empty((size, 16 * width), np.uint8),
        np.empty((size, _LANES), np.int32),
        np.empty((size, _LANES), np.int32),
        np.empty(_LANES, np.int64),
    )
    groups = numbers(size)
    scores = np.empty((BLOCK_ROWS, BUFFER), np.int32)
    ids = np.empty((BLOCK_ROWS, BUFFER), np.int32)
    filled = np.empty(BLOCK_ROWS, np.int64)
    least = np.empty(BLOCK_ROWS, np.int32)
    rows = np.empty(BLOCK_ROWS, np.int32)
    sorted_scores = np.empty(BUFFER, np.int32)
    sorted_ids = np.empty(BUFFER, np.int32)
    for b in range(start, stop):
        first = blocks[b, 0]
        m = blocks[b, 1] - first
        cell = blocks[b, 2]
        stamp = 2 * (b - start) + 1
        _set_bits(bits, near[cell], used[cell], starts)
        count = _cited(given.ids, rev, first, m, take, follow, bits, mark, stamp, direct, weight, found)
        _clear_bits(bits, near[cell], used[cell], starts)
        if count > cap:
            count = _most_cited(found, count, mark, np.int32((stamp + 1) << _STAMP), cap, votes)
        packed = _pack_found(codes, found, count, panel)
        for r in range(BLOCK_ROWS):
            rows[r] = first + lesser(r, m - 1)
        for r in range(m):
            p = first + r
            c = 0
            while c < L and given.ids[p, c] >= 0:
                scores[r, c] = codes.offset[p] - given.dist[p, c]
                ids[r, c] = given.ids[p, c]
                c += 1
            filled[r] = c
            least[r] = scores[r, c - 1] if c == L else np.int32(LOW // 2)
        scan_groups(codes, rows, m, panel, groups, packed, L + 1, scores, ids, filled, least)
        for r in range(m):
            p = first + r
            c = filled[r]
            if c > L + 33:
                c, _ = shrink(scores[r], ids[r], c, L + 17)
            set_down(scores[r], ids[r], c, p, codes.offset[p], out.ids[p], out.dist[p], sorted_scores, sorted_ids)
