"""A level-0 graph and its upper levels from vectors alone, by dense arithmetic instead of search.

Rows become int8 codes, codes fall into cells, every cell is compared with its near cells, neighbours of neighbours are
compared once, and the heuristic of HNSW prunes what was found; bridges and a repair make every row reachable. The same
seed gives the same bytes on any number of threads: pieces of work are fixed, scores are integers, ties go by position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.bulk_candidates import find_candidates, find_cells
from vicinal.index.bulk_cells import Cells, new_codes
from vicinal.index.bulk_codes import encode_rows
from vicinal.index.bulk_graph import UPPER_DEGREE, Graph, Levels, build_levels, finish, link, link_both
from vicinal.index.bulk_pieces import Cancelled, Pieces
from vicinal.kernels import rows8
from vicinal.kernels.repair import hang_copies, rename
from vicinal.kernels.rows8 import Codes
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["DEGREE", "Links", "build_links"]

DEGREE = 32
_CANDIDATES = 64
_ARITY = 4  # copies that hang below a row


class Links(NamedTuple):
    """A graph over slots 0 .. n - 1; unused places of `links` and `upper` hold 0xFFFFFFFF.

    `links` (n, 32) uint32: level 0, the pruned links first, nearest first. `level` (n,) uint8: top level of each slot.
    `upper_row` (n,) int32: its row in `upper` (levels, rows, 16) uint32, -1 for slots of level 0 only. `entry`: where
    a search starts, on the top level; every linked slot can be reached from it on level 0. `order` (m,) int64 and
    `cells` (c + 1,) int64: distinct slots by cell, and the first place of each cell there.
    """

    links: NDArray[np.uint32]
    degree: NDArray[np.int32]
    level: NDArray[np.uint8]
    upper_row: NDArray[np.int32]
    upper: NDArray[np.uint32]
    entry: int
    order: NDArray[np.int64]
    cells: NDArray[np.int64]


def build_links(
    rows: Rows,
    n: int,
    metric: Metric,
    *,
    degree: int = DEGREE,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    seed: int = 42,
    fill: bool = False,
    slots: NDArray[np.integer] | None = None,
) -> Links | None:
    """Build the graph of slots 0 .. n - 1, or of the listed `slots` only (ascending; the others get no links).

    `fill` tops every row up to its full width with its nearest candidates, for searches that pay for all places anyway.
    `progress` is told the share done; `cancel` is asked between pieces of work, and None is returned when it says so.
    Raises InvalidArgument for a `degree` other than 32 or bounds that do not fit.
    """
    names = _checked(rows, n, degree, threads, slots)
    tell = progress if progress is not None else lambda _: None
    try:
        with Pieces(threads, cancel) as pieces:
            return _build(rows, n, names, metric, seed, pieces, tell, fill=fill)
    except Cancelled:
        return None


def _checked(rows: Rows, n: int, degree: int, threads: int, slots: NDArray[np.integer] | None) -> NDArray[np.int64]:
    """Refuse what no kernel may see; give the slots to link."""
    if degree != DEGREE:
        raise InvalidArgument("rows of the graph hold 32 links", field="degree", value=degree, limit=DEGREE)
    if threads < 1:
        raise InvalidArgument("at least one thread is needed", field="threads", value=threads, limit=1)
    if not 0 <= n <= len(rows.vectors):
        raise InvalidArgument(
            "n must lie between 0 and the number of rows", field="n", value=n, limit=len(rows.vectors)
        )
    names = np.arange(n, dtype=np.int64) if slots is None else np.asarray(slots, np.int64)
    if len(names) and (names[0] < 0 or names[-1] >= n or (np.diff(names) <= 0).any()):
        raise InvalidArgument("slots must ascend and lie below n", field="slots", limit=n)
    return names


class _Space(NamedTuple):
    """Distinct rows as codes: `own` names for each linked row the first equal one, `keep` lists those.

    `around` are codes whose distances are distances, for cells: under the dot product those of directions.
    """

    codes: Codes
    around: Codes
    own: NDArray[np.int32]
    keep: NDArray[np.int32]


def _encode(rows: Rows, names: NDArray[np.int64], metric: Metric, pieces: Pieces) -> _Space:
    """Encode the rows to link and set copies aside."""
    codes = encode_rows(rows.vectors, names, metric, pieces)
    own = _owners(codes.rows, len(names), pieces)
    keep = np.flatnonzero(own == np.arange(len(own))).astype(np.int32)
    if len(keep) < len(own):
        codes = _distinct(codes, keep, pieces)
    around = codes
    if metric is Metric.DOT:
        around = encode_rows(rows.vectors, names[keep], Metric.COSINE, pieces)
    return _Space(codes, around, own, keep)


def _build(
    rows: Rows,
    n: int,
    names: NDArray[np.int64],
    metric: Metric,
    seed: int,
    pieces: Pieces,
    tell: Callable[[float], None],
    *,
    fill: bool,
) -> Links:
    """Encode, find candidates, link the distinct rows, hang the copies."""
    if len(names) == 0:
        return _nothing(n)
    space = _encode(rows, names, metric, pieces)
    tell(0.05)
    m = len(space.keep)
    cells = find_cells(space.around, m, seed, pieces)
    tell(0.2)
    copied = np.bincount(space.own, minlength=len(space.own))[space.keep][cells.order] > 1
    places = np.where(copied, DEGREE - _ARITY, DEGREE).astype(np.int32)
    found = find_candidates(space.codes, cells, _CANDIDATES, pieces, fine=True)
    tell(0.5)
    levels = build_levels(space.codes, space.around, m, found, seed, pieces)
    tell(0.6)
    if metric is Metric.DOT:
        beside = find_candidates(space.around, cells, _CANDIDATES, pieces, fine=True)
        graph = link_both(found, link(beside, places, DEGREE, pieces), places, DEGREE, pieces)
    else:
        graph = link(found, places, DEGREE, pieces)
    entry = int(np.flatnonzero(cells.order == levels.entry)[0])
    finish(found, graph, entry, places, pieces, fill=fill)
    tell(0.95)
    out = _named(n, names, space, graph, levels, cells, pieces)
    tell(1.0)
    return out


def _named(
    n: int,
    names: NDArray[np.int64],
    space: _Space,
    graph: Graph,
    levels: Levels,
    cells: Cells,
    pieces: Pieces,
) -> Links:
    """Name rows by slot and hang the copies."""
    m, slot_of = len(space.keep), names[space.keep]
    links, counts = np.full((n, DEGREE), SENTINEL, np.uint32), np.zeros(n, np.int32)
    by_cell = slot_of[cells.order]
    pieces.run(m, 8192, lambda a, b: rename(graph.links, graph.degree, by_cell, links, counts, a, b))
    if m < len(space.own):
        owner = np.full(n, -1, np.int64)
        owner[names] = names[space.own]
        hang_copies(links, counts, owner, _ARITY)
    level, upper_row, upper = _upper(n, slot_of, levels.top, levels.rows, levels.links)
    entry = int(slot_of[levels.entry])
    return Links(links, counts, level, upper_row, upper, entry, by_cell, cells.starts)


def _distinct(codes: Codes, keep: NDArray[np.int32], pieces: Pieces) -> Codes:
    """Give the codes of the rows to keep."""
    out = new_codes(len(keep), codes.rows.shape[1])
    pieces.run(len(keep), 8192, lambda a, b: rows8.gather(codes, keep, out, a, b))
    return out


def _nothing(n: int) -> Links:
    """Give the graph without rows."""
    return Links(
        np.full((n, DEGREE), SENTINEL, np.uint32),
        np.zeros(n, np.int32),
        np.zeros(n, np.uint8),
        np.full(n, -1, np.int32),
        np.zeros((0, 0, UPPER_DEGREE), np.uint32),
        0,
        np.zeros(0, np.int64),
        np.zeros(1, np.int64),
    )


def _owners(codes: NDArray[np.int8], n: int, pieces: Pieces) -> NDArray[np.int32]:
    """Give for each row the first row with the same codes."""
    words = codes.view(np.uint64)
    hashes = np.empty(n, np.uint64)
    pieces.run(n, 8192, lambda a, b: rows8.hash_rows(words, hashes, a, b))
    order = np.argsort(hashes, kind="stable")
    if (np.diff(hashes[order]) != 0).all():
        return np.arange(n, dtype=np.int32)
    found: NDArray[np.int32] = rows8.owners(words, hashes, order)
    return found


def _upper(
    n: int,
    slot_of: NDArray[np.int64],
    top: NDArray[np.int32],
    rows: list[NDArray[np.int64]],
    links: list[NDArray[np.int32]],
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint32]]:
    """Give each slot's level, its row of the upper levels, and those as one array."""
    level = np.zeros(n, np.uint8)
    level[slot_of] = top
    upper_row = np.full(n, -1, np.int32)
    slots = np.flatnonzero(level)
    upper_row[slots] = np.arange(len(slots))
    upper = np.full((len(rows), len(slots), UPPER_DEGREE), SENTINEL, np.uint32)
    for at, (names, of_level) in enumerate(zip(rows, links, strict=True)):
        upper[at, upper_row[slot_of[names]]] = np.where(of_level >= 0, slot_of[of_level], SENTINEL)
    return level, upper_row, upper
