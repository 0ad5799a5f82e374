"""A level-0 graph and its upper levels from vectors alone, by dense arithmetic instead of search.

Rows become int8 codes, codes fall into cells, every cell is compared with its near cells, neighbours of neighbours are
compared once, and the heuristic of HNSW prunes what was found; bridges and a repair make every row reachable. The same
seed gives the same bytes on any number of threads: pieces of work are fixed, scores are integers, ties go by position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.bulk_candidates import Found, find_candidates, find_cells
from vicinal.index.bulk_cells import Cells, new_codes
from vicinal.index.bulk_codes import encode_rows
from vicinal.index.bulk_graph import UPPER_DEGREE, Graph, Levels, build_levels, finish, link, link_both
from vicinal.index.bulk_pieces import Cancelled, Pieces
from vicinal.index.bulk_tight import mix_links, tight_groups
from vicinal.kernels import rows8
from vicinal.kernels.repair import EVERY, hang_copies, rename, repair
from vicinal.kernels.rows8 import Codes
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["DEGREE", "Links", "build_links", "first_equal"]

DEGREE = 32
_CANDIDATES = 64
_ARITY = 4  # copies that hang below a row
_FINER = 2.0  # how much finer the codes of a group must be to link it again
_NO_SCALE = 0.0


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
            built = _build(_Job(rows.vectors, metric, seed, fill, pieces, tell), names, _NO_SCALE)
    except Cancelled:
        return None
    assert built is not None, "any scale is finer than none"
    return built if len(names) == n else _expanded(built, names, n)


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


class _Job(NamedTuple):
    """What stays the same for the whole build and for the groups linked again inside it."""

    vectors: NDArray[Any]
    metric: Metric
    seed: int
    fill: bool
    pieces: Pieces
    tell: Callable[[float], None]


class _Space(NamedTuple):
    """Rows as codes: `whole` of all, `codes` of those with distinct codes.

    `own` names for each row the first with equal codes, `keep` lists those. `around` are codes whose distances are
    distances, for cells: under the dot product those of directions. `scale` is codes per unit of the vectors.
    """

    whole: Codes
    codes: Codes
    around: Codes
    scale: float
    own: NDArray[np.int32]
    keep: NDArray[np.int32]


def _encode(job: _Job, names: NDArray[np.int64]) -> _Space:
    """Encode the named vectors and set rows with equal codes aside."""
    scale, whole = encode_rows(job.vectors, names, job.metric, job.pieces)
    own = first_equal(whole.rows, len(names), job.pieces)
    keep = np.flatnonzero(own == np.arange(len(own))).astype(np.int32)
    codes = whole
    if len(keep) < len(own):
        codes = new_codes(len(keep), whole.rows.shape[1])
        job.pieces.run(len(keep), 8192, lambda a, b: rows8.gather(whole, keep, codes, a, b))
    around = codes
    if job.metric is Metric.DOT:
        _, around = encode_rows(job.vectors, names[keep], Metric.COSINE, job.pieces)
    return _Space(whole, codes, around, scale, own, keep)


def _build(job: _Job, names: NDArray[np.int64], coarser: float) -> Links | None:
    """Link the vectors called `names`, numbered 0, 1, ...; None when their codes are hardly finer than `coarser`."""
    if len(names) == 0:
        return _nothing(0)
    space = _encode(job, names)
    if space.scale < _FINER * coarser:
        return None
    inner = coarser > 0
    tell = job.tell if not inner else lambda _: None
    tell(0.05)
    m = len(space.keep)
    cells = find_cells(space.around, m, job.seed, job.pieces)
    tell(0.2)
    copies = np.bincount(space.own, minlength=len(space.own))[space.keep][cells.order]
    places = np.where(copies > 1, DEGREE - _ARITY, DEGREE).astype(np.int32)
    found = find_candidates(space.codes, cells, _CANDIDATES, job.pieces, fine=True)
    tell(0.5)
    levels = build_levels(space.codes, space.around, m, found, job.seed, job.pieces)
    tell(0.6)
    graph = _level0(job, space, found, places)
    entry = int(np.flatnonzero(cells.order == levels.entry)[0])
    finish(found, graph, entry, places, job.pieces, fill=job.fill and not inner)
    tell(0.9)
    out = _named(space, graph, levels, cells, job.pieces)
    if job.metric is not Metric.DOT:
        _resolve(job, names, space, tight_groups(found, copies, job.vectors.shape[1]), out)
    tell(1.0)
    return out


def _level0(job: _Job, space: _Space, found: Found, places: NDArray[np.int32]) -> Graph:
    """Link the distinct rows by their candidates."""
    if job.metric is not Metric.DOT:
        return link(found, places, DEGREE, job.pieces)
    beside = find_candidates(space.around, found.cells, _CANDIDATES, job.pieces, fine=True)
    return link_both(found, link(beside, places, DEGREE, job.pieces), places, DEGREE, job.pieces)


def _resolve(job: _Job, names: NDArray[np.int64], space: _Space, groups: list[NDArray[np.int64]], out: Links) -> None:
    """Link groups that the codes cannot resolve by codes of their own, in place; `groups` hold places in out.order."""
    label = np.full(len(names), -1, np.int64)
    for number, group in enumerate(groups):
        label[out.order[group]] = number
    label = label[space.own]  # copies with their first row
    members = np.flatnonzero(label >= 0)
    members = members[np.argsort(label[members], kind="stable")]
    links, changed = out.links.view(np.int32), False
    for rows in np.split(members, np.flatnonzero(np.diff(label[members])) + 1):
        again = _build(job, names[rows], space.scale) if len(rows) else None
        if again is not None:
            changed = True
            mix_links(links, out.degree, rows, again.links, job.pieces)
    if changed:
        places = np.full(len(names), DEGREE, np.int32)
        repair(space.whole, links, out.degree, places, links.copy(), out.entry, EVERY)


def _named(space: _Space, graph: Graph, levels: Levels, cells: Cells, pieces: Pieces) -> Links:
    """Give rows their numbers back and hang the copies."""
    m, n = len(space.keep), len(space.own)
    links, counts = np.full((n, DEGREE), SENTINEL, np.uint32), np.zeros(n, np.int32)
    name_of = space.keep.astype(np.int64)
    by_cell = name_of[cells.order]
    pieces.run(m, 8192, lambda a, b: rename(graph.links, graph.degree, by_cell, links, counts, a, b))
    if m < n:
        hang_copies(links, counts, space.own.astype(np.int64), _ARITY)
    level, upper_row, upper = _upper(n, name_of, levels.top, levels.rows, levels.links)
    entry = int(name_of[levels.entry])
    return Links(links, counts, level, upper_row, upper, entry, by_cell, cells.starts)


def _expanded(built: Links, names: NDArray[np.int64], n: int) -> Links:
    """Spread a graph of rows 0, 1, ... over the slots called `names`."""
    out = _nothing(n)
    wide = np.append(names, SENTINEL)  # the last for unused places
    if len(names) == 0:
        return out
    out.links[names] = wide[np.minimum(built.links, len(names))]
    out.degree[names] = built.degree
    out.level[names] = built.level
    out.upper_row[names] = built.upper_row
    upper = wide[np.minimum(built.upper, len(names))].astype(np.uint32)
    return out._replace(upper=upper, entry=int(names[built.entry]), order=names[built.order], cells=built.cells)


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


def first_equal(codes: NDArray[np.int8], n: int, pieces: Pieces) -> NDArray[np.int32]:
    """Give for each row the first row with the same codes."""
    words, rows = codes.view(np.uint64), np.arange(n, dtype=np.int64)
    hashes = np.empty(n, np.uint64)
    pieces.run(n, 8192, lambda a, b: rows8.hash_rows(words, rows, hashes, a, b))
    order = np.argsort(hashes, kind="stable")
    if (np.diff(hashes[order]) != 0).all():
        return np.arange(n, dtype=np.int32)
    found: NDArray[np.int32] = rows8.owners(words, rows, hashes, order)
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
