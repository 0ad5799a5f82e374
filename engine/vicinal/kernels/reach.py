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
from vicinal.kernels.simd import (
    SENTINEL,
    get_i64,
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
def flood(graph, entry, marks, queue):
    """Set marks[slot] = 1 for every slot that level-0 links lead to from the entry; returns how many are new.

    marks: (n,) uint8, queue: (n,) uint32 scratch; links to slots beyond them are left aside.
    """
    marks[entry] = 1
    queue[0] = entry
    done, count = 0, 1
    while done < count:
        row = graph.links + np.int64(queue[done]) * graph.links_stride
        done += 1
        for t in range(graph.M0):
            link = get_u32(row + t * 4)
            if link == SENTINEL:
                break
            slot = link & _SLOT
            if slot < marks.shape[0] and marks[slot] == 0:
                marks[slot] = 1
                queue[count] = slot
                count += 1
    return count


@njit
def _replaceable(graph, builder, row):
    """Position of the last link of a full row that leads to a slot others link to as well, or -1."""
    for t in range(graph.M0 - 1, -1, -1):
        link = get_u32(row + t * 4)
        if link & COPY == 0 and get_u32(builder.in_degrees + link * 4) > 1:
            return t
    return -1


@njit
def _link_from(graph, work, builder, slot, marks):
    """Link the slot from the nearest reached slot of the pool with room, else in place of a link others have."""
    for i in range(builder.ef_vectors * 8):
        source = key_slot(get_i64(work.pool + i * 8))
        if source == _SLOT:
            break
        if marks[source] == 0:
            continue
        row = row_of(graph, source, 0)
        if get_u32(row + (graph.M0 - 1) * 4) == SENTINEL:
            t = 0
            while get_u32(row + t * 4) != SENTINEL:
                t += 1
            publish_u32(row + t * 4, slot)
            return True
    for i in range(builder.ef_vectors * 8):
        source = key_slot(get_i64(work.pool + i * 8))
        if source == _SLOT:
            break
        if marks[source] == 0:
            continue
        row = row_of(graph, source, 0)
        t = _replaceable(graph, builder, row)
        if t >= 0:
            at = builder.in_degrees + get_u32(row + t * 4) * 4
            set_u32(at, get_u32(at) - 1)
            publish_u32(row + t * 4, slot)
            return True
    return False


@njit
def mend(space, graph, work, builder, marks, queue):
    """Make every slot below len(marks) reachable; returns how many had to be linked.

    marks: (n,) uint8, queue: (n,) uint32, both scratch.
    """
    entry, top = get_i64(builder.state + ENTRY * 8), get_i64(builder.state + TOP * 8)
    mended = 0
    for _ in range(4):  # a replaced link may strand another slot, so look again
        marks[:] = 0
        reached = flood(graph, entry, marks, queue)
        if reached == marks.shape[0]:
            break
        for slot in range(marks.shape[0]):
            if marks[slot] != 0:
                continue
            query = space.vectors + slot * space.dim * 4
            scale = row_scale(space, slot)
            start = descend(space, graph, query, scale, entry, top, 0)
            epoch = next_epoch(builder.state, work.visited, graph.capacity)
            pool_clear(work.pool, builder.ef_vectors)
            set_u8(work.visited + start, epoch)
            pool_insert(work.pool, builder.ef_vectors, make_key(distance(space, query, scale, start), start))
            vectors = builder.ef_vectors
            walk(space, graph, work, epoch, 0, query, scale, vectors, work.pool, vectors * 8, Filter(_SLOT, 0, 0))
            if _link_from(graph, work, builder, slot, marks):
                at = builder.in_degrees + slot * 4
                set_u32(at, get_u32(at) + 1)
                flood(graph, slot, marks, queue)
                mended += 1
    return mended
