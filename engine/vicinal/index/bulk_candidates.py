"""The nearest candidates of every row: cells, a pilot for the scan budget, dense comparison, one refinement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_cells import Cells, blocks_of, make_cells, new_codes, one_cell, pack
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import build, cluster, rows8
from vicinal.kernels.build import FAR, Candidates, Panel
from vicinal.kernels.refine import BLOCKS_PER_CALL, refine
from vicinal.kernels.rows8 import Codes

__all__ = ["Found", "find_candidates", "find_cells"]

_ONE_CELL = 512  # rows that need no cells
_ALL_PAIRS = 8192  # rows that are all compared with each other
_BUDGET_LEAST = 64  # groups of sixteen rows that a block is compared with
_BUDGET_MOST = 2400
_PILOT_ROWS = 192
_PILOT_TOP = 32
_PILOT_SHARE = 0.85  # of the pilot's true neighbours that the budget must cover
_TAKE, _FOLLOW, _REVERSE, _CITED = 12, 12, 8, 2048  # refinement: candidates, theirs, reverse list, rows compared


class Found(NamedTuple):
    """Candidates in cell order: `codes` and `candidates` are by position in `cells.order`."""

    cells: Cells
    codes: Codes
    candidates: Candidates
    budget: int


def _empty(n: int, length: int) -> Candidates:
    """Allocate candidates of n rows."""
    return Candidates(np.empty((n, length), np.int32), np.empty((n, length), np.int32))


def _pilot(codes: Codes, panel: Panel, cells: Cells, pieces: Pieces) -> int:
    """Choose the budget: groups in near-cell order that hold most true neighbours of a few rows.

    The true neighbours come from a scan of everything for every n / 192-th row in cell order.
    """
    n = len(cells.order)
    sample = (np.arange(_PILOT_ROWS) * n // _PILOT_ROWS).astype(np.int32)
    some = new_codes(_PILOT_ROWS, codes.rows.shape[1])
    rows8.gather(codes, sample, some, 0, _PILOT_ROWS)
    count = len(cells.starts) - 1
    everything = np.arange(count, dtype=np.int32)[None]
    blocks = np.array([(a, a + 24, 0) for a in range(0, _PILOT_ROWS, 24)], np.int64)
    top = _empty(_PILOT_ROWS, _PILOT_TOP + 1)
    used = np.array([count], np.int64)
    starts = cells.starts
    pieces.run(
        len(blocks), 1, lambda a, b: build.block_candidates(some, panel, starts, blocks, everything, used, top, a, b)
    )
    cell_of = np.repeat(np.arange(count), np.diff(cells.starts))
    sizes = np.append(np.diff(panel.starts), 0)
    needed = []
    for row, ids in zip(sample, top.ids, strict=True):
        near = cells.near[cell_of[row]]
        before = np.full(count, FAR, np.int64)
        listed = near[near >= 0]
        before[listed] = np.cumsum(sizes[listed]) - sizes[listed]
        others = ids[(ids >= 0) & (ids != row)][:_PILOT_TOP]
        needed.append(before[cell_of[others]] + 1)
    wanted = np.sort(np.concatenate(needed))
    budget = int(wanted[min(len(wanted) - 1, int(_PILOT_SHARE * len(wanted)))])
    return max(_BUDGET_LEAST, min(_BUDGET_MOST, budget))


def find_cells(codes: Codes, n: int, seed: int, pieces: Pieces) -> Cells:
    """Group rows 0 .. n so that `find_candidates` can use it; few rows form one cell."""
    return one_cell(n) if n <= _ONE_CELL else make_cells(codes, n, _listed(n), seed, pieces)


def find_candidates(codes: Codes, cells: Cells, length: int, pieces: Pieces, *, fine: bool) -> Found:
    """Find the `length` nearest candidates of every row; `fine` adds the refinement.

    The cells may come from other codes of the same rows. Of more than `length` equally near rows the first count.
    """
    n = len(cells.order)
    ordered = new_codes(n, codes.rows.shape[1])
    pieces.run(n, 8192, lambda a, b: rows8.gather(codes, cells.order, ordered, a, b))
    panel = pack(ordered, cells.starts, pieces)
    whole = n <= _ALL_PAIRS
    budget = len(panel.lanes) if whole else _pilot(ordered, panel, cells, pieces)
    used = np.empty(len(cells.starts) - 1, np.int64)
    cluster.count_used(cells.near, panel.starts, budget, used)
    blocks = blocks_of(cells.starts)
    out = _empty(n, length)
    pieces.run(
        len(blocks),
        16,
        lambda a, b: build.block_candidates(ordered, panel, cells.starts, blocks, cells.near, used, out, a, b),
    )
    if fine and not whole:
        out = _refined(ordered, cells, used, blocks, out, pieces)
    return Found(cells, ordered, out, budget)


def _listed(n: int) -> int:
    """How many near cells to list: all, or enough for the largest budget, in cells of about 2.5 groups."""
    if n <= _ALL_PAIRS:
        return n
    largest = min(_BUDGET_MOST, max(_BUDGET_LEAST, min(n // 64, 900 + n // 256)))
    return max(16, int(1.4 * largest * 16 / 40))


def _refined(
    codes: Codes,
    cells: Cells,
    used: NDArray[np.int64],
    blocks: NDArray[np.int64],
    given: Candidates,
    pieces: Pieces,
) -> Candidates:
    """Compare every block with what its neighbours cite."""
    n, length = given.ids.shape
    rev = np.empty((n, _REVERSE), np.int32)
    build.reverse_lists(given.ids, _TAKE, rev)
    out = _empty(n, length)
    size = min(BLOCKS_PER_CALL, max(32, len(blocks) // 64))  # a call clears 4 bytes a row
    pieces.run(
        len(blocks),
        size,
        lambda a, b: refine(
            codes, blocks, cells.near, used, cells.starts, given, rev, _TAKE, _FOLLOW, _CITED, out, a, b
        ),
    )
    return out
