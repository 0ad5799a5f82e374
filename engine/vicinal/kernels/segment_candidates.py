"""Candidates of rows among the ranks before them, for every left bound: dense comparison of codes, the latest first.

The window grows twofold, and what is among the `keep` nearest of a window is a candidate: of any left bound, the
nearest ranks above it are there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.build import BLOCK_ROWS, BUFFER, scan_groups
from vicinal.kernels.gemm import LOW
from vicinal.kernels.operands import greater, lesser
from vicinal.kernels.threshold import SLACK, shrink

__all__ = ["KEEP_MOST", "ROOM", "Block", "Plan", "Ranks", "new_block", "scan_block"]

KEEP_MOST = 64
ROOM = np.int64(1024)  # candidates of a row: KEEP_MOST and SLACK of at most eleven windows, and those from afar
_GROUP = np.int64(16)
_NOTHING = np.int32(LOW // 2)


class Ranks(NamedTuple):
    """Rows in the order of their ranks."""

    before: NDArray[np.int32]  # (n,) the latest rank below with equal codes, -1: there is none
    after: NDArray[np.int32]  # (n,) the next such rank, n: there is none
    far_ids: NDArray[np.int32]  # (n or 0, any) further candidates, ranks of any order; -1 in unused places
    far_dist: NDArray[np.int32]


class Plan(NamedTuple):
    """How rows are linked."""

    keep: int  # candidates of a window, at most KEEP_MOST
    least: int  # ranks of the first window, a multiple of 16
    widest: int  # ranks beyond which nothing is compared
    M: int
    leap: int


class Block(NamedTuple):
    """What is being found for the rows of one block."""

    rows: NDArray[np.int32]
    scores: NDArray[np.int32]  # (BLOCK_ROWS, BUFFER) the nearest so far
    ids: NDArray[np.int32]
    filled: NDArray[np.int64]
    least: NDArray[np.int32]
    found_scores: NDArray[np.int32]  # (BLOCK_ROWS, ROOM) the candidates
    found_ids: NDArray[np.int32]
    found: NDArray[np.int64]


@njit
def new_block():
    return Block(
        np.empty(BLOCK_ROWS, np.int32),
        np.empty((BLOCK_ROWS, BUFFER), np.int32),
        np.empty((BLOCK_ROWS, BUFFER), np.int32),
        np.empty(BLOCK_ROWS, np.int64),
        np.empty(BLOCK_ROWS, np.int32),
        np.empty((BLOCK_ROWS, ROOM), np.int32),
        np.empty((BLOCK_ROWS, ROOM), np.int32),
        np.empty(BLOCK_ROWS, np.int64),
    )


@njit
def _scan(codes, panel, block, m, low, high, groups, keep):
    """Compare a block with groups low .. high - 1."""
    count = np.int64(0)
    for g in range(low, high):
        groups[count] = g
        count += 1
    while count % 4:
        groups[count] = panel.lanes.shape[0] - 1  # an empty group
        count += 1
    scan_groups(codes, block.rows, m, panel, groups, count, keep, block.scores, block.ids, block.filled, block.least)


@njit
def scan_block(codes, ranks, panel, plan, block, first, m, groups):
    """Find the candidates of ranks first .. first + m - 1 up to the widest window."""
    for r in range(BLOCK_ROWS):
        block.rows[r] = first + lesser(r, m - 1)
        block.filled[r], block.found[r], block.least[r] = 0, 0, _NOTHING
    own = first // _GROUP
    _scan(codes, panel, block, m, own, (first + m + 15) // _GROUP, groups, KEEP_MOST)
    for q in range(m):  # fewer than would have been cut: drop what comes later, and copies that have a later one
        n = 0
        for j in range(block.filled[q]):
            other = block.ids[q, j]
            if other < first + q and ranks.after[other] >= first + q:
                block.scores[q, n], block.ids[q, n] = block.scores[q, j], other
                n += 1
        block.filled[q] = n
    high, window, end = own, np.int64(plan.least), first + BLOCK_ROWS
    while True:
        low = greater((first - window) // _GROUP, np.int64(0))
        if low < high:
            _scan(codes, panel, block, m, low, high, groups, plan.keep)
        for q in range(m):
            if block.filled[q] > plan.keep + SLACK:
                n, least = shrink(block.scores[q], block.ids[q], block.filled[q], plan.keep)
                block.filled[q], block.least[q] = n, least
            k = block.found[q]
            for j in range(block.filled[q]):
                other = np.int64(block.ids[q, j])
                if low * 16 <= other < end and ranks.after[other] >= first + q:
                    block.found_scores[q, k], block.found_ids[q, k] = block.scores[q, j], other
                    k += 1
            block.found[q] = k
        if low == 0 or window >= plan.widest:
            return
        high, end, window = low, low * 16, window * 2
