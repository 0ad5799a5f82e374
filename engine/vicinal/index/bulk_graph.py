"""From candidates to links: pruning both ways, bridges, upper levels, repair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_candidates import Found, find_candidates, find_cells
from vicinal.index.bulk_cells import new_codes
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import bridges, prune, rows8
from vicinal.kernels.build import Candidates
from vicinal.kernels.repair import EVERY, repair
from vicinal.kernels.rows8 import Codes

__all__ = ["UPPER_DEGREE", "Graph", "Levels", "build_levels", "finish", "link", "link_both", "slack_of"]

UPPER_DEGREE = 16  # links per row on upper levels
_FORWARD = 24  # links a row chooses itself; 16 need 5 to 10 % more distances where many are needed
_ALPHA = 1.05  # slack of the heuristic on level 0
_ANGULAR = 10  # places of a row kept for the angular graph's links, for inner products
_UPPER_CANDIDATES = 48
_LONG = 16  # candidates of an upper-level row that are its neighbours there
_TARGETS = 256  # bridge targets looked at together
_MANY, _TARGETS_OF_MANY = 1 << 19, 64  # rows whose distances to so many targets, twice 2 bytes each, fit memory
_TARGETS_LEAST, _TARGETS_MOST = 512, 2048
_STUCK = 1 / 16  # share of rows stuck for the first targets from which all targets are used
_DENSE = 6  # stuck rows of 64 that make a region dense
_BRIDGES = 4  # most bridges of a row
_STEPS = 8  # of the walk that finds a bridge's far end
_SPREAD = (1, 9, 5, 13, 3, 11, 7, 15)  # which sixteenth between targets each round takes


class Graph(NamedTuple):
    """Links by position in cell order: (n, degree) int32, -1 in unused places; `degree` (n,) int32."""

    links: NDArray[np.int32]
    degree: NDArray[np.int32]


class Levels(NamedTuple):
    """Upper levels. `top` (n,) int32: level of each row; `links` one (rows, 16) int32 per level, with its `rows`."""

    top: NDArray[np.int32]
    entry: int
    rows: list[NDArray[np.int64]]
    links: list[NDArray[np.int32]]


def slack_of(alpha: float) -> tuple[int, int]:
    """Give 1 / alpha^2 as a fraction of integers."""
    return 1000, round(1000 * alpha * alpha)


def _join(
    codes: Codes, n: int, given: Candidates, places: NDArray[np.int32], width: int, alpha: float, pieces: Pieces
) -> Graph:
    """Choose forward links, add the reverse ones, prune again where there are too many."""
    num, den = slack_of(alpha)
    chosen, dist = np.empty((n, _FORWARD), np.int32), np.empty((n, _FORWARD), np.int32)
    count = np.empty(n, np.int32)
    pieces.run(n, 1024, lambda a, b: prune.select(codes, given, _FORWARD, num, den, chosen, dist, count, a, b))
    starts, sources, source_dist = prune.reverse(chosen, dist, count)
    graph = Graph(np.empty((n, width), np.int32), np.empty(n, np.int32))
    pieces.run(
        n,
        2048,
        lambda a, b: prune.merge(
            codes, chosen, dist, count, starts, sources, source_dist, num, den, places, graph.links, graph.degree, a, b
        ),
    )
    return graph


def _add_bridges(codes: Codes, n: int, graph: Graph, places: NDArray[np.int32], pieces: Pieces) -> None:
    """Link rows where walks towards far targets end early; more targets where many rows are so."""
    out = np.empty((n, _BRIDGES), np.int32)
    count, stuck = np.zeros(n, np.int32), np.zeros(n, np.int32)
    targets = _TARGETS if n <= _MANY else _TARGETS_OF_MANY
    distances, least = np.empty((n, targets), np.uint16), np.empty((n, targets), np.uint16)
    regions = np.zeros(n // bridges.REGION + 1, np.uint8)
    shift = max(0, int(4 * int(codes.half[:n].max())).bit_length() - 16)
    share = 0.0
    for turn, part in enumerate(_SPREAD[: _TARGETS_MOST // targets]):
        if turn * targets >= _TARGETS_LEAST and share < _STUCK:
            break
        goals = ((np.arange(targets) * 16 + part) * n // (16 * targets)).astype(np.int32)
        lanes = np.empty((targets // 16, codes.rows.shape[1] * 16), np.uint8)
        bias = np.empty((targets // 16, 16), np.int32)
        rows8.fill_groups(codes, goals.reshape(-1, 16), lanes, bias, 0, targets // 16)

        def far(a: int, b: int, lanes: NDArray[np.uint8] = lanes, bias: NDArray[np.int32] = bias) -> None:
            bridges.to_targets(codes, lanes, bias, shift, distances, a, b)

        def look(a: int, b: int, goals: NDArray[np.int32] = goals) -> None:
            bridges.bridges(
                codes, graph.links, goals, distances, least, _DENSE, _STEPS, out, count, stuck, regions, a, b
            )

        pieces.run(n, 6 * 512, far)
        pieces.run(n, 2048, lambda a, b: bridges.least_over_links(graph.links, distances, least, a, b))
        pieces.run(n, 16 * bridges.REGION, look)
        if turn == 0:
            share = np.count_nonzero(stuck) / n
    bridges.add_bridges(graph.links, graph.degree, places, out, count)


def link(found: Found, places: NDArray[np.int32], width: int, pieces: Pieces) -> Graph:
    """Make level 0 from candidates by distance, with bridges: at most places[p] of `width` links per row."""
    n = len(found.cells.order)
    graph = _join(found.codes, n, found.candidates, places, width, _ALPHA, pieces)
    pieces.check()
    if n > _TARGETS:
        _add_bridges(found.codes, n, graph, places, pieces)
    return graph


def link_both(inner: Found, angular: Graph, places: NDArray[np.int32], width: int, pieces: Pieces) -> Graph:
    """Make level 0 for inner products: links towards large products, then a few of the angular graph.

    Links by inner product alone (ip-NSW, Morozov and Babenko 2018) leave out whole regions where vectors are short;
    angular ones alone miss the long vectors that answer most queries. Both together need fewer distances than either.
    """
    n = len(inner.cells.order)
    graph = _join(inner.codes, n, inner.candidates, places - _ANGULAR, width, 1.0, pieces)
    pieces.run(n, 4096, lambda a, b: prune.mix_in(graph.links, graph.degree, places, angular.links, a, b))
    return graph


def finish(found: Found, graph: Graph, entry: int, places: NDArray[np.int32], pieces: Pieces, *, fill: bool) -> None:
    """Make every row reachable from `entry`; then, with `fill`, give every row as many links as it may have."""
    ids = found.candidates.ids
    repair(found.codes, graph.links, graph.degree, places, ids, entry, EVERY)
    if fill:
        pieces.run(len(ids), 4096, lambda a, b: prune.top_up(graph.links, graph.degree, places, ids, a, b))


def _level_of(n: int, seed: int) -> NDArray[np.int32]:
    """Draw the level of each row from a hash of (row, seed): one in sixteen reaches level 1, one in 256 level 2."""
    x = np.arange(n, dtype=np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(31)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(29)
    uniform = (x >> np.uint64(11)).astype(np.float64) / 2**53
    level: NDArray[np.float64] = np.floor(-np.log(np.maximum(uniform, 1e-300)) / np.log(UPPER_DEGREE))
    return level.astype(np.int32)


def _some(codes: Codes, rows: NDArray[np.int64]) -> Codes:
    """Give the codes of some rows."""
    out = new_codes(len(rows), codes.rows.shape[1])
    rows8.gather(codes, rows.astype(np.int32), out, 0, len(rows))
    return out


def build_levels(codes: Codes, around: Codes, n: int, found: Found, seed: int, pieces: Pieces) -> Levels:
    """Link the upper levels, each row's numbers being those of `codes`; rows of level 1 get long candidates in `found`.

    The long ones take the places of the farthest candidates, so that level 0 keeps some links across the space. Cells
    are made of `around`, codes of the same rows whose distances are distances.
    """
    top = _level_of(n, seed)
    entry = int(np.argmax(top))
    position = np.empty(n, np.int32)
    position[found.cells.order] = np.arange(n, dtype=np.int32)
    levels = Levels(top, entry, [], [])
    for level in range(1, int(top.max()) + 1):
        rows = np.flatnonzero(top >= level)
        m = len(rows)
        some = _some(codes, rows)
        shape = some if around is codes else _some(around, rows)
        local = find_candidates(some, find_cells(shape, m, seed, pieces), _UPPER_CANDIDATES, pieces, fine=False)
        places = np.full(m, UPPER_DEGREE, np.int32)
        graph = _join(local.codes, m, local.candidates, places, UPPER_DEGREE, 1.0, pieces)
        names = rows[local.cells.order]
        start = int(np.flatnonzero(names == entry)[0])
        repair(local.codes, graph.links, graph.degree, places, local.candidates.ids, start, EVERY)
        far = np.where(local.candidates.ids >= 0, position[names[local.candidates.ids]], -1).astype(np.int32)
        prune.lengthen(found.candidates, position[names], far, local.candidates.dist, _LONG)
        levels.rows.append(names)
        levels.links.append(np.where(graph.links >= 0, names[graph.links], -1).astype(np.int32))
    return levels
