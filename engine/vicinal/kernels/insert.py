"""Inserting slots into the graph (Malkov & Yashunin 2018, Algorithms 1, 3 and 4).

Departures:
* A new slot's rows are complete on every level before the first link to it is written, and links to it appear
  on level 0 first: readers may walk meanwhile.
* A level comes from a hash of the slot (`draw_levels`), so a graph does not depend on how its slots were batched.
* An exact copy of a stored row takes no part in the graph over distinct rows. It hangs in a tree under the row it
  copies: the row has one link flagged `COPY` to its first copy, each copy up to M0 such links to further ones; a new
  one goes down from the first copy, choosing by hash, to the first with room. So a thousand copies neither fill
  beams and rows of the build nor become a sink, and each is reached as long as its original is.
* A full row that is pruned keeps links to slots that nothing else on that level links to (`in_degrees`), the
  nearest first, so that pruning strands no slot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.beam import COPY, Filter, descend, row_of, walk
from vicinal.kernels.distance import distance, distance_within, row_scale
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.simd import (
    SENTINEL,
    get_i64,
    get_u8,
    get_u32,
    key_distance,
    key_slot,
    make_key,
    prefetch_l2,
    publish_fence,
    publish_u32,
    set_i64,
    set_u8,
    set_u32,
)

__all__ = [
    "ENTRY",
    "EPOCH",
    "LEVEL_MAX",
    "STATE",
    "TOP",
    "Builder",
    "draw_levels",
    "insert",
    "mix",
    "next_epoch",
    "reopen",
    "select_nearest",
]

LEVEL_MAX = 30
ENTRY, TOP, EPOCH = 0, 1, 2  # positions in the builder's state
STATE = 3
_SLOT = 0x7FFFFFFF


class Builder(NamedTuple):
    """Addresses of what only the writer uses."""

    state: int  # STATE int64: entry point (-1: none), top level, epoch of visited
    levels: int  # u8 per slot
    in_degrees: int  # u32 per slot: links on level 0 that lead to it
    ef_vectors: int  # ef_construction / 8, rounded up
    chosen: int  # u32 list: selected neighbours
    ranked: int  # a small pool: the links of a row by distance
    ranked_vectors: int


@njit
def mix(slot, seed):
    """A 64-bit hash (splitmix64's finaliser), as a non-negative int64."""
    z = np.uint64(slot) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(1))


@njit
def draw_levels(start, stop, M, seed, out):
    """Write the level of slots start .. stop - 1 to the uint8 array out: floor(-ln(u) / ln(M)), u from the hash."""
    factor = 1.0 / np.log(M)
    for slot in range(start, stop):
        u = (mix(slot, seed) + 1) / 9223372036854775808.0
        out[slot - start] = min(int(-np.log(u) * factor), LEVEL_MAX)


@njit
def next_epoch(state, visited, capacity):
    """A fresh epoch for the table of visited slots, which is wiped when the epochs are used up."""
    epoch = get_i64(state + EPOCH * 8) + 1
    if epoch > 255:
        for i in range(capacity):
            set_u8(visited + i, 0)
        epoch = 1
    set_i64(state + EPOCH * 8, epoch)
    return epoch


@njit
def reopen(pool, vectors, visited, epoch):
    """Make the nearest of one level the entry points of the next: flags cleared, visited marked."""
    for i in range(vectors * 8):
        key = get_i64(pool + i * 8)
        slot = key_slot(key)
        if slot == _SLOT:
            break
        set_i64(pool + i * 8, key & ~1)
        set_u8(visited + slot, epoch)


@njit
def select_nearest(space, ranked, count, wanted, chosen):
    """Algorithm 4: of `count` keys, ascending, take those nearer to the base than to all taken before.

    Writes up to `wanted` slots to chosen; returns how many. A tie is taken.
    """
    n = 0
    for i in range(count):
        key = get_i64(ranked + i * 8)
        slot = key_slot(key)
        if slot == _SLOT or n == wanted:
            break
        if i + 1 < count:
            ahead = space.vectors + key_slot(get_i64(ranked + (i + 1) * 8)) * space.row_bytes
            for line in range(0, min(space.row_bytes, 512), 64):
                prefetch_l2(ahead + line)
        row = space.vectors + slot * space.row_bytes
        scale = row_scale(space, slot)
        limit = key_distance(key)
        taken = True
        for t in range(n):
            if distance_within(space, row, scale, get_u32(chosen + t * 4), limit) < limit:
                taken = False
                break
        if taken:
            set_u32(chosen + n * 4, slot)
            n += 1
    return n


@njit
def _count(row, width):
    """How many links a row holds."""
    for t in range(width):
        if get_u32(row + t * 4) == SENTINEL:
            return t
    return width


@njit
def _add_degree(builder, slot, change):
    at = builder.in_degrees + slot * 4
    set_u32(at, get_u32(at) + change)


@njit
def _prune(space, graph, builder, row, owner, level, newcomer, spare):
    """Choose again among the links of a full row and one more; the row is rewritten link by link.

    spare: a slot that may be left without a link on level 0 (the newcomer, unless this is its last chance), or -1.
    """
    width = graph.M0 if level == 0 else graph.M
    query = space.vectors + owner * space.row_bytes
    scale = row_scale(space, owner)
    pool_clear(builder.ranked, builder.ranked_vectors)
    copy = SENTINEL
    for t in range(width):
        link = get_u32(row + t * 4)
        if link & COPY != 0:
            copy = link
        else:
            pool_insert(builder.ranked, builder.ranked_vectors, make_key(distance(space, query, scale, link), link))
    key = make_key(distance(space, query, scale, newcomer), newcomer)
    pool_insert(builder.ranked, builder.ranked_vectors, key)
    room = width - int(copy != SENTINEL)
    count = select_nearest(space, builder.ranked, width + 1, room, builder.chosen)
    if level == 0:
        count = _keep_only_links(builder, width + 1, room, count, spare)
    for t in range(count):
        publish_u32(row + t * 4, get_u32(builder.chosen + t * 4))
    if copy != SENTINEL:
        publish_u32(row + count * 4, copy)
        count += 1
    for t in range(count, width):
        publish_u32(row + t * 4, SENTINEL)


@njit
def _keep_only_links(builder, ranked, room, count, spare):
    """Add back rejected links to slots that nothing else links to, but for `spare`, and settle the in-degrees."""
    taken = 0
    for i in range(ranked):
        key = get_i64(builder.ranked + i * 8)
        slot = key_slot(key)
        if slot == _SLOT:
            break
        if taken < count and get_u32(builder.chosen + taken * 4) == slot:
            taken += 1
            continue
        if slot == spare or count == room or get_u32(builder.in_degrees + slot * 4) > 1:
            _add_degree(builder, slot, -1)
        else:
            for t in range(count, taken, -1):
                set_u32(builder.chosen + t * 4, get_u32(builder.chosen + (t - 1) * 4))
            set_u32(builder.chosen + taken * 4, slot)
            taken += 1
            count += 1
    return count


@njit
def _link_back(space, graph, builder, slot, level):
    """Link every neighbour of a new slot to it, the furthest first."""
    own = row_of(graph, slot, level)
    width = graph.M0 if level == 0 else graph.M
    for t in range(_count(own, graph.M) - 1, -1, -1):
        neighbour = get_u32(own + t * 4)
        if level == 0:
            _add_degree(builder, slot, 1)
        row = row_of(graph, neighbour, level)
        count = _count(row, width)
        if count < width:
            publish_u32(row + count * 4, slot)
        else:
            spare = -1 if t == 0 else slot  # the nearest comes last and must keep a link nobody else has
            _prune(space, graph, builder, row, neighbour, level, slot, spare)


@njit
def _original(space, pool, vectors, slot):
    """The slot in the pool whose row equals this one bit for bit, or -1: its distance equals the row's own."""
    size = space.row_bytes
    own = space.vectors + slot * size
    same = distance(space, own, row_scale(space, slot), slot)
    for i in range(vectors * 8):
        key = get_i64(pool + i * 8)
        other = key_slot(key)
        if other == _SLOT:
            break
        if key_distance(key) == same:
            t, row = 0, space.vectors + other * size
            while t + 4 <= size and get_u32(own + t) == get_u32(row + t):
                t += 4
            while t < size and get_u8(own + t) == get_u8(row + t):
                t += 1
            if t == size:
                return other
        elif space.metric == 0 and key_distance(key) > same:
            break
    return -1


@njit
def _first_copy(row, width):
    """Position of a row's link to a copy, or -1."""
    for t in range(width):
        link = get_u32(row + t * 4)
        if link != SENTINEL and link & COPY != 0:
            return t
    return -1


@njit
def _hang(graph, builder, slot, original):
    """Hang a copy into the tree under its original, on level 0."""
    set_u8(builder.levels + slot, 0)
    row = row_of(graph, original, 0)
    at = _first_copy(row, graph.M0)
    if at < 0:
        at = _count(row, graph.M0)
        if at == graph.M0:  # the furthest link gives way, or the one before that others do not need
            at -= 1
            while at > 0 and get_u32(builder.in_degrees + get_u32(row + at * 4) * 4) <= 1:
                at -= 1
            _add_degree(builder, get_u32(row + at * 4), -1)
        publish_fence()
        publish_u32(row + at * 4, slot | COPY)
        return
    depth = 0
    while True:
        row = row_of(graph, get_u32(row + at * 4) & _SLOT, 0)
        count = _count(row, graph.M0)
        if count < graph.M0:
            publish_fence()
            publish_u32(row + count * 4, slot | COPY)
            return
        depth += 1
        at = mix(slot, depth) % graph.M0


@njit
def _forward(space, graph, work, builder, slot, level, entry, top):
    """Search the slot's neighbours on every level and write its own rows; returns its original, or -1."""
    query = space.vectors + slot * space.row_bytes
    scale = row_scale(space, slot)
    nearest = descend(space, graph, query, scale, entry, top, min(level, top))
    pool_clear(work.pool, builder.ef_vectors)
    key = make_key(distance(space, query, scale, nearest), nearest)
    pool_insert(work.pool, builder.ef_vectors, key)
    every = Filter(_SLOT, 0, 0)
    for lc in range(min(level, top), -1, -1):
        epoch = next_epoch(builder.state, work.visited, graph.capacity)
        reopen(work.pool, builder.ef_vectors, work.visited, epoch)
        walk(space, graph, work, epoch, lc, query, scale, builder.ef_vectors, work.pool, builder.ef_vectors * 8, every)
        if lc == 0:
            original = _original(space, work.pool, builder.ef_vectors, slot)
            if original >= 0:
                return original
        count = select_nearest(space, work.pool, builder.ef_vectors * 8, graph.M, builder.chosen)
        row = row_of(graph, slot, lc)
        for t in range(count):
            neighbour = get_u32(builder.chosen + t * 4)
            publish_u32(row + t * 4, neighbour)
            if lc == 0:
                _add_degree(builder, neighbour, 1)
    return -1


@njit
def insert(space, graph, work, builder, start, stop):
    """Insert slots start .. stop - 1, whose levels are drawn and whose rows are empty, in order."""
    for slot in range(start, stop):
        level = get_u8(builder.levels + slot)
        entry, top = get_i64(builder.state + ENTRY * 8), get_i64(builder.state + TOP * 8)
        if entry >= 0:
            original = _forward(space, graph, work, builder, slot, level, entry, top)
            if original >= 0:
                for lc in range(1, min(level, top) + 1):
                    row = row_of(graph, slot, lc)
                    for t in range(graph.M):
                        set_u32(row + t * 4, SENTINEL)
                _hang(graph, builder, slot, original)
                continue
            publish_fence()
            for lc in range(min(level, top) + 1):
                _link_back(space, graph, builder, slot, lc)
        if entry < 0 or level > top:
            set_i64(builder.state + ENTRY * 8, slot)
            set_i64(builder.state + TOP * 8, level)
