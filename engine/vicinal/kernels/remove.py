"""Taking slots out of the graph on floats: what linked to one is linked to what that one linked to.

The same operation as `relink` on codes. It works on arrays that no reader has seen, so nothing is ordered: a slot that
was removed ends without a link from or to it, marked `REMOVED` in the levels.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.beam import COPY, row_of
from vicinal.kernels.distance import distance, row_scale
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.insert import ENTRY, LEVEL_MAX, TOP, mix, next_epoch, select_nearest
from vicinal.kernels.simd import (
    SENTINEL,
    get_i64,
    get_u8,
    get_u32,
    key_slot,
    make_key,
    set_i64,
    set_u8,
    set_u32,
)

__all__ = ["REMOVED", "remove"]

REMOVED = 255  # level of a slot that was taken out; a u8
_SLOT = 0x7FFFFFFF
_ROUTES = 128  # removed slots whose links are candidates of one row


@njit
def _count(row, width):
    for t in range(width):
        if get_u32(row + t * 4) == SENTINEL:
            return t
    return width


@njit
def _clear(row, start, width):
    for t in range(start, width):
        set_u32(row + t * 4, SENTINEL)


@njit
def _find_parents(graph, parents):
    """parents[copy] = the slot it hangs under, SENTINEL for others."""
    for slot in range(parents.shape[0]):
        parents[slot] = SENTINEL
    for slot in range(parents.shape[0]):
        row = row_of(graph, slot, 0)
        for t in range(graph.M0):
            link = get_u32(row + t * 4)
            if link == SENTINEL:
                break
            if link & COPY != 0:
                parents[link & _SLOT] = slot


@njit
def _first_below(graph, slot):
    """The copy of least number that hangs directly under a slot, or -1."""
    least = np.int64(-1)
    row = row_of(graph, slot, 0)
    for t in range(graph.M0):
        link = get_u32(row + t * 4)
        if link == SENTINEL:
            break
        if link & COPY != 0 and (least < 0 or (link & _SLOT) < least):
            least = np.int64(link & _SLOT)
    return least


@njit
def _hang_below(graph, parents, node, copy):
    """Hang a copy, with what hangs under it, in the tree under another one of smaller number."""
    depth = 0
    while True:
        row = row_of(graph, node, 0)
        count = _count(row, graph.M0)
        if count < graph.M0:
            set_u32(row + count * 4, copy | COPY)
            parents[copy] = node
            return
        depth += 1
        at = mix(copy, depth) % graph.M0
        other = np.int64(get_u32(row + at * 4) & _SLOT)
        if other < copy:
            node = other
        else:  # numbers ascend downwards
            set_u32(row + at * 4, copy | COPY)
            parents[copy] = node
            node, copy = copy, other


@njit
def _hang_others(graph, parents, slot, first):
    """Hang the copies under `slot`, but for `first`, under that one."""
    row = row_of(graph, slot, 0)
    for t in range(graph.M0):
        link = get_u32(row + t * 4)
        if link == SENTINEL:
            break
        if link & COPY != 0 and (link & _SLOT) != first:
            _hang_below(graph, parents, first, np.int64(link & _SLOT))


@njit
def _replace_copy(graph, parents, slot):
    """Take a copy out of its tree: the first of those under it takes its place."""
    parent = np.int64(parents[slot])
    row = row_of(graph, parent, 0)
    count = _count(row, graph.M0)
    at = 0
    while get_u32(row + at * 4) != slot | COPY:
        at += 1
    first = _first_below(graph, slot)
    if first < 0:
        set_u32(row + at * 4, get_u32(row + (count - 1) * 4))
        set_u32(row + (count - 1) * 4, SENTINEL)
        return
    set_u32(row + at * 4, first | COPY)
    parents[first] = parent
    _hang_others(graph, parents, slot, first)


@njit
def _replace_owner(graph, parents, slot):
    """Let a slot's first copy stand for it, with its links; returns that copy, or -1."""
    first = _first_below(graph, slot)
    if first < 0:
        return first
    below = _first_below(graph, first)
    if below >= 0:
        _hang_others(graph, parents, first, below)
    own, row = row_of(graph, slot, 0), row_of(graph, first, 0)
    n = 0
    for t in range(graph.M0):
        link = get_u32(own + t * 4)
        if link != SENTINEL and link & COPY == 0:
            set_u32(row + n * 4, link)
            n += 1
    if below >= 0:
        set_u32(row + n * 4, below | COPY)
        parents[below] = first
        n += 1
    _clear(row, n, graph.M0)
    parents[first] = SENTINEL
    return first


@njit
def _offer(space, work, vectors, query, scale, slot, epoch):
    """Put a slot among the candidates unless it is there."""
    if get_u8(work.visited + slot) != epoch:
        set_u8(work.visited + slot, epoch)
        pool_insert(work.pool, vectors, make_key(distance(space, query, scale, slot), slot))


@njit
def _gather(space, graph, work, vectors, dead, heirs, slot, level, epoch, routes):
    """Fill the pool with the links of a row, heirs of removed slots, and what other removed ones linked to.

    Gives the flagged link to the row's first copy (SENTINEL: none).
    """
    query = space.vectors + slot * space.row_bytes
    scale = row_scale(space, slot)
    width = graph.M0 if level == 0 else graph.M
    set_u8(work.visited + slot, epoch)
    pool_clear(work.pool, vectors)
    copy = SENTINEL
    at, m, node = -1, 0, slot
    while True:
        row = row_of(graph, node, level)
        for t in range(width):
            link = get_u32(row + t * 4)
            if link == SENTINEL:
                break
            if link & COPY != 0:
                if node == slot:
                    copy = link
                continue
            if dead[link] == 0:
                _offer(space, work, vectors, query, scale, link, epoch)
            elif level == 0 and heirs[link] != SENTINEL:
                _offer(space, work, vectors, query, scale, heirs[link], epoch)
            elif m < _ROUTES and get_u8(work.visited + link) != epoch:
                set_u8(work.visited + link, epoch)
                routes[m] = link
                m += 1
        at += 1
        if at >= m:
            return copy
        node = np.int64(routes[at])


@njit
def _relink(space, graph, work, builder, vectors, dead, heirs, slot, level, routes):
    """Choose a row's links again; the nearest of the others fill it up to half of M."""
    epoch = next_epoch(builder.state, work.visited, graph.capacity)
    copy = _gather(space, graph, work, vectors, dead, heirs, slot, level, epoch, routes)
    width = graph.M0 if level == 0 else graph.M
    row = row_of(graph, slot, level)
    room = width - int(copy != SENTINEL)
    count = select_nearest(space, work.pool, vectors * 8, room, builder.chosen)
    for i in range(vectors * 8):
        other = key_slot(get_i64(work.pool + i * 8))
        if other == _SLOT or count >= graph.M >> 1:
            break
        fresh = True
        for t in range(count):
            fresh &= get_u32(builder.chosen + t * 4) != other
        if fresh:
            set_u32(builder.chosen + count * 4, other)
            count += 1
    for t in range(count):
        set_u32(row + t * 4, get_u32(builder.chosen + t * 4))
    if copy != SENTINEL:
        set_u32(row + count * 4, copy)
        count += 1
    _clear(row, count, width)


@njit
def _has_dead(graph, dead, slot, level):
    row = row_of(graph, slot, level)
    for t in range(graph.M0 if level == 0 else graph.M):
        link = get_u32(row + t * 4)
        if link == SENTINEL:
            break
        if link & COPY == 0 and dead[link] != 0:
            return True
    return False


@njit
def _settle(graph, builder, dead, parents, gone):
    """Clear the rows of removed slots, count links anew and choose the entry: the first slot of the highest level."""
    for i in range(gone.shape[0]):
        slot = gone[i]
        for level in range(get_u8(builder.levels + slot) + 1):
            _clear(row_of(graph, slot, level), 0, graph.M0 if level == 0 else graph.M)
        set_u8(builder.levels + slot, REMOVED)
    top, entry = -1, -1
    for slot in range(dead.shape[0]):
        set_u32(builder.in_degrees + slot * 4, 0)
        level = get_u8(builder.levels + slot)
        if level <= LEVEL_MAX and level > top and parents[slot] == SENTINEL:
            top, entry = level, slot
    for slot in range(dead.shape[0]):
        row = row_of(graph, slot, 0)
        for t in range(graph.M0):
            link = get_u32(row + t * 4)
            if link == SENTINEL:
                break
            if link & COPY == 0:
                set_u32(builder.in_degrees + link * 4, get_u32(builder.in_degrees + link * 4) + 1)
    old = get_i64(builder.state + ENTRY * 8)
    if old < 0 or dead[old] != 0 or entry < 0:
        set_i64(builder.state + ENTRY * 8, entry)
        set_i64(builder.state + TOP * 8, max(top, 0))


@njit
def remove(space, graph, work, builder, vectors, gone, dead, heirs, parents):
    """Take slots out of a graph of n slots.

    gone: (m,) int64, the largest first, none removed before; dead: (n,) uint8, 1 for these; heirs: (n,) uint32, filled
    with SENTINEL; parents: (n,) uint32, scratch; vectors: size of the pool of candidates, in vectors of keys.
    """
    _find_parents(graph, parents)
    for i in range(gone.shape[0]):
        slot = gone[i]
        if parents[slot] != SENTINEL:
            _replace_copy(graph, parents, slot)
        else:
            first = _replace_owner(graph, parents, slot)
            if first >= 0:
                heirs[slot] = first
    routes = np.empty(_ROUTES, np.uint32)
    for level in range(get_i64(builder.state + TOP * 8), -1, -1):
        for slot in range(dead.shape[0]):
            own = get_u8(builder.levels + slot)
            if own < level or own > LEVEL_MAX or dead[slot] != 0 or (level == 0 and parents[slot] != SENTINEL):
                continue
            if _has_dead(graph, dead, slot, level):
                _relink(space, graph, work, builder, vectors, dead, heirs, slot, level, routes)
    _settle(graph, builder, dead, parents, gone)
