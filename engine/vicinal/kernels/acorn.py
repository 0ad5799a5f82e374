"""Inserting slots into a dense HNSW whose links keep what a filter may need: ACORN-gamma (arXiv 2403.04871, section 5).

A slot keeps M * gamma links on the levels above and, on level 0, its `near` (M_beta) nearest candidates and of the
others those that no candidate kept beyond `near` links to. Attributes are never looked at: a link is dropped only
where a search that looks through links finds it again.

Departures: the candidates of an insertion are those of a beam as wide as the pool, not of one without a bound. The way
down to them follows whole rows: the M nearest links, which nothing has pruned, seldom leave a cluster, and rows that
descend into a wrong one get their links there. A full row is cut to its budget, which leaves room for the next links,
so that not every link costs a choice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.beam import Filter, Graph, descend, row_of, walk
from vicinal.kernels.distance import distance, row_scale
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.insert import ENTRY, TOP, next_epoch, reopen
from vicinal.kernels.simd import SENTINEL, get_i64, get_u8, get_u32, key_slot, make_key, set_i64, set_u32

__all__ = ["Density", "insert_dense"]

_SLOT = 0x7FFFFFFF


class Density(NamedTuple):
    """How many links slots keep, and addresses of what only the building uses."""

    M: int  # links of a row that building follows
    near: int  # links of level 0 that are kept untested
    budget: int  # links of level 0 after a choice
    upper: int  # links of the levels above after a choice
    pool_vectors: int  # candidates / 8
    ranked: int  # a pool for a full row and one more
    ranked_vectors: int
    chosen: int  # u32 list
    state: int  # as Builder.state
    levels: int  # u8 per slot


@njit
def _compress(graph, density, keys, entries, marks):
    """Choose links of level 0 from keys, nearest first, to density.chosen; returns how many."""
    n, stamp = 0, marks[-1] + 1
    marks[-1] = stamp
    for i in range(entries):
        slot = key_slot(get_i64(keys + i * 8))
        if slot == _SLOT or n == density.budget:
            break
        if i >= density.near:
            if marks[slot] == stamp:
                continue
            row = row_of(graph, slot, 0)
            for t in range(graph.M0):
                link = get_u32(row + t * 4)
                if link == SENTINEL:
                    break
                marks[link] = stamp
        set_u32(density.chosen + n * 4, slot)
        n += 1
    return n


@njit
def _choose(graph, density, keys, entries, level, marks):
    """Choose links at any level; returns how many. Above level 0 the nearest are taken."""
    if level == 0:
        return _compress(graph, density, keys, entries, marks)
    n = 0
    while n < min(entries, density.upper) and key_slot(get_i64(keys + n * 8)) != _SLOT:
        set_u32(density.chosen + n * 4, key_slot(get_i64(keys + n * 8)))
        n += 1
    return n


@njit
def _link_back(space, graph, density, slot, neighbour, level, marks):
    """Link a neighbour to a new slot; a full row is chosen again."""
    row, width = row_of(graph, neighbour, level), graph.M0 if level == 0 else graph.M
    count = 0
    while count < width and get_u32(row + count * 4) != SENTINEL:
        count += 1
    if count < width:
        set_u32(row + count * 4, slot)
        return
    query, scale = space.vectors + neighbour * space.row_bytes, row_scale(space, neighbour)
    pool_clear(density.ranked, density.ranked_vectors)
    pool_insert(density.ranked, density.ranked_vectors, make_key(distance(space, query, scale, slot), slot))
    for t in range(width):
        link = get_u32(row + t * 4)
        pool_insert(density.ranked, density.ranked_vectors, make_key(distance(space, query, scale, link), link))
    count = _choose(graph, density, density.ranked, width + 1, level, marks)
    for t in range(width):
        set_u32(row + t * 4, get_u32(density.chosen + t * 4) if t < count else SENTINEL)


@njit
def insert_dense(space, graph, work, density, order, start, stop, marks):
    """Insert slots order[start .. stop - 1], whose levels are drawn and whose rows are empty.

    marks (n + 1,) int64: zeros before the first call.
    """
    thin = Graph(
        graph.links, graph.links_stride, density.M, graph.upper, graph.upper_stride, density.M, graph.offsets,
        graph.capacity,
    )  # fmt: skip
    every, entries = Filter(_SLOT, 0, 0), density.pool_vectors * 8
    own = np.empty(512, np.int64)
    for i in range(start, stop):
        slot = order[i]
        level = get_u8(density.levels + slot)
        entry, top = get_i64(density.state + ENTRY * 8), get_i64(density.state + TOP * 8)
        if entry >= 0:
            query, scale = space.vectors + slot * space.row_bytes, row_scale(space, slot)
            nearest = descend(space, graph, query, scale, entry, top, min(level, top))
            pool_clear(work.pool, density.pool_vectors)
            pool_insert(work.pool, density.pool_vectors, make_key(distance(space, query, scale, nearest), nearest))
            for lc in range(min(level, top), -1, -1):
                epoch = next_epoch(density.state, work.visited, graph.capacity)
                reopen(work.pool, density.pool_vectors, work.visited, epoch)
                walk(space, thin, work, epoch, lc, query, scale, density.pool_vectors, work.pool, entries, every)
                count = _choose(graph, density, work.pool, entries, lc, marks)
                row = row_of(graph, slot, lc)
                for t in range(count):
                    own[t] = get_u32(density.chosen + t * 4)
                    set_u32(row + t * 4, own[t])
                for t in range(count):
                    _link_back(space, graph, density, slot, own[t], lc, marks)
        if entry < 0 or level > top:
            set_i64(density.state + ENTRY * 8, slot)
            set_i64(density.state + TOP * 8, level)
