"""Walking the graph: greedy descent and beam search (Malkov & Yashunin 2018, Algorithms 2 and 5).

Departures. The dynamic list W of Algorithm 2 is one sorted pool with an "expanded" flag in each key, so the nearest
candidate and the furthest result are read off it. With a set of
allowed slots there are two pools: candidates (any slot) and results (allowed ones), and only results bound the walk,
so dead and unwanted slots are routed through and never end it early. Links are u32 with `COPY` set where they lead
to an exact copy of a row (see `insert`): a search follows them, building does not.

Readers walk while one writer inserts: a row of links is complete before anything links to it, single links change
in one piece, and slots the reader's arrays do not reach are skipped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from vicinal.kernels import njit
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.distance import distance, distance_within, query_scale, space_at
from vicinal.kernels.exact import NO_LIMIT, drain, work_at
from vicinal.kernels.heap import pool_clear, pool_first_open, pool_insert
from vicinal.kernels.simd import (
    INF_KEY,
    SENTINEL,
    get_i64,
    get_u8,
    get_u32,
    key_distance,
    key_slot,
    make_key,
    popcount,
    prefetch,
    prefetch_l2,
    set_i64,
    set_u8,
    set_u32,
)

__all__ = [
    "COPY",
    "Filter",
    "Graph",
    "descend",
    "graph_at",
    "row_ahead",
    "row_of",
    "search",
    "send_for",
    "unvisited",
    "walk",
]

COPY = 0x80000000  # flag of a link that leads to an exact copy
_SLOT = 0x7FFFFFFF
_AHEAD = 768  # bytes of a row sent for early: the processor goes on by itself, and many rows are left half way


class Graph(NamedTuple):
    """Addresses and sizes of a graph's arrays (`index.graph`)."""

    links: int  # level 0: one row of u32 per slot, ended by SENTINEL unless full
    links_stride: int  # bytes per row
    M0: int
    upper: int  # levels 1..: one row per slot and level, a slot's rows one after another
    upper_stride: int
    M: int
    offsets: int  # u32 per slot: its first row in upper
    capacity: int  # slots that links and vectors both have room for


class Filter(NamedTuple):
    """What may be returned: slots below limit that are in the set at address `allowed` (0: all)."""

    limit: int
    allowed: int
    copies: int  # 1 to follow links to copies


@njit
def graph_at(block, capacity):
    """The Graph whose fields lie as int64 at an address, of less capacity."""
    return Graph(
        get_i64(block),
        get_i64(block + 8),
        get_i64(block + 16),
        get_i64(block + 24),
        get_i64(block + 32),
        get_i64(block + 40),
        get_i64(block + 48),
        capacity,
    )


@njit
def _is_wanted(wanted, slot):
    """Whether a slot may be returned."""
    return slot < wanted.limit and (wanted.allowed == 0 or has_bit(wanted.allowed, slot) != 0)


@njit
def row_of(graph, slot, level):
    """Address of a slot's row of links at a level."""
    if level == 0:
        return graph.links + slot * graph.links_stride
    return graph.upper + (get_u32(graph.offsets + slot * 4) + level - 1) * graph.upper_stride


@njit
def descend(space, graph, query, scale, entry, top, bottom):
    """Greedy search (ef = 1) from the entry at level `top` down to level `bottom` + 1; returns the nearest slot met."""
    best = entry
    nearest = make_key(distance(space, query, scale, best), 0)
    for level in range(top, bottom, -1):
        moved = True
        while moved:
            moved = False
            row = row_of(graph, best, level)
            for t in range(graph.M):
                slot = get_u32(row + t * 4)
                if slot == SENTINEL:
                    break
                if slot < graph.capacity:
                    key = make_key(distance(space, query, scale, slot), 0)
                    if key < nearest:
                        nearest, best, moved = key, slot, True
    return best


@njit
def _unvisited(space, graph, work, epoch, row, width, copies):
    """List the slots of a row that this search has not met, mark them, and send for their vectors.

    Marks and list are written without branches: whether a slot was visited is unpredictable.
    """
    n = 0
    for t in range(width):
        link = get_u32(row + t * 4)
        if link == SENTINEL:
            break
        slot = link & _SLOT
        if slot >= graph.capacity or (link != slot and copies == 0):
            continue
        mark = work.visited + slot
        new = get_u8(mark) != epoch
        set_u8(mark, epoch)
        set_u32(work.fresh + n * 4, slot)
        n += int(new)
    send_for(space, work.fresh, n)
    return n


@njit
def send_for(space, fresh, count):
    """Send for the vectors of the first few of the slots listed."""
    lines = min(space.row_bytes, _AHEAD)
    for t in range(min(count, 4)):
        vector = space.vectors + get_u32(fresh + t * 4) * space.row_bytes
        for line in range(0, lines, 64):
            prefetch(vector + line)


def unvisited(space, graph, work, epoch, slot, level, wanted):
    """List in work.fresh the neighbours of a slot that this search has not met, mark them, and return how many.

    A kind of graph other than `Graph` brings its own, and its own `row_ahead`, by `numba.extending.overload`; so does
    a kind of `wanted` other than `Filter`.
    """
    raise NotImplementedError("compiled code only")


def row_ahead(graph, slot, level):
    """Where the links of a slot begin that may be expanded soon."""
    raise NotImplementedError("compiled code only")


@overload(unvisited)
def _unvisited_links(space, graph, work, epoch, slot, level, wanted):  # noqa: ARG001 - the signature all kinds share
    if getattr(graph, "instance_class", None) is Graph and getattr(wanted, "instance_class", None) is Filter:
        return lambda space, graph, work, epoch, slot, level, wanted: _unvisited(
            space, graph, work, epoch, row_of(graph, slot, level), graph.M0 if level == 0 else graph.M, wanted.copies
        )
    return None


@overload(row_ahead)
def _row_of_links(graph, slot, level):  # noqa: ARG001
    if getattr(graph, "instance_class", None) is Graph:
        return lambda graph, slot, level: row_of(graph, slot, level)  # noqa: PLW0108 - numba compiles its source
    return None


@njit
def walk(space, graph, work, epoch, level, query, scale, vectors, results, ef, wanted):
    """Beam search at one level from the keys in the pool, which are marked visited.

    vectors: the pool's size in use. results == work.pool: one pool serves both. ef: how many results bound the walk.
    Returns the least key that fell out of a full pool of candidates unexpanded (INF_KEY with one pool): if it is below
    the final bound, the pool was too small.
    """
    pool, fresh, lost = work.pool, work.fresh, INF_KEY
    apart = results != pool
    end = results + ef * 8 - 8
    result_vectors = (ef + 7) >> 3
    bytes_ = space.row_bytes
    while True:
        first = pool_first_open(pool, vectors)
        if first >= vectors * 8:
            break
        key = get_i64(pool + first * 8)
        bound = get_i64(end)
        if key > bound:
            break
        limit = key_distance(bound)
        set_i64(pool + first * 8, key | 1)
        n = unvisited(space, graph, work, epoch, key_slot(key), level, wanted)
        for t in range(n):
            if t + 4 < n:
                ahead = space.vectors + get_u32(fresh + (t + 4) * 4) * bytes_
                for line in range(0, min(bytes_, _AHEAD), 64):
                    prefetch(ahead + line)
            slot = get_u32(fresh + t * 4)
            key = make_key(distance_within(space, query, scale, slot, limit), slot)
            if key < bound:
                prefetch_l2(row_ahead(graph, slot, level))
                if apart:
                    last = get_i64(pool + vectors * 64 - 8)
                    if last & 1 == 0 or key > last:
                        lost = min(lost, max(key, last & ~1))
                    if _is_wanted(wanted, slot):
                        pool_insert(results, result_vectors, key)
                pool_insert(pool, vectors, key)
                bound = get_i64(end)
                limit = key_distance(bound)
    return lost


@njit
def _widened(ef, room, wanted, slots):
    """Size of the candidates' pool: as much larger than ef as allowed slots are rare (sampled), and some for luck."""
    share = 1.0
    if wanted.allowed != 0:
        words = (slots + 63) >> 6
        step = max(words >> 8, 1)
        ones, seen = 0, 0
        for w in range(0, words, step):
            ones += popcount(get_i64(wanted.allowed + w * 8))
            seen += 64
        share = max(ones, 1) / seen
    size = (ef + 3 * np.sqrt(ef * max(1 - share, 0.05))) / share
    return min(room, (int(size) >> 3) + 2)


@njit
def _seed(space, work, query, scale, entry, start, vectors, epoch):
    """Begin a beam with the nearest slot of the levels above, and the entry point, from which all can be reached."""
    pool_clear(work.pool, vectors)
    for slot in (start, entry):
        if get_u8(work.visited + slot) != epoch:
            set_u8(work.visited + slot, epoch)
            pool_insert(work.pool, vectors, make_key(distance(space, query, scale, slot), slot))


@njit
def search(
    element,
    space_block,
    graph_block,
    capacity,
    work_block,
    epoch,
    entry,
    top,
    ef,
    limit,
    allowed,
    apart,
    slots,
    distances,
):
    """The nearest len(slots) slots of the graph by beam search of width ef >= len(slots); returns how many.

    element: as in Space. Blocks: addresses of a Space, a Graph and a Work; limit, allowed: as in Filter. apart = 0
    walks with one pool, which suits when nearly every slot is below the limit and none is barred: it answers -1 when
    too many of the nearest are not, and the caller asks again with apart = 1. That answers 0 when even the largest
    pool of candidates was too small, so that what it found would be a matter of luck.
    """
    space, work = space_at(space_block, element), work_at(work_block)
    graph, wanted = graph_at(graph_block, capacity), Filter(limit, allowed, 1)
    query, result_vectors = work.query, (ef + 7) >> 3
    scale = query_scale(space, query)
    start = descend(space, graph, query, scale, entry, top, 0)
    if apart == 0:
        _seed(space, work, query, scale, entry, start, result_vectors, epoch)
        walk(space, graph, work, epoch, 0, query, scale, result_vectors, work.pool, ef, wanted)
        return drain(work.pool, ef, limit, slots, distances)
    vectors = _widened(ef, work.pool_vectors, wanted, min(capacity, limit))
    while True:
        _seed(space, work, query, scale, entry, start, vectors, epoch)
        pool_clear(work.results, result_vectors)
        for i in range(2):
            key = get_i64(work.pool + i * 8)
            if key != INF_KEY and _is_wanted(wanted, key_slot(key)):
                pool_insert(work.results, result_vectors, key)
        lost = walk(space, graph, work, epoch, 0, query, scale, vectors, work.results, ef, wanted)
        if lost >= get_i64(work.results + ef * 8 - 8):
            return drain(work.results, ef, NO_LIMIT, slots, distances)
        if vectors == work.pool_vectors:
            return 0
        vectors = min(vectors * 8, work.pool_vectors)
        for slot in range(capacity):
            set_u8(work.visited + slot, 0)
