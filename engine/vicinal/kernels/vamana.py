"""Vamana over slots with labels: insertion, and the prune that keeps every label's graph (WWW 2023, Filtered-DiskANN).

A kept candidate drops a farther one that it is nearer to, by alpha, only if it carries every label that the farther
one shares with the slot: else a search by such a label could lose the farther one. Rows are of any length: a slot
keeps up to `degree` links, and for each of its labels up to QUOTA more where fewer carry it, so that a slot of many
labels is never cut out of one of them.

Departures: slots of many labels take the first half of their links without that exception, for hardly any candidate
carries all that another shares, and the nearest alone would be kept, among which a label's graph falls apart. The
candidates are the pool of each search, not all it expanded; with many labels, a label that the pool does not hold is
searched for by itself. A full row is cut to its degree, which leaves room for the next links.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.admission import ALL, Admission, has_label, label_range
from vicinal.kernels.beam import row_of, walk
from vicinal.kernels.distance import distance, distance_within, row_scale
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.insert import next_epoch
from vicinal.kernels.simd import SENTINEL, get_i64, get_u8, get_u32, key_distance, key_slot, make_key, set_u8, set_u32

__all__ = ["QUOTA", "Weave", "choose_rows", "insert_woven"]

QUOTA = 4
_MANY = 8  # labels
_LEVEL = 1  # rows of any length are the upper rows of a Graph: 64 bytes each, a slot's one after another
_LANES = 16
_SLOT = 0x7FFFFFFF


class Weave(NamedTuple):
    """How rows are linked, and addresses of what decides it."""

    degree: int  # links of a row after a choice, without those a label adds
    alpha: float  # factor on distances between candidates
    pool_vectors: int  # candidates of a search / 8
    codes: int  # as in Admission; 0: all slots are alike
    ends: int
    both: int  # 1: candidates of a search over all slots as well
    state: int  # as Builder.state


@njit
def _carries(weave, slot, label):
    """Whether a slot has a label."""
    low, high = label_range(weave.ends, slot)
    return has_label(weave.codes, low, high, label)


@njit
def _covers(weave, low, high, kept, slot):
    """Whether `kept` has every label that `slot` shares with the owner of codes low .. high - 1."""
    for i in range(low, high):
        label = get_u32(weave.codes + i * 4)
        if _carries(weave, slot, label) and not _carries(weave, kept, label):
            return False
    return True


@njit
def _own_labels(weave, slot):
    """Where the codes of a slot's labels begin and end; nowhere when all slots are alike."""
    if weave.codes == 0:
        return 0, 0
    return label_range(weave.ends, slot)


@njit
def _spread(space, weave, keys, n, chosen, most):
    """Choose among n keys, nearest first, what no chosen one is nearer to by alpha, whatever labels it has."""
    kept = 0
    for i in range(n):
        if kept == most:
            break
        slot, limit, taken = key_slot(keys[i]), key_distance(keys[i]), True
        row, scale = space.vectors + slot * space.row_bytes, row_scale(space, slot)
        for t in range(kept):
            if distance_within(space, row, scale, chosen[t], limit / weave.alpha) * weave.alpha < limit:
                taken = False
                break
        if taken:
            chosen[kept] = slot
            kept += 1
    return kept


@njit
def _choose(space, weave, owner, keys, n, chosen):
    """Choose links among n keys, in any order and with repeats; returns how many slots are in `chosen`."""
    keys[:n].sort()
    low, high = _own_labels(weave, owner)
    kept, unique = 0, 0
    for i in range(n):
        slot = key_slot(keys[i])
        if slot == owner or (unique > 0 and key_slot(keys[unique - 1]) == slot):
            continue
        keys[unique] = keys[i]
        unique += 1
    few = high - low <= _MANY  # then labels tell sooner than rows
    kept = 0 if few else _spread(space, weave, keys, unique, chosen, weave.degree >> 1)
    first = kept
    for i in range(unique):
        if kept == weave.degree:
            break
        slot, limit, taken = key_slot(keys[i]), key_distance(keys[i]), True
        for t in range(first):
            taken = taken and chosen[t] != slot
        row, scale = space.vectors + slot * space.row_bytes, row_scale(space, slot)
        for t in range(kept if taken else 0):
            if few and not _covers(weave, low, high, chosen[t], slot):
                continue
            near = distance_within(space, row, scale, chosen[t], limit / weave.alpha) * weave.alpha < limit
            if near and (few or _covers(weave, low, high, chosen[t], slot)):
                taken = False
                break
        if taken:
            chosen[kept] = slot
            kept += 1
    for i in range(low, high):
        kept = _fill_quota(weave, get_u32(weave.codes + i * 4), keys, unique, chosen, kept)
    return kept


@njit
def _fill_quota(weave, label, keys, n, chosen, kept):
    """Add the nearest candidates with a label until QUOTA links carry it; returns how many are chosen then."""
    count = 0
    for t in range(kept):
        count += int(_carries(weave, chosen[t], label))
    for i in range(n):
        if count >= QUOTA:
            break
        slot = key_slot(keys[i])
        if not _carries(weave, slot, label):
            continue
        fresh = True
        for t in range(kept):
            fresh = fresh and chosen[t] != slot
        if fresh:
            chosen[kept] = slot
            kept += 1
            count += 1
    return kept


@njit
def _room(graph, slot):
    """Links that a slot's row has room for: one place ends it."""
    return (get_u32(graph.offsets + (slot + 1) * 4) - get_u32(graph.offsets + slot * 4)) * _LANES - 1


@njit
def _write(graph, slot, chosen, count):
    """Write a slot's whole row."""
    row, room = row_of(graph, slot, _LEVEL), _room(graph, slot)
    for t in range(room + 1):
        set_u32(row + t * 4, chosen[t] if t < min(count, room) else SENTINEL)


@njit
def _row_keys(space, graph, slot, keys, n):
    """Append the keys of a slot's links."""
    row, query, scale = row_of(graph, slot, _LEVEL), space.vectors + slot * space.row_bytes, row_scale(space, slot)
    for t in range(_room(graph, slot)):
        link = get_u32(row + t * 4)
        if link == SENTINEL:
            break
        keys[n] = make_key(distance(space, query, scale, link), link)
        n += 1
    return n


@njit
def _link_back(space, graph, weave, slot, neighbour, keys, chosen):
    """Link a neighbour to a new slot; a full row is chosen again."""
    row, room, count = row_of(graph, neighbour, _LEVEL), _room(graph, neighbour), 0
    while count < room and get_u32(row + count * 4) != SENTINEL:
        if get_u32(row + count * 4) == slot:
            return
        count += 1
    if count < room:
        set_u32(row + count * 4, slot)
        set_u32(row + count * 4 + 4, SENTINEL)
        return
    n = _row_keys(space, graph, neighbour, keys, 0)
    query, scale = space.vectors + neighbour * space.row_bytes, row_scale(space, neighbour)
    keys[n] = make_key(distance(space, query, scale, slot), slot)
    _write(graph, neighbour, chosen, _choose(space, weave, neighbour, keys, n + 1, chosen))


@njit
def _search(space, graph, work, weave, slot, starts, low, high, vectors, wanted, keys, n):
    """Append what a beam of `vectors` finds from the start nodes of the labels at low .. high - 1, or of all slots."""
    query, scale = space.vectors + slot * space.row_bytes, row_scale(space, slot)
    epoch = next_epoch(weave.state, work.visited, graph.capacity)
    pool_clear(work.pool, vectors)
    set_u8(work.visited + slot, epoch)
    for i in range(low, max(high, low + 1)):
        start = starts[-1] if high <= low else starts[get_u32(weave.codes + i * 4)]
        if get_u8(work.visited + start) != epoch:
            set_u8(work.visited + start, epoch)
            pool_insert(work.pool, vectors, make_key(distance(space, query, scale, start), start))
    walk(space, graph, work, epoch, _LEVEL, query, scale, vectors, work.pool, vectors * 8, wanted)
    for i in range(vectors * 8):
        key = get_i64(work.pool + i * 8) & ~1
        if key_slot(key) == _SLOT:
            break
        keys[n] = key
        n += 1
    return n


@njit
def _all_candidates(space, graph, work, weave, slot, starts, keys):
    """The keys of a slot's candidates: by its labels, over all slots if asked for, and of labels that are short."""
    low, high = _own_labels(weave, slot)
    limit, n = graph.capacity, 0
    if weave.codes == 0 or weave.both != 0:
        everything = Admission(limit, 0, ALL, 0, 0, 0, 0, 0)
        n = _search(space, graph, work, weave, slot, starts, 0, 0, weave.pool_vectors, everything, keys, n)
    if high > low:
        labels = weave.codes + low * 4
        wanted = Admission(limit, 0, ALL, 0, weave.codes, weave.ends, labels, high - low)
        n = _search(space, graph, work, weave, slot, starts, low, high, weave.pool_vectors, wanted, keys, n)
    for i in range(low, high if high - low > 1 else low):
        label, count = get_u32(weave.codes + i * 4), 0
        for t in range(n):
            count += int(_carries(weave, key_slot(keys[t]), label))
        if count < QUOTA:
            wanted = Admission(limit, 0, ALL, 0, weave.codes, weave.ends, weave.codes + i * 4, 1)
            n = _search(space, graph, work, weave, slot, starts, i, i + 1, 1, wanted, keys, n)
    return n


@njit
def insert_woven(space, graph, work, weave, order, starts, most):
    """Insert the slots `order` (int64) one after another, each linked to what is linked already.

    starts (labels + 1,) int64: the start node of each label, and last that of all slots. most: keys that one slot's
    candidates and row may need.
    """
    keys, chosen, own = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    for i in range(order.shape[0]):
        slot = order[i]
        n = _all_candidates(space, graph, work, weave, slot, starts, keys)
        n = _row_keys(space, graph, slot, keys, n)
        count = min(_choose(space, weave, slot, keys, n, own), _room(graph, slot))
        _write(graph, slot, own, count)
        for t in range(count):
            _link_back(space, graph, weave, slot, own[t], keys, chosen)


@njit
def choose_rows(space, graph, weave, starts, candidates, most):
    """Write every slot's row from its candidates[starts[s] : starts[s + 1]] (uint32, with repeats)."""
    keys, chosen = np.empty(most, np.int64), np.empty(most, np.int64)
    for slot in range(starts.shape[0] - 1):
        query, scale, n = space.vectors + slot * space.row_bytes, row_scale(space, slot), 0
        for i in range(starts[slot], starts[slot + 1]):
            keys[n] = make_key(distance(space, query, scale, np.int64(candidates[i])), np.int64(candidates[i]))
            n += 1
        _write(graph, slot, chosen, _choose(space, weave, slot, keys, n, chosen))
