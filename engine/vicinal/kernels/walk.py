"""The coded walk: best-first search of a graph of degree 32 on code lines.

Two sorted arrays of keys: the **pool** (estimates of nodes that are not expanded yet, taken from its front) and the
**results** (distances of expanded ones). The walk stops when the best estimate exceeds the stop-th result.

The next node is chosen *one step ahead*, before the current one is worked on, so its row travels from memory during
the arithmetic; with `late` the code lines asked for in one step are used in the next. Expanding a node reads its
links and, with `exact_walk`, its bytes; each node is estimated once. After the walk the best unexpanded nodes are
scored, and the first few are settled on the stored floats, or as integers where rows and query are whole numbers.

After SymphonyQG (Gou et al. 2025). Departures: one code per node instead of one per edge (a quarter of the memory; an
update touches one row), about its cell's centre; two arrays instead of one, so exact distances re-sort what was
expanded; entry by the nearest of a cell's 32 spread over it, for the nearest cell; choice one step ahead.

What a search may return is a mask on the results (`Sieve`): every node is routed through, and nodes that may not be
returned never tighten the bound.
"""

from __future__ import annotations

import numpy as np
from numba import types

from vicinal.kernels import njit
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.distance import COSINE, dot
from vicinal.kernels.heap import pool_clear
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
from vicinal.kernels.walk_fields import EFFORT_BITS, VECTOR_AT, Call, Effort, IndexFields, Sieve, Work
from vicinal.kernels.walk_ir import LINE, read_fields
from vicinal.kernels.walk_links import clear_seen, mark_seen, unseen_links
from vicinal.kernels.walk_pool import insert
from vicinal.kernels.walk_query import byte_query, enter, frame_query, nibble_query, sign_query
from vicinal.kernels.walk_rows import answer, fetch_last, row_query, row_score, settle

__all__ = ["LONGEST", "SEARCH", "SHORTEST", "rescore_rows", "search_bytes", "search_nibbles", "search_signs"]

_LEAST = np.int64(-(1 << 63))
_PART = (1 << EFFORT_BITS) - 1
LONGEST, SHORTEST = np.float32(2.0**62), np.float32(2.0**-62)  # queries between compare without overflow

_floats, _slots = types.Array(types.float32, 1, "C"), types.Array(types.uint32, 1, "C")
SEARCH = _floats, types.intp, types.int64, _slots, _floats  # what the three searches take


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


@njit
def _open(work, sieve, entry):
    """Mark the entry (and the hidden slot) as seen; give how many slots are listed."""
    listed = 0
    if sieve.hidden >= 0:
        mark_seen(work.seen, sieve.hidden)
        set_u32(work.listed, sieve.hidden)
        listed = 1
    mark_seen(work.seen, entry)
    set_u32(work.listed + listed * 4, entry)
    return listed + 1


@njit
def _admit(work, slots, mask, head, room):
    """Insert the estimated nodes of the mask into the pool; vectors wholly before its head are left alone."""
    first = head >> 3
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - 1
        key = make_key(get_f32(work.estimates + lane * 4), get_u32(slots + lane * 4))
        insert(work.pool + first * 64, (room >> 3) - first, key)


@njit
def _walk(code, rows, index, work, effort, sieve, entry_key, results_room):
    """Walk from the entry; give the pool's head, the rows expanded and the slots listed."""
    room = effort.pool
    last = work.pool + (room - 1) * 8
    stop = work.results + (effort.stop - 1) * 8
    pending, pending_key, key = key_slot(entry_key), entry_key, np.int64(0)
    listed = _open(work, sieve, pending)
    head, hops, waiting = 0, 0, 0
    while True:
        chosen = np.int64(-1)
        if head < room:
            key = get_i64(work.pool + head * 8)
            if key < get_i64(stop):
                set_i64(work.pool + head * 8, _LEAST)
                head += 1
                chosen = key_slot(key)
                _ask_for(index, chosen)
        node, node_key = pending, pending_key
        pending, pending_key = chosen, key
        count, slots = waiting, work.listed + (listed - waiting) * 4
        waiting = 0
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
            if index.exact_walk != 0:
                node_key = make_key(row_score(rows, index.rows + node * index.row_bytes), node)
            if _passes(sieve, node):
                insert(work.results, results_room >> 3, node_key)
        elif count == 0 and chosen < 0:
            break
        if count > 0:
            bound = key_distance(get_i64(last))
            mask = estimate(code, slots, count, bound, work.estimates, work.lane_work)
            _admit(work, slots, mask, head, room)
    return head, hops, listed


@njit
def rescore_rows(rows, index, work, effort, sieve, head, results_room):
    """Score the best unexpanded nodes from their rows and insert them into the results."""
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
    for i in range(count):
        slot = get_u32(work.chosen + i * 4)
        score = row_score(rows, index.rows + slot * index.row_bytes)
        insert(work.results, results_room >> 3, make_key(score, slot))


@njit
def _merge_estimates(work, effort, sieve, head, results_room):
    """Insert the best unexpanded nodes into the results by their estimates, which are near exact."""
    worst = work.results + (min(results_room, effort.settle) - 1) * 8
    for at in range(head, effort.pool):
        key = get_i64(work.pool + at * 8)
        if key >= get_i64(worst):
            break
        if _passes(sieve, key_slot(key)):
            insert(work.results, results_room >> 3, key)


@njit
def _slack(work, k, last):
    """Give how far beyond the k-th result the last-th lies, as a part of the k-th's distance; inf where none is."""
    kth, last = get_i64(work.results + (k - 1) * 8), get_i64(work.results + (last - 1) * 8)
    if last == INF_KEY:
        return np.float32(np.inf)
    near = key_distance(kth)
    return (key_distance(last) - near) / max(abs(near), np.float32(1e-12))


@njit
def _entry(code, index, work, cell):
    """Give the key of the cell's slot whose estimate is best; the walk enters there."""
    first = cell * BATCH
    lines = lines_at(code, index.entry_lines)
    estimate(lines, index.entry_places + first * 4, BATCH, np.float32(np.inf), work.estimates, work.lane_work)
    best = least_estimate(work.estimates)
    return make_key(get_f32(work.estimates + best * 4), get_u32(index.cell_nodes + (first + best) * 4))


@njit
def _search(code, framed, index, work, query, call, slots, distances, effort, cell):
    """Walk, re-score, settle; give how many of k were found."""
    k = slots.shape[0]
    entry = _entry(code, index, work, cell)
    _ask_for(index, key_slot(entry))
    rows = row_query(framed, index, work)
    sieve = Sieve(call.limit, call.allowed, call.hidden)
    results_room = (max(effort.stop, effort.settle, k) + 7) & -8
    pool_clear(work.pool, effort.pool >> 3)
    pool_clear(work.results, results_room >> 3)
    head, hops, listed = _walk(code, rows, index, work, effort, sieve, entry, results_room)
    if index.exact_walk != 0:
        if not (index.whole != 0 and framed.whole):
            fetch_last(index, work, call.vectors, effort.settle)
        rescore_rows(rows, index, work, effort, sieve, head, results_room)
    else:
        _merge_estimates(work, effort, sieve, head, results_room)
    clear_seen(work.seen, work.seen_words, work.listed, listed)
    settle(index, work, framed, query, call.vectors, call.inv_norms, k, max(effort.settle, k))
    set_i64(work.hops, hops)
    set_i64(work.hops + 8, listed)
    set_f32(work.hops + 16, _slack(work, k, max(effort.stop, effort.settle)))
    return answer(work, slots, distances)


@njit
def _unpack(effort):
    """Give the parts of a packed Effort."""
    return Effort(
        effort & _PART,
        (effort >> EFFORT_BITS) & _PART,
        (effort >> (2 * EFFORT_BITS)) & _PART,
        effort >> (3 * EFFORT_BITS),
    )


@njit
def _is_sure(query, index, framed):
    """Whether a query holds numbers only, none too large, and has a direction where that is compared."""
    if index.metric == COSINE:
        return SHORTEST < framed.inverse < LONGEST
    return dot(query, query, index.dim) < LONGEST * LONGEST


@njit
def _begin(query, call_at):
    """Frame a query, give the nearest cell and start fetching the lines of its entries."""
    call = read_fields(Call, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    framed = frame_query(query.ctypes.data, index, work)
    cell = enter(framed, index, work)
    lines = index.entry_lines + cell * (BATCH * LINE)
    for at in range(0, BATCH * LINE, LINE):
        prefetch(lines + at)
    set_i64(work.sure, np.int64(_is_sure(query.ctypes.data, index, framed)))
    return call, index, work, framed, cell


@njit
def search_signs(query, call_at, effort, slots, distances):
    """Find the k nearest slots of a float32 query (dim,) in an index of sign lines; give how many were found.

    call_at: address of a Call. effort: a packed Effort. The answer goes to slots and distances, uint32 and float32
    arrays of length k.
    """
    call, index, work, framed, cell = _begin(query, call_at)
    code = sign_query(framed, index, work)
    return _search(code, framed, index, work, query.ctypes.data, call, slots, distances, _unpack(effort), cell)


@njit
def search_nibbles(query, call_at, effort, slots, distances):
    """Do as `search_signs` in an index of 4-bit lines."""
    call, index, work, framed, cell = _begin(query, call_at)
    code = nibble_query(framed, index, work)
    return _search(code, framed, index, work, query.ctypes.data, call, slots, distances, _unpack(effort), cell)


@njit
def search_bytes(query, call_at, effort, slots, distances):
    """Do as `search_signs` in an index of 8-bit lines."""
    call, index, work, framed, cell = _begin(query, call_at)
    code = byte_query(framed, index, work)
    return _search(code, framed, index, work, query.ctypes.data, call, slots, distances, _unpack(effort), cell)
