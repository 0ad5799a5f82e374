"""Candidates of every row by dense comparison: blocks of rows against whole cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.gemm import LOW, ROWS_PER_TILE, tile6x4
from vicinal.kernels.operands import greater, lesser
from vicinal.kernels.threshold import SLACK, above64, keep_above, rank_sort, shrink

__all__ = [
    "BLOCK_ROWS",
    "BUFFER",
    "FAR",
    "Candidates",
    "Panel",
    "block_candidates",
    "reverse_lists",
    "scan_groups",
    "set_down",
]

BLOCK_ROWS = np.int64(96)  # most rows of one query block, a multiple of six
BUFFER = np.int64(
    224 + 64 + 16
)  # a row's buffer is cut back when it holds more than _FULL; a tile may add 64, stores spill 16
FAR = np.int32(1 << 30)  # half distance in an unused place
_FULL = 224
_CELL_MOST = 512  # groups of a cell that a block is compared with
_TILE = np.int64(ROWS_PER_TILE * 64)
_NOTHING = np.int32(LOW // 2)  # every real score is above, every padding lane below


class Panel(NamedTuple):
    """Rows packed in groups of sixteen lanes.

    `lanes` (groups, 16 * width) uint8; `bias` and `members` (groups, 16) int32: -half and row number, LOW and -1 in
    lanes without a row; `starts` (cells + 1,) int64: first group of each cell. At least four empty groups end it.
    """

    lanes: NDArray[np.uint8]
    bias: NDArray[np.int32]
    members: NDArray[np.int32]
    starts: NDArray[np.int64]


class Candidates(NamedTuple):
    """The L best candidates of each row, nearest first.

    `ids` (n, L) int32, -1 in unused places; `dist` (n, L) int32 half squared distances, FAR in unused places.
    """

    ids: NDArray[np.int32]
    dist: NDArray[np.int32]


@njit
def scan_groups(codes, rows, m, panel, groups, count, keep, scores, ids, filled, least):
    """Compare m rows with `count` groups; append what beats a row's threshold to its buffer.

    rows: row numbers, the last one repeated to a multiple of six; groups: padded to a multiple of four. scores, ids
    (BLOCK_ROWS, BUFFER); filled, least (BLOCK_ROWS,): entries and threshold of each buffer, cut to `keep` when full.
    """
    tile = np.empty(_TILE, np.int32)
    for g in range(0, count, 4):
        for r in range(0, m, ROWS_PER_TILE):
            tile6x4(codes.rows, rows, r, panel.lanes, groups, g, panel.bias, tile, 0, 64)
            for q in range(r, lesser(r + ROWS_PER_TILE, m)):
                hits = above64(tile, (q - r) * 64, least[q])
                if hits == 0:
                    continue
                n = filled[q]
                for v in range(4):
                    if (hits >> np.uint64(16 * v)) & np.uint64(0xFFFF) != 0:
                        at = (q - r) * 64 + v * 16
                        name = np.int64(groups[g + v]) * 16
                        n = keep_above(tile, at, panel.members, name, 1, least[q], scores, ids, np.int64(q) * BUFFER, n)
                if n > _FULL:
                    n, least[q] = shrink(scores[q], ids[q], n, keep)
                filled[q] = n


@njit
def set_down(scores, ids, n, row, offset, best_ids, best_dist, sorted_scores, sorted_ids):
    """Sort a row's buffer into its candidate list; the row itself and second mentions are left out."""
    rank_sort(scores, ids, n, sorted_scores, sorted_ids)
    L = best_ids.shape[0]
    k = 0
    for j in range(n):
        if k == L:
            break
        name = sorted_ids[j]
        dist = offset - sorted_scores[j]
        fresh = name != row
        e = k - 1
        while fresh and e >= 0 and best_dist[e] == dist:  # equal ids have equal scores: side by side after the sort
            fresh = best_ids[e] != name
            e -= 1
        if fresh:
            best_ids[k] = name
            best_dist[k] = dist
            k += 1
    for j in range(k, L):
        best_ids[j] = -1
        best_dist[j] = FAR


@njit
def block_candidates(codes, panel, cell_starts, blocks, near, used, out, start, stop):
    """Compare each block (first row, end, cell) with the members of its used[cell] nearest cells.

    cell_starts: first row of each cell. Of a cell with more than some thousands of rows only a part is compared.
    """
    L = out.ids.shape[1]
    scores = np.empty((BLOCK_ROWS, BUFFER), np.int32)
    ids = np.empty((BLOCK_ROWS, BUFFER), np.int32)
    filled = np.empty(BLOCK_ROWS, np.int64)
    least = np.empty(BLOCK_ROWS, np.int32)
    rows = np.empty(BLOCK_ROWS, np.int32)
    sorted_scores = np.empty(BUFFER, np.int32)
    sorted_ids = np.empty(BUFFER, np.int32)
    groups = np.empty(panel.lanes.shape[0], np.int32)
    for b in range(start, stop):
        first = blocks[b, 0]
        m = blocks[b, 1] - first
        cell = blocks[b, 2]
        count = 0
        for t in range(used[cell]):
            c = near[cell, t]
            low = panel.starts[c]
            high = panel.starts[c + 1]
            if high - low > _CELL_MOST:  # rows that codes cannot tell apart: a window around the block's own place
                middle = low + (first - cell_starts[c]) // 16 if c == cell else low
                low = greater(low, lesser(middle - _CELL_MOST // 2, high - _CELL_MOST))
                high = low + _CELL_MOST
            for g in range(low, high):
                groups[count] = g
                count += 1
        while count % 4:
            groups[count] = panel.lanes.shape[0] - 1  # an empty group
            count += 1
        for r in range(BLOCK_ROWS):
            rows[r] = first + lesser(r, m - 1)
            filled[r] = 0
            least[r] = _NOTHING
        scan_groups(codes, rows, m, panel, groups, count, L + 1, scores, ids, filled, least)
        for q in range(m):
            row = first + q
            n = filled[q]
            if n > L + 1 + SLACK:
                n, _ = shrink(scores[q], ids[q], n, L + 1)
            set_down(
                scores[q],
                ids[q],
                n,
                row,
                codes.offset[row],
                out.ids[row],
                out.dist[row],
                sorted_scores,
                sorted_ids,
            )


@njit
def reverse_lists(ids, take, out):
    """List in out[t] the rows that have t among their first `take` candidates.

    Best ranked first, as many as a row of `out` holds; -1 fills the rest.
    """
    n, width = out.shape
    count = np.zeros(n, np.int32)
    for rank in range(take):
        for row in range(n):
            t = ids[row, rank]
            if t >= 0 and count[t] < width:
                out[t, count[t]] = row
                count[t] += 1
    for row in range(n):
        for j in range(count[row], width):
            out[row, j] = -1
