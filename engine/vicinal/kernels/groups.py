"""Groups of near-copies: rows join the leader they are like, and what a search finds of leaders becomes their members.

A group's members are a chain of slots that ascend, begun by its leader. Leaders lie in hash tables under a key each,
one per table: rows that are like share a key in one of them, most likely. What a table suggests is compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.distance import COSINE, DOT, L2, distance, product, query_scale, row_scale, space_at
from vicinal.kernels.exact import NO_LIMIT, drain, offer, work_at
from vicinal.kernels.heap import pool_clear
from vicinal.kernels.simd import get_f32, get_i64, get_u8, get_u32, key_distance, key_slot, prefetch_l2

__all__ = ["NONE", "Chains", "Joining", "admit_groups", "chain_leaders", "join_groups", "settle_groups"]

NONE = 0xFFFFFFFF  # no group, no slot, the end of a chain
_LOOKED = 64  # leaders under a row's key that are looked at, the latest first
_SLACK = np.float32(1e-3)  # of a leader's distance, which codes may have settled


class Chains(NamedTuple):
    """Addresses of what a search needs of groups."""

    first: int  # u32 by group: the leader's slot
    follow: int  # u32 by slot: the next member, or NONE
    radius: int  # f32 by group: the largest distance of a member from its leader, squared under DOT


class Joining(NamedTuple):
    """Arrays that grow as rows join."""

    group_of: np.ndarray  # u32 by slot, or NONE
    follow: np.ndarray  # u32 by slot
    first: np.ndarray  # u32 by group
    last: np.ndarray  # u32 by group: the newest member
    radius: np.ndarray  # f32 by group
    reach: np.ndarray  # f32 by group: the distance within which a row joins
    closed: np.ndarray  # u8 by group: whether nothing joins any more
    keys: np.ndarray  # u32 (groups, tables)
    chains: np.ndarray  # u32 (groups, tables): the leader before under the same head
    heads: np.ndarray  # u32 (tables, a power of two)


@njit
def _same_bytes(one, other, size):
    """Whether two rows by address are equal, byte by byte."""
    whole = size & ~7
    for at in range(0, whole, 8):
        if get_i64(one + at) != get_i64(other + at):
            return False
    unlike = 0
    for at in range(whole, size):
        unlike |= get_u8(one + at) ^ get_u8(other + at)
    return unlike == 0


@njit
def _chain(joining, group):
    """Put a leader at the head of its keys' chains."""
    mask = joining.heads.shape[1] - 1
    for table in range(joining.heads.shape[0]):
        at = np.int64(joining.keys[group, table]) & mask
        joining.chains[group, table] = joining.heads[table, at]
        joining.heads[table, at] = group


@njit
def chain_leaders(joining, count):
    """Fill empty heads with the first `count` leaders."""
    for group in range(count):
        _chain(joining, group)


@njit
def _nearest_leader(space, joining, slot, keys, exact):
    """The nearest leader that a row may join and its distance, of equal ones the first; -1 when there is none.

    exact: only rows equal byte by byte may.
    """
    query = space.vectors + slot * space.row_bytes
    scale = row_scale(space, slot)
    best, least = np.int64(-1), np.float32(np.inf)
    mask = joining.heads.shape[1] - 1
    for table in range(joining.heads.shape[0]):
        key, looked = keys[table], 0
        group = np.int64(joining.heads[table, np.int64(key) & mask])
        while group != NONE and looked < _LOOKED:
            if joining.keys[group, table] == key:
                looked += 1
                leader = np.int64(joining.first[group])
                if joining.closed[group]:
                    far = np.float32(np.inf)
                elif exact:
                    same = _same_bytes(query, space.vectors + leader * space.row_bytes, space.row_bytes)
                    far = np.float32(0) if same else np.float32(np.inf)
                else:
                    far = distance(space, query, scale, leader)
                near = far <= joining.reach[group] and far < np.inf
                if near and (far < least or (far == least and group < best)):
                    best, least = group, far
            group = np.int64(joining.chains[group, table])
    return best, least


@njit
def join_groups(element, space_block, start, stop, useless, keys, reach, exact, joining, count):
    """Let rows start .. stop - 1, in order, join the leader they are like or become leaders; how many there are then.

    useless: u8 by row: rows that join nothing and lead nothing, but for the very first. keys: u32 (rows, tables).
    reach: f32 by row: how far rows that join it may be. `count` leaders there are before.
    """
    space = space_at(space_block, element)
    for slot in range(start, stop):
        row = slot - start
        joining.follow[slot] = NONE
        joining.group_of[slot] = NONE
        if useless[row] and count > 0:
            continue
        group, far = _nearest_leader(space, joining, slot, keys[row], exact)
        if group >= 0:
            joining.group_of[slot] = group
            joining.radius[group] = max(joining.radius[group], far)
            joining.follow[joining.last[group]] = slot  # readers stop at their own number of slots
        else:
            group = count
            count += 1
            joining.group_of[slot] = group
            joining.first[group] = slot
            joining.radius[group] = 0
            joining.reach[group] = reach[row]
            joining.closed[group] = 0
            joining.keys[group] = keys[row]
            _chain(joining, group)
        joining.last[group] = slot
    return count


@njit
def admit_groups(allowed, limit, group_of, groups):
    """Set the bit of each group that has an allowed slot below the limit.

    Addresses of the slots' words and of their groups; `groups` is an array of words, all zero.
    """
    for w in range((limit + 63) >> 6):
        word = get_i64(allowed + w * 8)
        if word == 0:
            continue
        for bit in range(64):
            slot = w * 64 + bit
            if (word >> bit) & 1 and slot < limit:
                group = get_u32(group_of + slot * 4)
                if group != NONE:
                    groups[group >> 6] |= np.uint64(1) << np.uint64(group & 63)


@njit
def _least(space, near, radius, stretch):
    """A distance that no member of a group is nearer than, in the terms that `_comparable` gives."""
    far = _comparable(space, near - _SLACK * abs(near))
    spread = radius
    if space.metric in (L2, COSINE, DOT):
        spread = np.sqrt(max(radius, np.float32(0)))
    return far - stretch * spread * (np.float32(1) + _SLACK)


@njit
def _comparable(space, far):
    """A distance as one of which the triangle inequality holds, or that differs by at most stretch times one."""
    if space.metric in (L2, COSINE):
        return np.sqrt(max(far, np.float32(0)))
    return far


@njit
def settle_groups(
    element, space_block, work_block, chains_block, limit, allowed, groups, near, count, slots, distances
):
    """The nearest len(slots) allowed members below the limit of `count` groups, on their own rows; returns how many.

    near: f32 by found group: the distance of its leader. Groups too far for their radius are passed over. Blocks:
    addresses of a Space, a Work and a Chains; allowed: the address of a set's words, or 0.
    """
    space, work = space_at(space_block, element), work_at(work_block)
    first, follow, radius = get_i64(chains_block), get_i64(chains_block + 8), get_i64(chains_block + 16)
    query, pool, k = work.query, work.pool, slots.shape[0]
    scale, stretch = query_scale(space, query), np.float32(1)
    if space.metric == DOT:
        stretch = np.sqrt(product(space.element, query, query, space.dim))
    vectors = (k + 7) >> 3
    pool_clear(pool, vectors)
    last = get_i64(pool + vectors * 64 - 8)
    lines = min(space.row_bytes, 2048)
    for i in range(count):
        group = np.int64(groups[i])
        full = key_slot(last) != NO_LIMIT
        if full and _least(space, near[i], get_f32(radius + group * 4), stretch) > _comparable(
            space, key_distance(last)
        ):
            continue
        slot = get_u32(first + group * 4)
        while slot < limit:
            after = get_u32(follow + slot * 4)
            if after < limit:
                for line in range(0, lines, 64):
                    prefetch_l2(space.vectors + after * space.row_bytes + line)
            if allowed == 0 or has_bit(allowed, slot):
                last = offer(space, query, scale, slot, pool, vectors, last)
            slot = after
    return drain(pool, k, NO_LIMIT, slots, distances)
