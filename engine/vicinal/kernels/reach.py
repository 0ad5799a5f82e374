"""Which slots the entry point reaches on level 0, and linking those it does not.

Pruning keeps a link to every slot, yet two slots may end up linked to by each other alone. Mending is no part of the
paper: it searches such a slot as a query and links it from the nearest slot found that has room.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.beam import COPY, Filter, descend, row_of, walk
from vicinal.kernels.distance import distance, row_scale
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.insert import ENTRY, TOP, next_epoch
from vicinal.kernels.remove import REMOVED
from vicinal.kernels.simd import (
    SENTINEL,
    get_i64,
    get_u8,
    get_u32,
    key_slot,
    make_key,
    publish_u32,
    set_u8,
    set_u32,
)

__all__ = ["flood", "mend"]

_SLOT = 0x7FFFFFFF


@njit
def flood(graph, entry, marks, parents, queue):
    """Set marks[slot] = 1 for every slot that level-0 links lead to from the entry; returns how many are new.

    marks: (n,) uint8; parents: (n,) uint32, the slot each was reached from; queue: (n,) uint32 scratch. Links to slots
    beyond n are left aside.
    """
    marks[entry] = 1
    queue[0] = entry
    done, count = 0, 1
    while done < count:
        source = np.int64(queue[done])
        row = graph.links + source * graph.links_stride
        done += 1
        for t in range(graph.M0):
            link = get_u32(row + t * 4)
            if link == SENTINEL:
                break
            slot = link & _SLOT
            if slot < marks.shape[0] and marks[slot] == 0:
                marks[slot] = 1
                parents[slot] = source
                queue[count] = slot
                count += 1
    return count


@njit
def _place(graph, source, parents, room_only):
    """Position in a row for one more link: its end, or else the furthest link nothing was reached by; -1 for none."""
    row = row_of(graph, source, 0)
    if get_u32(row + (graph.M0 - 1) * 4) == SENTINEL:
        t = 0
        while get_u32(row + t * 4) != SENTINEL:
            t += 1
        return t
    if not room_only:
        for t in range(graph.M0 - 1, -1, -1):
            link = get_u32(row + t * 4)
            if link & COPY == 0 and parents[link] != source:
                return t
    return -1


@njit
def _source(graph, work, vectors, marks, parents):
    """The slot to link from and the position there: the nearest in the pool, with room if any has; else any slot."""
    for room_only in (True, False):
        for i in range(vectors * 8):
            source = key_slot(get_i64(work.pool + i * 8))
            if source == _SLOT:
                break
            if marks[source] != 0:
                t = _place(graph, source, parents, room_only)
                if t >= 0:
                    return source, t
    for source in range(marks.shape[0]):
        if marks[source] != 0:
            t = _place(graph, source, parents, False)
            if t >= 0 and get_u32(row_of(graph, source, 0)) & COPY == 0:
                return source, t
    return -1, -1


@njit
def mend(space, graph, work, builder, marks, parents, queue):
    """Make every slot below len(marks) reachable, removed ones aside; returns how many had to be linked.

    marks: (n,) uint8, parents, queue: (n,) uint32, all scratch. A link by which a slot was reached is never given up,
    so what is reached stays so.
    """
    entry, top = get_i64(builder.state + ENTRY * 8), get_i64(builder.state + TOP * 8)
    every, vectors, mended = Filter(_SLOT, 0, 0), builder.ef_vectors, 0
    if entry < 0:
        return mended
    marks[:] = 0
    parents[entry] = SENTINEL
    flood(graph, entry, marks, parents, queue)
    for slot in range(marks.shape[0]):
        if marks[slot] != 0 or get_u8(builder.levels + slot) == REMOVED:
            continue
        query = space.vectors + slot * space.row_bytes
        scale = row_scale(space, slot)
        start = descend(space, graph, query, scale, entry, top, 0)
        epoch = next_epoch(builder.state, work.visited, graph.capacity)
        pool_clear(work.pool, vectors)
        set_u8(work.visited + start, epoch)
        pool_insert(work.pool, vectors, make_key(distance(space, query, scale, start), start))
        walk(space, graph, work, epoch, 0, query, scale, vectors, work.pool, vectors * 8, every)
        source, t = _source(graph, work, vectors, marks, parents)
        if source >= 0:
            _relink(graph, builder, source, t, slot)
            parents[slot] = source
            flood(graph, slot, marks, parents, queue)
            mended += 1
    return mended


@njit
def _relink(graph, builder, source, t, slot):
    """Write a link, and count the one it replaces and the new one."""
    at = row_of(graph, source, 0) + t * 4
    old = get_u32(at)
    if old != SENTINEL:
        degree = builder.in_degrees + old * 4
        set_u32(degree, get_u32(degree) - 1)
    degree = builder.in_degrees + slot * 4
    set_u32(degree, get_u32(degree) + 1)
    publish_u32(at, slot)
