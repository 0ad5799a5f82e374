"""Beam search that scores only slots a condition admits: ACORN (arXiv 2403.04871) and the labelled graphs.

`beam.walk` with another answer to which slots a row leads to. A slot is admitted by its bit, or by a label it shares
with the condition, before anything else is known of it: neither an entry nor a neighbour reaches the pool untested.
Behind links at `near` and beyond, slots that are not admitted are looked through: their own links are listed in their
place until `cap` slots are found. So `near` = the row's width is the walk of Filtered-DiskANN, 0 that of ACORN-1 and
M_beta that of ACORN-gamma.

Departure: ACORN looks through admitted slots as well; here only through the others, because an admitted one is in the
pool and is expanded when it is near.
"""

# ruff: noqa: ARG001 - the arguments of an overload are its signature

from __future__ import annotations

from typing import NamedTuple

from numba.extending import overload

from vicinal.kernels import njit
from vicinal.kernels.beam import Graph, graph_at, row_of, send_for, unvisited, walk
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.distance import distance, query_scale, space_at
from vicinal.kernels.exact import NO_LIMIT, drain, work_at
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.simd import (
    INF_KEY,
    SENTINEL,
    get_i64,
    get_u8,
    get_u32,
    key_slot,
    lowest_bit,
    make_key,
    prefetch_l2,
    set_u8,
    set_u32,
)

__all__ = ["ALL", "ROW_MAX", "Admission", "admits", "has_label", "label_range", "search_admitted"]

ALL = 0x7FFFFFFF  # as `near`: nothing is looked through
ROW_MAX = 255  # links of a row, and slots listed from it: half of the list of fresh slots each
_SLOT = 0x7FFFFFFF
_SAMPLES = 16  # entries taken evenly from a bitmap
_DOORS = 1024  # bytes from the listed slots to those looked through


class Admission(NamedTuple):
    """What a walk may meet: slots below limit whose bit is set, or with one of `asked` labels; without both, all.

    The labels of slot s are u32 codes[ends[s - 1] : ends[s]], ascending; with ends = 0 each slot has the one at its
    place. A slot's own labels can stand as `labels`.
    """

    limit: int
    allowed: int  # address of a set's words, or 0
    near: int
    cap: int
    codes: int
    ends: int
    labels: int  # u32, ascending
    asked: int


@njit
def _admission_at(block):
    """The Admission whose fields lie as int64 at an address."""
    return Admission(
        get_i64(block),
        get_i64(block + 8),
        get_i64(block + 16),
        get_i64(block + 24),
        get_i64(block + 32),
        get_i64(block + 40),
        get_i64(block + 48),
        get_i64(block + 56),
    )


@njit
def label_range(ends, slot):
    """Where a slot's labels begin and end among the codes."""
    if ends == 0:
        return slot, slot + 1
    return (get_i64(ends + (slot - 1) * 8) if slot > 0 else 0), get_i64(ends + slot * 8)


@njit
def has_label(labels, low, high, label):
    """Whether an ascending list of u32 has the label at places low .. high - 1."""
    stop = high
    while low < stop:
        middle = (low + stop) >> 1
        if get_u32(labels + middle * 4) < label:
            low = middle + 1
        else:
            stop = middle
    return low < high and get_u32(labels + low * 4) == label


@njit
def admits(wanted, slot):
    """Whether a slot satisfies the condition."""
    if slot >= wanted.limit:
        return False
    if wanted.allowed != 0:
        return has_bit(wanted.allowed, slot) != 0
    if wanted.asked == 0:
        return True
    low, high = label_range(wanted.ends, slot)
    for i in range(low, high):  # noqa: SIM110 - compiled code has no any()
        if has_label(wanted.labels, 0, wanted.asked, get_u32(wanted.codes + i * 4)):
            return True
    return False


@njit
def _through(graph, work, epoch, level, wanted, n, doors):
    """List admitted slots behind the ones looked through, up to the cap; returns how many are listed in all."""
    width = graph.M0 if level == 0 else graph.M
    cap = min(wanted.cap, ROW_MAX)
    for d in range(doors):
        if n >= cap:
            break
        door = get_u32(work.fresh + _DOORS + d * 4)
        if get_u8(work.visited + door) == epoch:
            continue
        set_u8(work.visited + door, epoch)
        row = row_of(graph, door, level)
        for t in range(width):
            link = get_u32(row + t * 4)
            if link == SENTINEL or n >= cap:
                break
            slot = link & _SLOT
            mark = work.visited + slot
            if slot < graph.capacity and get_u8(mark) != epoch and admits(wanted, slot):
                set_u8(mark, epoch)
                set_u32(work.fresh + n * 4, slot)
                n += 1
    return n


@njit
def _admitted(space, graph, work, epoch, owner, level, wanted):
    """As `unvisited`: admitted slots that the owner links to, and those behind its other links."""
    row = row_of(graph, owner, level)
    n, doors = 0, 0
    width = graph.M0 if level == 0 else graph.M
    for t in range(width):
        link = get_u32(row + t * 4)
        if link == SENTINEL:
            break
        slot = link & _SLOT
        mark = work.visited + slot
        if slot >= graph.capacity or get_u8(mark) == epoch:
            continue
        if admits(wanted, slot):
            set_u8(mark, epoch)
            set_u32(work.fresh + n * 4, slot)
            n += 1
        elif t >= wanted.near:
            prefetch_l2(row_of(graph, slot, level))
            set_u32(work.fresh + _DOORS + doors * 4, slot)
            doors += 1
    send_for(space, work.fresh, n)
    return _through(graph, work, epoch, level, wanted, n, doors) if doors > 0 else n


@overload(unvisited)
def _unvisited_admitted(space, graph, work, epoch, slot, level, wanted):
    if getattr(graph, "instance_class", None) is Graph and getattr(wanted, "instance_class", None) is Admission:
        return lambda space, graph, work, epoch, slot, level, wanted: _admitted(  # noqa: PLW0108
            space, graph, work, epoch, slot, level, wanted
        )
    return None


@njit
def _descend(space, graph, work, epoch, query, scale, entry, top, bottom, wanted):
    """Greedy search down to level bottom + 1 over admitted slots; returns the key of the nearest, or INF_KEY.

    While none was met, the way goes on from the entry.
    """
    best, nearest = entry, INF_KEY
    set_u8(work.visited + entry, epoch)
    if admits(wanted, entry):
        nearest = make_key(distance(space, query, scale, entry), entry)
    for level in range(top, bottom, -1):
        moved = True
        while moved:
            moved = False
            n = unvisited(space, graph, work, epoch, best, level, wanted)
            for t in range(n):
                slot = get_u32(work.fresh + t * 4)
                key = make_key(distance(space, query, scale, slot), slot)
                if key < nearest:
                    nearest, best, moved = key, slot, True
    return nearest


@njit
def _enter(space, work, epoch, query, scale, vectors, slot, wanted):
    """Put an admitted slot into the pool, once."""
    mark = work.visited + slot
    if get_u8(mark) != epoch and admits(wanted, slot):
        set_u8(mark, epoch)
        pool_insert(work.pool, vectors, make_key(distance(space, query, scale, slot), slot))


@njit
def _sample(space, work, epoch, query, scale, vectors, wanted):
    """Enter some slots of a bitmap, the first of each of so many equal parts."""
    words = (wanted.limit + 63) >> 6
    for i in range(_SAMPLES):
        for w in range(i * words // _SAMPLES, (i + 1) * words // _SAMPLES):
            word = get_i64(wanted.allowed + w * 8)
            if word != 0:
                _enter(space, work, epoch, query, scale, vectors, w * 64 + lowest_bit(word), wanted)
                break


@njit
def search_admitted(
    element, space_block, graph_block, capacity, work_block, epochs, wanted_block, level, entry, top, seeds, ef,
    slots, distances,
):  # fmt: skip
    """The nearest len(slots) admitted slots by a beam of width ef >= len(slots) at a level; returns how many.

    Blocks: addresses of a Space, a Graph, a Work and an Admission. epochs: two that no mark holds, for the levels
    above and for this one. The beam begins with the `seeds` (uint32), some slots of the bitmap, and where a greedy
    search from the entry on level `top` leads (entry -1: none). Every slot of the graph must be below the limit of the
    visited marks.
    """
    space, work = space_at(space_block, element), work_at(work_block)
    graph, wanted = graph_at(graph_block, capacity), _admission_at(wanted_block)
    query, vectors = work.query, (ef + 7) >> 3
    scale = query_scale(space, query)
    pool_clear(work.pool, vectors)
    epoch = epochs[1]
    if entry >= 0:
        key = _descend(space, graph, work, epochs[0], query, scale, entry, top, level, wanted)
        if key != INF_KEY:
            _enter(space, work, epoch, query, scale, vectors, key_slot(key), wanted)
    for i in range(seeds.shape[0]):
        _enter(space, work, epoch, query, scale, vectors, seeds[i], wanted)
    if wanted.allowed != 0:
        _sample(space, work, epoch, query, scale, vectors, wanted)
    walk(space, graph, work, epoch, level, query, scale, vectors, work.pool, ef, wanted)
    return drain(work.pool, ef, NO_LIMIT, slots, distances)
