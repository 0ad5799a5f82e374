"""HNSW's neighbour heuristic on int8 codes, forward links, reverse links and their merge.

Malkov and Yashunin 2016, algorithm 4, with the slack alpha of Vamana (Subramanya et al. 2019) and without filling up by
discarded candidates. The Gram rows come six at a time from the blocked product, and only for candidates still alive.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.build import FAR
from vicinal.kernels.gemm import ROWS_PER_TILE, pack16, tile6x2
from vicinal.kernels.operands import greater, lesser, operand, pointer, read, write
from vicinal.kernels.rows8 import numbers
from vicinal.kernels.simd import Loop, i16, i32, i64, lowest_bit, splat, vec
from vicinal.kernels.threshold import SLACK, rank_sort, shrink

__all__ = [
    "PRUNED_MAX",
    "PruneRoom",
    "lengthen",
    "merge",
    "mix_in",
    "occlude",
    "pack_room",
    "prune",
    "prune_room",
    "reverse",
    "select",
    "top_up",
]

PRUNED_MAX = 112  # most candidates of one call; the room holds 128
_ROOM = 128
_GRAM = np.int64(ROWS_PER_TILE * _ROOM + 64)  # the last pair of groups may spill
_PANEL = np.int64(9)
_WORDS = np.int64(2)
_SHORT = np.int64(PRUNED_MAX - SLACK)
_LANES = np.int64(16)
_TILE = np.int64(ROWS_PER_TILE)
_SPAN = np.int64(160)  # arrays of a room: 128 and two groups that a pair of groups may touch


class PruneRoom(NamedTuple):
    """Scratch of `prune`, one per call of a kernel: candidates in, kept positions out, and what lies between."""

    ids: NDArray[np.int32]  # (160,) candidates, nearest first; the caller fills it
    dist: NDArray[np.int32]  # (160,) their half squared distances
    kept: NDArray[np.int32]  # (160,) positions kept
    lanes: NDArray[np.uint8]  # (9, 16 * width) the candidates, packed
    bias: NDArray[np.int32]  # (160,)
    slack: NDArray[np.int32]  # (160,) distances that occlude, dist / alpha^2
    scores: NDArray[np.int32]  # (6 * 128 + 64,) Gram rows
    groups: NDArray[np.int32]  # (16,) 0 .. 15
    rows: NDArray[np.int32]  # (6,)
    chosen: NDArray[np.int32]  # (6,)
    alive: NDArray[np.uint64]  # (2,) one bit per candidate


@njit
def prune_room(width):
    """Allocate the scratch of `prune` for rows of `width` bytes."""
    return PruneRoom(
        np.zeros(_SPAN, np.int32),
        np.zeros(_SPAN, np.int32),
        np.zeros(_SPAN, np.int32),
        np.zeros((_PANEL, width * 16), np.uint8),
        np.zeros(_SPAN, np.int32),
        np.zeros(_SPAN, np.int32),
        np.zeros(_GRAM, np.int32),
        numbers(_LANES),
        np.zeros(_TILE, np.int32),
        np.zeros(_TILE, np.int32),
        np.zeros(_WORDS, np.uint64),
    )


@intrinsic(prefer_literal=False)
def occlude(typingctx, scores, first, slack, offset, group, groups, alive):
    """Clear the bits of candidates nearer to the one just kept than to the point itself.

    For groups `group` .. `groups` - 1: alive &= not (scores[first + j] + slack[j] > offset), j counted from group 0.
    """
    signature = types.void(
        operand(scores, types.int32),
        types.intp,
        operand(slack, types.int32),
        types.int32,
        types.intp,
        types.intp,
        operand(alive, types.uint64),
    )

    def generate(ctx, b, sig, args):
        scores, first, slack, offset, group, groups, alive = args
        bound = splat(b, offset, 16)
        lanes = vec(i32, 16)
        turn = Loop(b, b.sub(groups, group), [])
        g = b.add(group, turn.i)
        lane = b.mul(g, i64(16))
        score = read(b, pointer(ctx, b, sig.args[0], scores, b.add(first, lane)), lanes)
        spare = read(b, pointer(ctx, b, sig.args[2], slack, lane), lanes)
        nearer = b.icmp_signed(">", b.add(score, spare), bound)
        place = b.gep(pointer(ctx, b, sig.args[6], alive, i64(0)), [b.mul(g, i64(2))])
        write(b, b.and_(read(b, place, i16), b.not_(b.bitcast(nearer, i16))), place)
        turn.close([])
        return ctx.get_dummy_value()

    return signature, generate


@njit
def pack_room(codes, room, n, words):
    """Pack the n candidates of a room and set up their biases and `words` of their bits; give the groups of 16."""
    groups = (n + 15) // 16
    for j in range(n, groups * 16):
        room.ids[j] = room.ids[0]
    for g in range(groups):
        pack16(codes.rows, room.ids, 16 * g, room.lanes, g)
    for j in range(groups * 16):
        room.bias[j] = -codes.half[room.ids[j]]
    for w in range(words):
        bits = lesser(greater(np.int64(n - 64 * w), np.int64(0)), np.int64(64))
        room.alive[w] = ~np.uint64(0) if bits == 64 else (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    return groups


@njit
def _lay_out(codes, room, n, num, den):
    """Pack the n candidates of a room and set up their bits, biases and slacks."""
    groups = pack_room(codes, room, n, 2)
    for j in range(groups * 16):
        room.slack[j] = np.int32(np.int64(room.dist[j]) * num // den)
    return groups


@njit
def prune(codes, room, n, most, num, den):
    """Keep candidate c unless a kept s has dist(s, c) < dist(p, c) / alpha^2, with 1 / alpha^2 = num / den.

    The room holds n <= 128 candidates (`ids`, `dist`), nearest first. At most `most` are kept: their positions, in
    order, go to room.kept; gives how many.
    """
    groups = _lay_out(codes, room, n, num, den)
    kept = 0
    while True:
        m = 0
        for w in range(2):
            left = room.alive[w]
            while left != 0 and m < ROWS_PER_TILE:
                room.chosen[m] = 64 * w + lowest_bit(left)
                m += 1
                left &= left - np.uint64(1)
        if m == 0:
            return kept
        for r in range(ROWS_PER_TILE):
            room.rows[r] = room.ids[room.chosen[lesser(r, m - 1)]]
        first = np.int64(room.chosen[0]) >> 4
        for g in range(first, groups, 2):
            tile6x2(codes.rows, room.rows, 0, room.lanes, room.groups, g, room.bias, room.scores, g * 16, _ROOM)
        for r in range(m):
            j = np.int64(room.chosen[r])
            bit = np.uint64(1) << np.uint64(j & 63)
            if room.alive[j >> 6] & bit == 0:
                continue
            room.kept[kept] = j
            kept += 1
            if kept == most:
                return kept
            offset = codes.offset[room.rows[r]]
            occlude(room.scores, r * _ROOM, room.slack, offset, first, groups, room.alive)
            room.alive[j >> 6] &= ~bit


@njit
def select(codes, given, most, num, den, links, dist, degree, start, stop):
    """Choose the forward links of rows start .. stop from their candidates; -1 fills the rest of a row."""
    room = prune_room(codes.rows.shape[1])
    L = given.ids.shape[1]
    for p in range(start, stop):
        n = 0
        while n < L and given.ids[p, n] >= 0:
            room.ids[n] = given.ids[p, n]
            room.dist[n] = given.dist[p, n]
            n += 1
        k = prune(codes, room, n, most, num, den) if n else 0
        for j in range(k):
            links[p, j] = room.ids[room.kept[j]]
            dist[p, j] = room.dist[room.kept[j]]
        for j in range(k, links.shape[1]):
            links[p, j] = -1
        degree[p] = k


@njit
def reverse(links, dist, degree):
    """Group links by target: starts (n + 1,), sources and half distances, ordered by source."""
    n = links.shape[0]
    starts = np.zeros(n + 1, np.int64)
    for p in range(n):
        for j in range(degree[p]):
            starts[links[p, j] + 1] += 1
    for p in range(n):
        starts[p + 1] += starts[p]
    place = starts.copy()
    sources = np.empty(starts[n], np.int32)
    out = np.empty(starts[n], np.int32)
    for p in range(n):
        for j in range(degree[p]):
            t = links[p, j]
            sources[place[t]] = p
            out[place[t]] = dist[p, j]
            place[t] += 1
    return starts, sources, out


@njit
def _longest(starts, start, stop):
    """Give the longest of the lists start .. stop."""
    most = np.int64(0)
    for p in range(start, stop):
        most = greater(most, starts[p + 1] - starts[p])
    return most


@njit
def merge(codes, chosen, dist, degree, starts, sources, source_dist, num, den, places, links, out_degree, start, stop):
    """Join forward and reverse links of rows start .. stop; prune a row only when it has more than places[p]."""
    room = prune_room(codes.rows.shape[1])
    size = _longest(starts, start, stop) + chosen.shape[1] + 64
    scores = np.empty(size, np.int32)
    ids = np.empty(size, np.int32)
    sorted_scores = np.empty(size, np.int32)
    sorted_ids = np.empty(size, np.int32)
    for p in range(start, stop):
        own = degree[p]
        for j in range(own):
            scores[j] = -dist[p, j]
            ids[j] = chosen[p, j]
        n = np.int64(own)
        for j in range(starts[p], starts[p + 1]):
            fresh = True
            for e in range(own):  # sources are distinct: only own links can repeat
                fresh &= ids[e] != sources[j]
            if fresh:
                scores[n] = -source_dist[j]
                ids[n] = sources[j]
                n += 1
        if n > PRUNED_MAX:
            n, _ = shrink(scores, ids, n, _SHORT)
        rank_sort(scores, ids, n, sorted_scores, sorted_ids)
        for j in range(n):
            room.ids[j] = sorted_ids[j]
            room.dist[j] = -sorted_scores[j]
        k = n
        if n > places[p]:
            k = prune(codes, room, n, np.int64(places[p]), num, den)
            for j in range(k):
                links[p, j] = room.ids[room.kept[j]]
        else:
            for j in range(n):
                links[p, j] = room.ids[j]
        out_degree[p] = k
        for j in range(k, links.shape[1]):
            links[p, j] = -1


@njit
def top_up(links, degree, places, ids, start, stop):
    """Fill free places of rows start .. stop with their nearest candidates that are not links yet."""
    for p in range(start, stop):
        m = degree[p]
        for j in range(ids.shape[1]):
            c = ids[p, j]
            if m >= places[p] or c < 0:
                break
            fresh = True
            for e in range(m):
                fresh &= links[p, e] != c
            if fresh:
                links[p, m] = c
                m += 1
        degree[p] = m


@njit
def mix_in(links, degree, places, other, start, stop):
    """Fill free places of rows start .. stop with links of another graph, taken evenly from near to far.

    A row that lists fewer new ones than it has places takes them all; at most places[p] links stay per row.
    """
    fresh = np.empty(np.int64(other.shape[1]), np.int32)
    for p in range(start, stop):
        n = 0
        for j in range(other.shape[1]):
            c = other[p, j]
            if c < 0:
                break
            new = True
            for e in range(degree[p]):
                new &= links[p, e] != c
            if new:
                fresh[n] = c
                n += 1
        room = lesser(places[p] - degree[p], n)
        for j in range(room):
            links[p, degree[p] + j] = fresh[j * n // room]
        degree[p] += room


@njit
def lengthen(given, rows, far_ids, far_dist, room):
    """Let the last `room` candidates of each listed row give way to far ones (of its level), in order of distance."""
    L = given.ids.shape[1]
    for i in range(rows.shape[0]):
        p = rows[i]
        k = 0
        while k < L and given.ids[p, k] >= 0:
            k += 1
        k = lesser(k, greater(L - room, 0))
        for j in range(far_ids.shape[1]):
            if k == L or far_ids[i, j] < 0:
                break
            fresh = True
            for e in range(k):
                fresh &= given.ids[p, e] != far_ids[i, j]
            if not fresh:
                continue
            e = k
            while e > 0 and given.dist[p, e - 1] > far_dist[i, j]:
                given.ids[p, e] = given.ids[p, e - 1]
                given.dist[p, e] = given.dist[p, e - 1]
                e -= 1
            given.ids[p, e] = far_ids[i, j]
            given.dist[p, e] = far_dist[i, j]
            k += 1
        for j in range(k, L):
            given.ids[p, j] = -1
            given.dist[p, j] = FAR
