"""The steps of the coded walk, between which it may wait for others; `vicinal.kernels.walk` says what it is.

They are `forceinline`, as is what they call: handing over the fields of an index and of scratch memory, seventy words,
costs as much as twenty instructions of each step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.distance import COSINE, dot
from vicinal.kernels.lines import BATCH, estimate, least_estimate, lines_at
from vicinal.kernels.simd import (
    INF_KEY,
    get_f32,
    get_i64,
    get_u32,
    key_distance,
    key_slot,
    lowest_bit,
    make_key,
    prefetch,
    prefetch_l2,
    set_f32,
    set_i64,
    set_u32,
)
from vicinal.kernels.walk_fields import EFFORT_BITS, VECTOR_AT, Effort
from vicinal.kernels.walk_ir import LINE
from vicinal.kernels.walk_links import clear_seen, mark_seen, unseen_links
from vicinal.kernels.walk_pool import insert
from vicinal.kernels.walk_rows import answer, row_score, settle

__all__ = [
    "LONGEST",
    "REFUSED",
    "SHORTEST",
    "UNSURE",
    "Steps",
    "ask_entries",
    "ask_rows",
    "end_search",
    "entry_of",
    "is_over",
    "is_sure",
    "look_ahead",
    "merge_estimates",
    "open_walk",
    "rescore_rows",
    "room_of",
    "take_step",
    "unpacked",
]

_LEAST = np.int64(-(1 << 63))
_PART = (1 << EFFORT_BITS) - 1
LONGEST, SHORTEST = np.float32(2.0**62), np.float32(2.0**-62)  # queries between compare without overflow
UNSURE, REFUSED = np.int64(-(1 << 62)), np.int64(-(1 << 63))
_Word = int | np.int64


class Steps(NamedTuple):
    """A walk between two steps."""

    head: _Word  # of the pool: how many were taken from it
    hops: _Word
    listed: _Word  # slots marked as seen
    node: _Word  # whose row is at hand, -1: none
    node_key: _Word
    pending: _Word  # whose row was asked for, -1: none
    pending_key: _Word
    ready: _Word  # nodes whose code lines are at hand
    slots: _Word  # address of their numbers
    waiting: _Word  # nodes whose code lines were asked for, with `late`


@njit
def _passes(sieve, slot):
    """Whether a slot may be returned."""
    return slot < sieve.limit and (sieve.allowed == 0 or has_bit(sieve.allowed, slot) != 0)


@njit
def _ask_for(index, slot):
    """Start fetching what expanding a node will read."""
    if index.exact_walk != 0:
        row = index.rows + slot * index.row_bytes
        for at in range(0, index.row_bytes, LINE):
            prefetch(row + at)
    else:
        links = index.links + slot * index.links_stride
        prefetch(links)
        prefetch(links + LINE)


@njit(forceinline=True)
def open_walk(work, sieve, entry_key):
    """Mark the entry (and the hidden slot) as seen, and begin there."""
    none, listed, entry = np.int64(0), np.int64(0), key_slot(entry_key)
    if sieve.hidden >= 0:
        mark_seen(work.seen, sieve.hidden)
        set_u32(work.listed, sieve.hidden)
        listed += 1
    mark_seen(work.seen, entry)
    set_u32(work.listed + listed * 4, entry)
    return Steps(none, none, listed + 1, np.int64(-1), none, entry, entry_key, none, work.listed, none)


@njit(forceinline=True)
def _admit(work, slots, mask, head, room):
    """Insert the estimated nodes of the mask into the pool; vectors wholly before its head are left alone."""
    first = head >> 3
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - 1
        key = make_key(get_f32(work.estimates + lane * 4), get_u32(slots + lane * 4))
        insert(work.pool + first * 64, (room >> 3) - first, key)


@njit(forceinline=True)
def look_ahead(index, work, effort, steps):
    """Choose the node after the pending one and ask for its row; list where the pending one leads and ask for that."""
    head, chosen, key = steps.head, np.int64(-1), np.int64(0)
    if head < effort.pool:
        key = get_i64(work.pool + head * 8)
        if key < get_i64(work.results + (effort.stop - 1) * 8):
            set_i64(work.pool + head * 8, _LEAST)
            head += 1
            chosen = key_slot(key)
            _ask_for(index, chosen)
    node, listed, hops = steps.pending, steps.listed, steps.hops
    count, slots, waiting = steps.waiting, work.listed + (listed - steps.waiting) * 4, np.int64(0)
    if node >= 0:
        hops += 1
        fresh = work.listed + listed * 4
        found = unseen_links(index.links + node * index.links_stride, work.seen, fresh)
        for i in range(found):
            slot = get_u32(fresh + i * 4)
            prefetch(index.codes + slot * LINE)
            mark_seen(work.seen, slot)
        listed += found
        if index.late != 0:
            waiting = found
        else:
            count, slots = found, fresh
    return Steps(head, hops, listed, node, steps.pending_key, chosen, key, count, slots, waiting)


@njit(forceinline=True)
def take_step(code, rows, index, work, effort, sieve, steps, results_room):
    """Score the node at hand and insert it into the results; estimate the nodes at hand and insert them."""
    node, key = steps.node, steps.node_key
    if node >= 0:
        if index.exact_walk != 0:
            key = make_key(row_score(rows, index.rows + node * index.row_bytes), node)
        if _passes(sieve, node):
            insert(work.results, results_room >> 3, key)
    if steps.ready > 0:
        bound = key_distance(get_i64(work.pool + (effort.pool - 1) * 8))
        mask = estimate(code, steps.slots, steps.ready, bound, work.estimates, work.lane_work)
        _admit(work, steps.slots, mask, steps.head, effort.pool)


@njit(forceinline=True)
def is_over(steps):
    """Whether a walk has nothing at hand and nowhere to go."""
    return steps.node < 0 and steps.ready == 0 and steps.pending < 0


@njit(forceinline=True)
def ask_rows(index, work, effort, sieve, head):
    """List the best unexpanded nodes, ask for their rows, and give how many they are."""
    count = 0
    for at in range(head, effort.pool):
        key = get_i64(work.pool + at * 8)
        if key == INF_KEY or count == effort.rescore:
            break
        slot = key_slot(key)
        if not _passes(sieve, slot):
            continue
        set_u32(work.chosen + count * 4, slot)
        count += 1
        row = index.rows + slot * index.row_bytes
        prefetch_l2(row)
        for line in range(VECTOR_AT, index.row_bytes, LINE):
            prefetch_l2(row + line)
    return count


@njit(forceinline=True)
def rescore_rows(rows, index, work, count, results_room):
    """Score the nodes that `ask_rows` listed from their rows and insert them into the results."""
    for i in range(count):
        slot = get_u32(work.chosen + i * 4)
        score = row_score(rows, index.rows + slot * index.row_bytes)
        insert(work.results, results_room >> 3, make_key(score, slot))


@njit(forceinline=True)
def merge_estimates(work, effort, sieve, head, results_room):
    """Insert the best unexpanded nodes into the results by their estimates, which are near exact."""
    worst = work.results + (min(results_room, effort.settle) - 1) * 8
    for at in range(head, effort.pool):
        key = get_i64(work.pool + at * 8)
        if key >= get_i64(worst):
            break
        if _passes(sieve, key_slot(key)):
            insert(work.results, results_room >> 3, key)


@njit(forceinline=True)
def _slack(work, k, last):
    """Give how far beyond the k-th result the last-th lies, as a part of the k-th's distance; inf where none is."""
    kth, last = get_i64(work.results + (k - 1) * 8), get_i64(work.results + (last - 1) * 8)
    if last == INF_KEY:
        return np.float32(np.inf)
    near = key_distance(kth)
    return (key_distance(last) - near) / max(abs(near), np.float32(1e-12))


@njit(forceinline=True)
def entry_of(code, index, work, cell):
    """Give the key of the cell's slot whose estimate is best; the walk enters there. Asks for its row."""
    first = cell * BATCH
    lines = lines_at(code, index.entry_lines)
    estimate(lines, index.entry_places + first * 4, BATCH, np.float32(np.inf), work.estimates, work.lane_work)
    best = least_estimate(work.estimates)
    slot = get_u32(index.cell_nodes + (first + best) * 4)
    _ask_for(index, slot)
    return make_key(get_f32(work.estimates + best * 4), slot)


@njit
def room_of(effort, k):
    """How many results a walk keeps."""
    return (max(effort.stop, effort.settle, k) + 7) & -8


@njit(forceinline=True)
def end_search(index, work, framed, query, call, effort, steps, slots, distances, k):
    """Settle what a walk found and write the answer; give how many of k there are."""
    clear_seen(work.seen, work.seen_words, work.listed, steps.listed)
    settle(index, work, framed, query, call.vectors, call.inv_norms, k, max(effort.settle, k))
    set_i64(work.hops, steps.hops)
    set_i64(work.hops + 8, steps.listed)
    set_f32(work.hops + 16, _slack(work, k, max(effort.stop, effort.settle)))
    return answer(work, call.names, slots, distances, k)


@njit
def unpacked(effort):
    """Give the parts of a packed Effort."""
    return Effort(
        effort & _PART,
        (effort >> EFFORT_BITS) & _PART,
        (effort >> (2 * EFFORT_BITS)) & _PART,
        effort >> (3 * EFFORT_BITS),
    )


@njit
def is_sure(query, index, framed):
    """Whether a query holds numbers only, none too large, and has a direction where that is compared."""
    if index.metric == COSINE:
        return SHORTEST < framed.inverse < LONGEST
    return dot(query, query, index.dim) < LONGEST * LONGEST


@njit(forceinline=True)
def ask_entries(index, cell):
    """Start fetching the lines of a cell's entries."""
    lines = index.entry_lines + cell * (BATCH * LINE)
    for at in range(0, BATCH * LINE, LINE):
        prefetch(lines + at)
