"""Exact k nearest rows by scanning: a range of slots or a list of them, with an optional set of allowed slots."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.distance import distance_within, query_scale, space_at
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.simd import get_i64, get_u32, key_distance, key_slot, lowest_bit, make_key, prefetch_l2

__all__ = ["NO_LIMIT", "Work", "drain", "offer", "scan_list", "scan_range", "work_at"]


NO_LIMIT = 0x7FFFFFFF  # above every slot


class Work(NamedTuple):
    """Addresses of one thread's scratch memory (`index.scratch`)."""

    visited: int  # u8 per slot: the epoch of its last visit
    pool: int  # keys of candidates
    pool_vectors: int  # room: 8 * pool_vectors keys
    results: int  # keys of results, as much room
    fresh: int  # u32 list of one row's unvisited slots
    query: int  # a row of the same elements as the stored ones


@njit
def work_at(block):
    """The Work whose fields lie as int64 at an address."""
    return Work(
        get_i64(block),
        get_i64(block + 8),
        get_i64(block + 16),
        get_i64(block + 24),
        get_i64(block + 32),
        get_i64(block + 40),
    )


@njit
def drain(pool, entries, limit, slots, distances):
    """Write the first len(slots) of a pool's entries whose slot is below limit; returns how many.

    Returns -1 when a quarter of the entries, or any that would be needed, lie at or beyond the limit.
    """
    n, beyond = 0, 0
    for i in range(entries):
        key = get_i64(pool + i * 8)
        slot = key_slot(key)
        if slot == NO_LIMIT:
            break
        if slot >= limit:
            beyond += 1
        elif n < slots.shape[0]:
            slots[n] = np.uint32(slot)
            distances[n] = key_distance(key)
            n += 1
    if beyond * 4 > entries or (beyond > 0 and n < slots.shape[0]):
        return -1
    return n


@njit
def offer(space, query, scale, slot, pool, vectors, last):
    """Insert the slot if it beats the pool's last entry; return the last entry's key."""
    key = make_key(distance_within(space, query, scale, slot, key_distance(last)), slot)
    if key < last:
        pool_insert(pool, vectors, key)
        return get_i64(pool + vectors * 64 - 8)
    return last


@njit
def scan_range(element, space_block, work_block, start, stop, allowed, slots, distances):
    """The nearest len(slots) of slots start .. stop - 1; allowed is the address of a set's words, or 0.

    element: as in Space. Blocks: addresses of a Space and of a Work, whose pool has room for len(slots). Ties go by
    slot. Returns how many.
    """
    space, work = space_at(space_block, element), work_at(work_block)
    query, pool, k = work.query, work.pool, slots.shape[0]
    scale = query_scale(space, query)
    vectors = (k + 7) >> 3
    pool_clear(pool, vectors)
    last = get_i64(pool + vectors * 64 - 8)
    if allowed == 0:
        for slot in range(start, stop):
            last = offer(space, query, scale, slot, pool, vectors, last)
        return drain(pool, k, NO_LIMIT, slots, distances)
    for w in range(start >> 6, (stop + 63) >> 6):
        word = get_i64(allowed + w * 8)
        while word != 0:
            slot = w * 64 + lowest_bit(word)
            word &= word - 1
            if start <= slot < stop:
                last = offer(space, query, scale, slot, pool, vectors, last)
    return drain(pool, k, NO_LIMIT, slots, distances)


@njit
def scan_list(element, space_block, work_block, listed, count, slots, distances):
    """The nearest len(slots) of `count` slots listed as uint32 at an address; their rows arrive by prefetch."""
    space, work = space_at(space_block, element), work_at(work_block)
    query, pool, k = work.query, work.pool, slots.shape[0]
    scale = query_scale(space, query)
    vectors = (k + 7) >> 3
    pool_clear(pool, vectors)
    last = get_i64(pool + vectors * 64 - 8)
    bytes_ = space.row_bytes
    lines = min(bytes_, 2048)
    for i in range(count):
        if i + 2 < count:
            ahead = space.vectors + get_u32(listed + (i + 2) * 4) * bytes_
            for line in range(0, lines, 64):
                prefetch_l2(ahead + line)
        last = offer(space, query, scale, get_u32(listed + i * 4), pool, vectors, last)
    return drain(pool, k, NO_LIMIT, slots, distances)
