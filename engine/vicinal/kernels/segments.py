"""Segment graphs (SeRF, Zuo et al., SIGMOD 2024): one pass in order of an attribute keeps the graphs of all ranges.

Rows are inserted in rank order. `insert_ranks` searches the graph of the ranks before, then writes

* 1-D: the links of that graph. A link pruned away while rank t is inserted still belongs to the graphs of the first
  R <= t ranks: it is logged with its death t. All n prefix graphs are so many links as ever were.
* 2-D: for every left bound L the neighbours that the heuristic would choose among the candidates ranked L or higher,
  as links with the interval of L for which they are chosen. The heuristic's answer for a bound b holds up to the least
  rank it chose (without loss: what it did not choose had no part in it), or is taken to hold up to the greatest (the
  MAX leap, smaller and lossy); the next bound is one above.

Departures. Intervals instead of batches: neighbouring batches share most links, so the leap without loss becomes
affordable; which candidate hides which is computed once per row, on demand. Exact copies of one row count once in
candidates and rows, as the latest of them, to which the next copy is linked: a chain, unbroken in every range.
"""

# ruff: noqa: ARG001, ARG005 - overloads share the arguments of what they overload

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from vicinal.kernels import njit
from vicinal.kernels.beam import Filter, row_ahead, row_of, send_for, unvisited, walk
from vicinal.kernels.distance import distance, distance_within, query_scale, row_scale, space_at
from vicinal.kernels.exact import NO_LIMIT, drain, work_at
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.insert import next_epoch, select_nearest
from vicinal.kernels.simd import (
    INF_KEY,
    SENTINEL,
    get_i64,
    get_u8,
    get_u32,
    key_distance,
    key_slot,
    make_key,
    set_i64,
    set_u8,
    set_u32,
)

__all__ = ["EDGE_BYTES", "STARTS", "Edges", "Segments", "insert_ranks", "search_edges", "search_range"]

STARTS = 8  # evenly spaced ranks where a search begins; the paper takes 3
EDGE_BYTES = 12
MINIMUM, MAXIMUM = 0, 1
_SLOT = 0x7FFFFFFF
_LISTED_MOST = 128  # fresh neighbours of one expansion: room of the scratch's list is 512


class Edges(NamedTuple):
    """A finished segment graph and the range of one search; addresses as integers."""

    order: int  # u32: slot of each rank
    ranks: int  # u32: rank of each slot
    ends: int  # int64 per rank, after a first 0: where its links end
    edges: int  # three u32 a link: the neighbour's rank, and the bounds between which it holds
    low: int
    stop: int  # ranks low .. stop - 1 may be met
    bound: int  # a link holds if its bounds include this: stop in a 1-D graph, low in a 2-D one


class Segments(NamedTuple):
    """What insertion in rank order writes beside the graph of the ranks so far."""

    order: int
    ranks: int
    first: int  # u32 per slot: the first slot with an equal row
    last: int  # u32 per such first slot: the latest
    state: int  # as in `insert.Builder`
    chosen: int  # u32 list
    ranked: int  # a small pool
    ranked_vectors: int
    ef_vectors: int
    leap: int  # MINIMUM or MAXIMUM


@njit
def _edges_at(block, low, stop, bound):
    return Edges(get_i64(block), get_i64(block + 8), get_i64(block + 16), get_i64(block + 24), low, stop, bound)


@njit
def _first_edge(graph, slot):
    return graph.edges + get_i64(graph.ends + get_u32(graph.ranks + slot * 4) * 8) * EDGE_BYTES


@njit
def _in_range(space, graph, work, epoch, slot):
    """Fresh neighbours in the range by links that hold there."""
    rank = get_u32(graph.ranks + slot * 4)
    n = 0
    for e in range(get_i64(graph.ends + rank * 8), get_i64(graph.ends + rank * 8 + 8)):
        edge = graph.edges + e * EDGE_BYTES
        other = get_u32(edge)
        if other < graph.low or other >= graph.stop:
            continue
        if graph.bound < get_u32(edge + 4) or graph.bound > get_u32(edge + 8):
            continue
        near = get_u32(graph.order + other * 4)
        mark = work.visited + near
        if get_u8(mark) != epoch:
            set_u8(mark, epoch)
            set_u32(work.fresh + n * 4, near)
            n += 1
            if n == _LISTED_MOST:
                break
    send_for(space, work.fresh, n)
    return n


@overload(unvisited)
def _unvisited_in_range(space, graph, work, epoch, slot, level, wanted):
    if getattr(graph, "instance_class", None) is Edges:
        return lambda space, graph, work, epoch, slot, level, wanted: _in_range(space, graph, work, epoch, slot)
    return None


@overload(row_ahead)
def _ahead_of_edges(graph, slot, level):
    if getattr(graph, "instance_class", None) is Edges:
        return lambda graph, slot, level: _first_edge(graph, slot)
    return None


@njit
def _seed_ranks(space, order, work, query, scale, vectors, epoch, low, stop):
    """Begin a beam at evenly spaced ranks of low .. stop - 1; they are results like any other."""
    for i in range(STARTS):
        slot = get_u32(order + (low + (2 * i + 1) * (stop - low) // (2 * STARTS)) * 4)
        if get_u8(work.visited + slot) != epoch:
            set_u8(work.visited + slot, epoch)
            pool_insert(work.pool, vectors, make_key(distance(space, query, scale, slot), slot))


@njit
def search_range(space, graph, work, epoch, ef, slots, distances):
    """The nearest len(slots) of graph.low .. graph.stop - 1 in a graph over ranks whose walks stay inside."""
    query, vectors = work.query, (ef + 7) >> 3
    scale = query_scale(space, query)
    pool_clear(work.pool, vectors)
    _seed_ranks(space, graph.order, work, query, scale, vectors, epoch, graph.low, graph.stop)
    walk(space, graph, work, epoch, 0, query, scale, vectors, work.pool, ef, Filter(NO_LIMIT, 0, 0))
    return drain(work.pool, ef, NO_LIMIT, slots, distances)


@njit
def search_edges(element, space_block, work_block, epoch, block, low, stop, bound, ef, slots, distances):
    """The nearest len(slots) of ranks low .. stop - 1 by a beam of width ef >= len(slots); returns how many.

    block: address of the first four fields of `Edges` as int64; other arguments as for `beam.search`.
    """
    space, work = space_at(space_block, element), work_at(work_block)
    return search_range(space, _edges_at(block, low, stop, bound), work, epoch, ef, slots, distances)


@njit
def _latest_only(build, pool, entries, group):
    """Replace the copies of one row in a pool by the latest of them, once; returns how many keys are left.

    group: the first slot of copies that stay as they are, or -1.
    """
    n = 0
    for i in range(entries):
        key = get_i64(pool + i * 8)
        slot = key_slot(key)
        if slot == _SLOT:
            break
        first = get_u32(build.first + slot * 4)
        if first != group:
            slot = get_u32(build.last + first * 4)
        t = n - 1
        while t >= 0 and get_i64(pool + t * 8) >> 32 == key >> 32 and key_slot(get_i64(pool + t * 8)) != slot:
            t -= 1
        if t < 0 or get_i64(pool + t * 8) >> 32 != key >> 32:
            set_i64(pool + n * 8, make_key(key_distance(key), slot))
            n += 1
    for i in range(n, entries):
        set_i64(pool + i * 8, INF_KEY)
    return n


@njit
def _follow_copy(space, build, pool, count, slot):
    """Make a slot the latest of its copies if one of them is in the pool; itself otherwise."""
    set_u32(build.first + slot * 4, slot)
    set_u32(build.last + slot * 4, slot)
    own = space.vectors + slot * space.row_bytes
    same = distance(space, own, row_scale(space, slot), slot)
    for i in range(count):
        key = get_i64(pool + i * 8)
        if key_distance(key) != same:
            continue
        other = space.vectors + key_slot(key) * space.row_bytes
        t = 0
        while t < space.row_bytes and get_u8(own + t) == get_u8(other + t):
            t += 1
        if t == space.row_bytes:
            first = get_u32(build.first + key_slot(key) * 4)
            set_u32(build.first + slot * 4, first)
            set_u32(build.last + first * 4, slot)
            return


@njit
def _relink(space, graph, build, owner, newcomer, dead, used):
    """Add a link; of a full row the heuristic chooses again, and what it drops dies at the newcomer's rank."""
    row, width = row_of(graph, owner, 0), graph.M0
    if get_u32(row + (width - 1) * 4) == SENTINEL:
        t = 0
        while get_u32(row + t * 4) != SENTINEL:
            t += 1
        set_u32(row + t * 4, newcomer)
        return used
    query, scale = space.vectors + owner * space.row_bytes, row_scale(space, owner)
    pool_clear(build.ranked, build.ranked_vectors)
    for t in range(width):
        link = get_u32(row + t * 4)
        pool_insert(build.ranked, build.ranked_vectors, make_key(distance(space, query, scale, link), link))
    pool_insert(build.ranked, build.ranked_vectors, make_key(distance(space, query, scale, newcomer), newcomer))
    left = _latest_only(build, build.ranked, width + 1, get_u32(build.first + owner * 4))
    count = select_nearest(space, build.ranked, left, width, build.chosen)
    death = get_u32(build.ranks + newcomer * 4)
    for t in range(width):
        link = get_u32(row + t * 4)
        kept = False
        for c in range(count):
            kept |= get_u32(build.chosen + c * 4) == link
        if not kept:
            dead[used, 0] = get_u32(build.ranks + owner * 4)
            dead[used, 1] = get_u32(build.ranks + link * 4)
            dead[used, 2] = 0
            dead[used, 3] = death
            used += 1
    for t in range(width):
        set_u32(row + t * 4, get_u32(build.chosen + t * 4) if t < count else SENTINEL)
    return used


class Round(NamedTuple):
    """The candidates of one row while its intervals are found."""

    slots: np.ndarray
    ranks: np.ndarray
    near: np.ndarray  # float32 distances, ascending
    since: np.ndarray  # the bound from which a candidate is chosen, -1: it is not
    turn: np.ndarray  # the last bound for which it was chosen
    hides: np.ndarray  # uint8 [i * count + j]: 0 unknown, 1 candidate i hides j, 2 it does not
    picks: np.ndarray
    before: np.ndarray


@njit
def _hides(space, held, count, i, j):
    """Whether candidate i is nearer to j than the row itself is."""
    known = held.hides[i * count + j]
    if known == 0:
        slot = held.slots[j]
        row = space.vectors + slot * space.row_bytes
        between = distance_within(space, row, row_scale(space, slot), held.slots[i], held.near[j])
        known = 1 if between < held.near[j] else 2
        held.hides[i * count + j] = known
    return known == 1


@njit
def _choose(space, held, count, bound, wanted):
    """The heuristic among the candidates ranked `bound` or higher; returns how many it picked."""
    n = 0
    for j in range(count):
        if held.ranks[j] < bound:
            continue
        hidden = False
        for t in range(n):
            if _hides(space, held, count, held.picks[t], j):
                hidden = True
                break
        if not hidden:
            held.picks[n] = j
            held.turn[j] = bound
            n += 1
            if n == wanted:
                break
    return n


@njit
def _intervals(space, held, count, rank, wanted, leap, edges, used):
    """Log every (neighbour, interval of the left bound) of a row."""
    held.since[:count] = -1
    held.turn[:count] = -1
    held.hides[: count * count] = 0
    bound, before = np.int64(0), 0
    while True:
        n = _choose(space, held, count, bound, wanted)
        for t in range(before):
            j = held.before[t]
            if held.turn[j] != bound:
                edges[used, 0] = rank
                edges[used, 1] = held.ranks[j]
                edges[used, 2] = held.since[j]
                edges[used, 3] = min(bound - 1, held.ranks[j])
                held.since[j] = -1
                used += 1
        if n == 0:
            return used
        least, most = held.ranks[held.picks[0]], np.int64(0)
        for t in range(n):
            j = held.picks[t]
            if held.since[j] < 0:
                held.since[j] = bound
            held.before[t] = j
            least, most = min(least, held.ranks[j]), max(most, held.ranks[j])
        before = n
        bound = (least if leap == MINIMUM else most) + 1


@njit
def insert_ranks(space, graph, work, build, start, stop, dead, edges, used):
    """Insert ranks start .. stop - 1 in order; returns the first that was not, when the logs are full.

    dead, edges: (room, 4) uint32 logs of owner, neighbour, first and last bound; used (2,) int64: how many they hold.
    dead must have room for M * (M0 + 1) more, edges for M * 8 * ef_vectors.
    """
    ef = build.ef_vectors * 8
    held = Round(
        np.empty(ef, np.int64),
        np.empty(ef, np.int64),
        np.empty(ef, np.float32),
        np.empty(ef, np.int64),
        np.empty(ef, np.int64),
        np.empty(ef * ef, np.uint8),
        np.empty(graph.M, np.int64),
        np.empty(graph.M, np.int64),
    )
    every = Filter(_SLOT, 0, 0)
    for rank in range(start, stop):
        if used[0] + graph.M * (graph.M0 + 1) > dead.shape[0] or used[1] + graph.M * ef > edges.shape[0]:
            return rank
        slot = get_u32(build.order + rank * 4)
        query, scale = space.vectors + slot * space.row_bytes, row_scale(space, slot)
        pool_clear(work.pool, build.ef_vectors)
        if rank > 0:
            epoch = next_epoch(build.state, work.visited, graph.capacity)
            _seed_ranks(space, build.order, work, query, scale, build.ef_vectors, epoch, np.int64(0), rank)
            walk(space, graph, work, epoch, 0, query, scale, build.ef_vectors, work.pool, ef, every)
        count = _latest_only(build, work.pool, ef, -1)
        for i in range(count):
            key = get_i64(work.pool + i * 8)
            held.slots[i], held.near[i] = key_slot(key), key_distance(key)
            held.ranks[i] = get_u32(build.ranks + key_slot(key) * 4)
        used[1] = _intervals(space, held, count, rank, graph.M, build.leap, edges, used[1])
        _follow_copy(space, build, work.pool, count, slot)
        n = select_nearest(space, work.pool, count, graph.M, build.chosen)
        row = row_of(graph, slot, 0)
        for t in range(n):
            set_u32(row + t * 4, get_u32(build.chosen + t * 4))
        for t in range(n):
            used[0] = _relink(space, graph, build, get_u32(row + t * 4), slot, dead, used[0])
    return stop
