"""Linking segment graphs by dense products of codes, row by row and any part of the rows by itself.

`kernels.segment_candidates` finds the candidates. Which of them hides which comes from one tile of products per six,
kept as bits, so choosing again for the next left bound costs a few words.

Rows with equal codes are chained: only the latest of them before a rank is a candidate of that rank, and the next of
them links to it whatever else is near.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.build import BLOCK_ROWS, Panel
from vicinal.kernels.gemm import LOW, ROWS_PER_TILE, tile6x2
from vicinal.kernels.operands import greater, lesser
from vicinal.kernels.prune import PRUNED_MAX, occlude, pack_room, prune, prune_room
from vicinal.kernels.rows8 import numbers
from vicinal.kernels.segment_candidates import ROOM, new_block, scan_block
from vicinal.kernels.simd import lowest_bit
from vicinal.kernels.threshold import rank_sort

__all__ = ["MAXIMUM", "MINIMUM", "Own", "keep_prefixes", "lay_edges", "link_ranks"]

MINIMUM, MAXIMUM = 0, 1  # leaps
_WORDS = ROOM // 64
_SPILL = np.int64(64)
_GROUP = np.int64(16)
_ALIVE = np.uint32(0xFFFFFFFF)
_LISTED = np.int64(PRUNED_MAX + 64)


class _Room(NamedTuple):
    """The candidates of one row, nearest first, and what is known of them."""

    ids: NDArray[np.int32]
    dist: NDArray[np.int32]
    by_rank: NDArray[np.int32]  # positions, the latest rank first
    lanes: NDArray[np.uint8]
    bias: NDArray[np.int32]
    names: NDArray[np.int32]  # 0, 1, 2 ...
    scores: NDArray[np.int32]
    rows: NDArray[np.int32]
    chosen: NDArray[np.int64]
    known: NDArray[np.uint8]
    spared: NDArray[np.uint64]  # (candidates, words) whom a candidate does not hide
    alive: NDArray[np.uint64]  # (words,) those of the bound
    left: NDArray[np.uint64]
    picks: NDArray[np.int64]
    last: NDArray[np.int64]  # picks of the bound before
    since: NDArray[np.int64]
    turn: NDArray[np.int64]


@njit
def _room(width, M):
    return _Room(
        np.zeros(ROOM + _SPILL, np.int32),
        np.zeros(ROOM + _SPILL, np.int32),
        np.zeros(ROOM + _SPILL, np.int32),
        np.zeros((ROOM // _GROUP + 1, width * 16), np.uint8),
        np.zeros(ROOM + _SPILL, np.int32),
        numbers(ROOM + _SPILL),
        np.zeros(ROWS_PER_TILE * ROOM + _SPILL, np.int32),
        np.zeros(ROWS_PER_TILE, np.int32),
        np.zeros(ROWS_PER_TILE, np.int64),
        np.zeros(ROOM, np.uint8),
        np.zeros((ROOM, _WORDS), np.uint64),
        np.zeros(_WORDS, np.uint64),
        np.zeros(_WORDS, np.uint64),
        np.zeros(M, np.int64),
        np.zeros(M, np.int64),
        np.zeros(ROOM, np.int64),
        np.zeros(ROOM, np.int64),
    )


@njit
def _compare(codes, room, first, words):
    """Learn whom the candidates hide that are next: six of those left, from `first` on."""
    m, t = np.int64(0), first >> 6
    while t < words and m < ROWS_PER_TILE:
        bits = room.left[t]
        while bits != 0 and m < ROWS_PER_TILE:
            j = 64 * t + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            if room.known[j] == 0:
                room.chosen[m] = j
                m += 1
        t += 1
    for r in range(ROWS_PER_TILE):
        room.rows[r] = room.ids[room.chosen[lesser(r, m - 1)]]
    low, high = first >> 4, words * 4
    for g in range(low, high, 2):
        tile6x2(codes.rows, room.rows, 0, room.lanes, room.names, g, room.bias, room.scores, g * 16, ROOM)
    for r in range(m):
        j = room.chosen[r]
        room.spared[j, :words] = ~np.uint64(0)
        row = room.spared[j]
        occlude(room.scores, r * ROOM, room.dist, codes.offset[room.rows[r]], low, high, row)
        row[j >> 6] &= ~(np.uint64(1) << np.uint64(j & 63))
        room.known[j] = 1


@njit
def _choose(codes, room, words, wanted):
    """The heuristic among the candidates alive; returns how many it picked."""
    room.left[:words] = room.alive[:words]
    n, t = 0, np.int64(0)
    while t < words and n < wanted:
        if room.left[t] == 0:
            t += 1
            continue
        j = 64 * t + lowest_bit(room.left[t])
        if room.known[j] == 0:
            _compare(codes, room, j, words)
        room.picks[n] = j
        n += 1
        for w in range(t, words):
            room.left[w] &= room.spared[j, w]
    return n


@njit
def _log(edges, used, owner, other, since, till):
    """Append one link; the log grows as it must."""
    if used == edges.shape[0]:
        more = np.empty((2 * used, 4), np.uint32)
        more[:used] = edges
        edges = more
    edges[used, 0], edges[used, 1], edges[used, 2], edges[used, 3] = owner, other, since, till
    return edges


@njit
def _intervals(codes, room, count, rank, plan, own, edges, used):
    """Log every (neighbour, interval of the left bound) of a row; those of bound 0 are its own.

    Gives the log and how many it holds.
    """
    words = (count + 63) >> 6
    bound, before, oldest = np.int64(0), 0, count - 1
    while True:
        n = _choose(codes, room, words, plan.M)
        for t in range(n):
            room.turn[room.picks[t]] = bound
        for t in range(before):
            j = room.last[t]
            if room.turn[j] != bound:
                edges = _log(edges, used, rank, room.ids[j], room.since[j], lesser(bound - 1, np.int64(room.ids[j])))
                room.since[j] = -1
                used += 1
        if n == 0:
            return edges, used
        least, most = np.int64(rank), np.int64(0)
        for t in range(n):
            j = room.picks[t]
            if room.since[j] < 0:
                room.since[j] = bound
            room.last[t] = j
            least, most = lesser(least, np.int64(room.ids[j])), greater(most, np.int64(room.ids[j]))
        if bound == 0:
            for t in range(n):
                own.ids[rank, t], own.dist[rank, t] = room.ids[room.picks[t]], room.dist[room.picks[t]]
            own.degree[rank] = n
        before = n
        bound = (least if plan.leap == MINIMUM else most) + 1
        while oldest >= 0 and room.ids[room.by_rank[oldest]] < bound:
            j = np.int64(room.by_rank[oldest])
            room.alive[j >> 6] &= ~(np.uint64(1) << np.uint64(j & 63))
            oldest -= 1


class Own(NamedTuple):
    """The links that rows chose among all ranks before them."""

    ids: NDArray[np.int32]  # (n, M)
    dist: NDArray[np.int32]
    degree: NDArray[np.int32]  # (n,)


@njit
def _lay_out(codes, ranks, plan, block, q, rank, room, found):
    """Sort a row's candidates and pack them; returns how many there are. found: space for sorting."""
    scores, ids = block.found_scores[q], block.found_ids[q]
    n = block.found[q]
    offset = codes.offset[rank]
    for j in range(ranks.far_ids.shape[1] if rank > plan.widest else 0):
        other = ranks.far_ids[rank, j]
        if 0 <= other < rank - plan.widest - BLOCK_ROWS and ranks.after[other] >= rank:
            scores[n], ids[n] = offset - ranks.far_dist[rank, j], other
            n += 1
    copy = ranks.before[rank]
    if copy >= 0:
        at = 0
        while at < n and ids[at] != copy:
            at += 1
        if at == n:
            ids[n] = copy
            n += 1
        scores[at] = -LOW  # above all: the chain of copies is kept whatever else is near
    rank_sort(scores, ids, n, found, room.ids)
    for j in range(n):
        room.dist[j] = offset - found[j] if found[j] != -LOW else LOW
        scores[j] = room.ids[j]
    rank_sort(scores, room.names, n, found, room.by_rank)
    pack_room(codes, room, n, (n + 63) >> 6)
    room.known[:n], room.since[:n] = 0, -1
    return n


@njit
def link_ranks(codes, panel, ranks, plan, own, start, stop):
    """Find and choose the links of ranks start .. stop - 1 to those before; start is a multiple of BLOCK_ROWS.

    panel: all ranks in groups of sixteen, in order. Gives a log (links, 4) uint32 of owner, neighbour, first and last
    left bound, ordered by owner; what rows choose among all ranks before them goes to `own` as well.
    """
    room, block = _room(codes.rows.shape[1], plan.M), new_block()
    groups, found = np.empty(panel.lanes.shape[0] + 4, np.int32), np.empty(ROOM + _SPILL, np.int32)
    bias = panel.bias.copy()
    for r in range(start):
        if ranks.after[r] < start:
            bias[r >> 4, r & 15] = LOW
    live = Panel(panel.lanes, bias, panel.members, panel.starts)
    edges, used = np.empty((4096, 4), np.uint32), 0
    for first in range(start, stop, BLOCK_ROWS):
        m = lesser(BLOCK_ROWS, stop - first)
        scan_block(codes, ranks, live, plan, block, first, m, groups)
        for q in range(m):
            n = _lay_out(codes, ranks, plan, block, q, first + q, room, found)
            own.degree[first + q] = 0
            if n > 0:
                edges, used = _intervals(codes, room, n, first + q, plan, own, edges, used)
        for r in range(first, first + m):
            if ranks.before[r] >= 0:
                bias[ranks.before[r] >> 4, ranks.before[r] & 15] = LOW
    return edges[:used].copy()


@njit
def keep_prefixes(codes, own, starts, sources, source_dist, width, start, stop):
    """Give the links of ranks start .. stop - 1 in the graphs of all prefixes, in the form of `link_ranks`' log.

    A row begins with its own links; each later rank that chose it (`kernels.prune.reverse`) is added, and when it
    holds more than `width` the heuristic chooses again: what it drops dies with that rank, the last bound of the link.
    """
    room = prune_room(codes.rows.shape[1])
    links, near = np.empty(_LISTED, np.int32), np.empty(_LISTED, np.int32)
    scores, sorted_scores, sorted_links = (
        np.empty(_LISTED, np.int32),
        np.empty(_LISTED, np.int32),
        np.empty(_LISTED, np.int32),
    )
    edges, used = np.empty((4096, 4), np.uint32), 0
    for owner in range(start, stop):
        n = np.int64(own.degree[owner])
        links[:n], near[:n] = own.ids[owner, :n], own.dist[owner, :n]
        for e in range(starts[owner], starts[owner + 1]):
            links[n], near[n] = sources[e], source_dist[e]
            n += 1
            if n <= width:
                continue
            for j in range(n):
                scores[j] = -near[j]
            rank_sort(scores, links, n, sorted_scores, sorted_links)
            for j in range(n):
                room.ids[j], room.dist[j] = sorted_links[j], -sorted_scores[j]
            kept, k = prune(codes, room, n, width, 1, 1), 0
            for j in range(n):
                if k < kept and room.kept[k] == j:
                    links[k], near[k] = room.ids[j], room.dist[j]
                    k += 1
                elif room.ids[j] != sources[e]:
                    edges = _log(edges, used, owner, room.ids[j], 0, sources[e])
                    used += 1
            n = np.int64(kept)
        for j in range(n):
            edges = _log(edges, used, owner, links[j], 0, _ALIVE)
            used += 1
    return edges[:used].copy()


@njit
def lay_edges(log, both, shift, ends, edges):
    """Lay the links of a log out by owner, and by neighbour as well if `both`, the latest first.

    ends (ranks + 1,) int64: where links of each rank begin and end in edges (links, 2) uint32: the neighbour, and the
    bounds >> shift in sixteen bits each, the last in the upper half.
    """
    place = ends[:-1].copy()
    turns = 2 if both else 1
    for turn in range(turns):
        for i in range(log.shape[0]):
            at = log.shape[0] - 1 - i if turn else i
            owner, other = log[at, turn], log[at, 1 - turn]
            last = lesser(np.int64(log[at, 3]) >> shift, np.int64(0xFFFF))
            edges[place[owner], 0] = other
            edges[place[owner], 1] = (np.int64(log[at, 2]) >> shift) | last << 16
            place[owner] += 1
