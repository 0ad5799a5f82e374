"""Rows grouped into cells of near rows: two-level k-means on int8 codes, and the cells near to each cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import cluster, rows8
from vicinal.kernels.build import BLOCK_ROWS, Panel
from vicinal.kernels.rows8 import SPARE, Codes

__all__ = ["Cells", "blocks_of", "grown_codes", "make_cells", "new_codes", "one_cell", "pack", "panel_of"]

_CELL_ROWS = 32  # rows of a cell; 64 or 96 lose .03 to .05 of candidate recall at equal work
_PER_CENTRE = 16  # rows of the sample for each centre
_PER_PART = 96  # the same for the parts, which are few
_ROUNDS = 4
_PROBE = 6  # parts whose cells a row is compared with
_EMPTY_GROUPS = 4


class Cells(NamedTuple):
    """Rows by cell.

    `starts` (cells + 1,) int64 into `order` (n,) int32, the rows in cell order; `near` (cells, listed) int32: the
    cells nearest to each, itself first, -1 in unused places.
    """

    starts: NDArray[np.int64]
    order: NDArray[np.int32]
    near: NDArray[np.int32]


def new_codes(n: int, width: int) -> Codes:
    """Allocate codes of n rows, the spare rows zero."""
    codes = Codes(np.empty((n + SPARE, width), np.int8), np.empty(n + SPARE, np.int32), np.empty(n + SPARE, np.int32))
    for array in codes:
        array[n:] = 0
    return codes


def grown_codes(codes: Codes, n: int, capacity: int) -> Codes:
    """Give room for `capacity` rows, the first n copied."""
    out = new_codes(capacity, codes.rows.shape[1])
    out.rows[:n], out.half[:n], out.offset[:n] = codes.rows[:n], codes.half[:n], codes.offset[:n]
    return out


def panel_of(codes: Codes, members: NDArray[np.int32]) -> Panel:
    """Pack the listed rows: (groups, 16) int32, -1 in unused places."""
    lanes = np.empty((len(members), codes.rows.shape[1] * 16), np.uint8)
    bias = np.empty((len(members), 16), np.int32)
    rows8.fill_groups(codes, members, lanes, bias, 0, len(members))
    return Panel(lanes, bias, members, np.zeros(1, np.int64))


def pack(codes: Codes, starts: NDArray[np.int64], pieces: Pieces) -> Panel:
    """Pack contiguous runs of rows, starts[c] .. starts[c + 1], into groups of their own."""
    sizes = np.diff(starts)
    firsts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum((sizes + 15) // 16, out=firsts[1:])
    groups = (int(firsts[-1]) + _EMPTY_GROUPS + 3) // 4 * 4
    members = np.full((groups, 16), -1, np.int32)
    run = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(starts[-1])
    members.reshape(-1)[firsts[run] * 16 + rows - starts[run]] = rows
    panel = Panel(
        np.empty((groups, codes.rows.shape[1] * 16), np.uint8), np.empty((groups, 16), np.int32), members, firsts
    )
    pieces.run(groups, 256, lambda a, b: rows8.fill_groups(codes, panel.members, panel.lanes, panel.bias, a, b))
    return panel


def one_cell(n: int) -> Cells:
    """All rows in one cell: everything is compared with everything."""
    return Cells(np.array([0, n], np.int64), np.arange(n, dtype=np.int32), np.zeros((1, 1), np.int32))


def _near(centres: Codes, cells: int, listed: int, pieces: Pieces) -> NDArray[np.int32]:
    """List for each cell the `listed` cells nearest to it."""
    panel = pack(centres, np.array([0, cells], np.int64), pieces)
    near = np.empty((cells, min(listed, cells)), np.int32)
    pieces.run(cells, 96, lambda a, b: cluster.near_cells(centres.rows, panel.lanes, panel.bias, near, a, b))
    return near


def _parts(
    codes: Codes, rows: NDArray[np.int32], parts: int, pieces: Pieces
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """First level: starts of each part, rows by part, nearest parts of each part."""
    n = len(rows)
    centres = new_codes(parts, codes.rows.shape[1])
    sample = rows[: min(n, _PER_PART * parts)]
    ends = np.array([0, len(sample)], np.int64)
    cluster.train(codes, sample, ends, np.array([0, parts], np.int64), _PER_PART, _ROUNDS, centres.rows, 0, 1)
    rows8.measure(centres, 0, parts)
    near = _near(centres, parts, parts, pieces)
    panel = pack(centres, np.array([0, parts], np.int64), pieces)
    groups = np.arange(len(panel.lanes), dtype=np.int32)
    names = panel.members.reshape(-1)
    part = np.empty(n, np.int32)
    pieces.run(
        n,
        3072,
        lambda a, b: cluster.assign(codes, rows, panel.lanes, panel.bias, groups, names, part, a, b),
    )
    starts, order = cluster.counting_sort(part, parts)
    return starts, rows[order], near


def make_cells(codes: Codes, n: int, listed: int, seed: int, pieces: Pieces, *, cell_rows: int = _CELL_ROWS) -> Cells:
    """Group rows 0 .. n into cells of about `cell_rows`; list the `listed` nearest cells of each.

    About sqrt(cells) parts first, cells inside each part, then every row to the nearest cell of the six nearest parts.
    Cells are numbered along a chain of near neighbours.
    """
    rows = np.random.default_rng(seed).permutation(n).astype(np.int32)
    parts = max(2, int(np.sqrt(max(2, n // cell_rows))))
    starts, rows, near_parts = _parts(codes, rows, parts, pieces)
    sizes = np.diff(starts)
    wanted = np.where(sizes > 0, np.maximum(1, np.rint(sizes / cell_rows)), 0)
    firsts = np.zeros(parts + 1, np.int64)
    firsts[1:] = np.cumsum(wanted)
    cells = int(firsts[-1])
    centres = new_codes(cells, codes.rows.shape[1])
    pieces.run(
        parts,
        1,
        lambda a, b: cluster.train(codes, rows, starts, firsts, _PER_CENTRE, _ROUNDS, centres.rows, a, b),
    )
    rows8.measure(centres, 0, cells)
    panel = pack(centres, firsts, pieces)
    runs = np.array(
        [(a, min(a + 768, end), i) for i, end in enumerate(starts[1:]) for a in range(starts[i], end, 768)],
        np.int64,
    )
    names = panel.members.reshape(-1)
    best = np.empty(n, np.int32)
    pieces.run(
        len(runs),
        2,
        lambda a, b: cluster.assign_parts(codes, rows, panel, names, near_parts, _PROBE, runs, best, a, b),
    )
    return _number(rows, best, _near(centres, cells, listed, pieces))


def _number(rows: NDArray[np.int32], best: NDArray[np.int32], near: NDArray[np.int32]) -> Cells:
    """Number cells along the chain and sort the rows by cell."""
    rank = cluster.chain(near)
    renamed = np.empty_like(near)
    renamed[rank] = np.where(near >= 0, rank[near], -1)
    cell = np.empty(len(rows), np.int32)
    cell[rows] = rank[best]
    starts, order = cluster.counting_sort(cell, len(near))
    return Cells(starts, order, renamed)


def blocks_of(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut cells into blocks of at most BLOCK_ROWS rows: (blocks, 3) of first row, end and cell."""
    sizes = np.diff(starts)
    parts = -(-sizes // BLOCK_ROWS)
    cell = np.repeat(np.arange(len(sizes)), parts)
    turn = np.arange(len(cell)) - np.repeat(np.cumsum(parts) - parts, parts)
    first = starts[cell] + sizes[cell] * turn // parts[cell]
    end = starts[cell] + sizes[cell] * (turn + 1) // parts[cell]
    return np.stack([first, end, cell], 1).astype(np.int64)
