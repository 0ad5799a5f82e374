"""Taking rows out of a finished graph: every row that linked to one is linked again, to what that one linked to.

Links are (n, 32) int32, -1 in unused places, as in `patch`. A removed row keeps its own links, so that searches which
stand on it go on; nothing links to it afterwards. Copies that hung below it move up (`promote_copies`).
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.build import BUFFER
from vicinal.kernels.gemm import dot8
from vicinal.kernels.operands import fetch, greater, lesser
from vicinal.kernels.patch import COPIES_BELOW, equal_rows, place_for_copy
from vicinal.kernels.prune import PRUNED_MAX, prune, prune_room
from vicinal.kernels.threshold import SLACK, rank_sort, shrink

__all__ = ["count_links", "promote_copies", "relink", "rows_to_relink"]

_MOST = np.int64(240)  # candidates of a row that is linked again
_SHORT = np.int64(PRUNED_MAX - SLACK)
_ROUTES = np.int64(128)  # removed rows whose links are candidates
_LEAST = 8  # links that a row is given at least, half of what it chooses at insertion


@njit
def _living(dead, heir, t):
    """Give t, or the row that took its place, or -1."""
    while t >= 0 and dead[t]:
        t = np.int64(heir[t])
    return t


@njit
def _tidy(codes, links, degree, dead, heir, node):
    """Let the heirs of removed copies below `node` hang in their places; removed ones without an heir stay."""
    for e in range(degree[node]):
        t = np.int64(links[node, e])
        if dead[t] and t > node and equal_rows(codes, t, node):
            h = _living(dead, heir, t)
            for j in range(degree[node]):
                if links[node, j] == h:
                    h = np.int64(-1)
            if h >= 0:
                links[node, e] = h


@njit
def _hang(codes, links, degree, dead, heir, node, copy):
    """Hang a copy, with all that hangs below it, under an equal row of smaller number: numbers ascend downwards."""
    turn = copy
    while True:
        _tidy(codes, links, degree, dead, heir, node)
        children = 0
        copies = np.int64(0)
        down, at = np.int64(-1), np.int64(-1)
        for e in range(degree[node]):
            t = np.int64(links[node, e])
            if t == copy:
                return
            if not equal_rows(codes, t, node):
                continue
            copies |= np.int64(1) << e
            if t > node and not dead[t]:
                if t < copy and (down < 0 or children == turn % COPIES_BELOW):
                    down = t
                if t > copy:
                    at = np.int64(e)
                children += 1
        place = place_for_copy(links, degree, node, copies)
        if (children < COPIES_BELOW and place >= 0) or children == 0:
            place = greater(place, 0)
            if place == degree[node]:
                degree[node] += 1
            links[node, place] = copy
            return
        turn //= COPIES_BELOW
        if down >= 0:
            node = down
        else:  # every copy there comes after this one: the last of them moves below it
            last = np.int64(links[node, at])
            links[node, at] = copy
            node, copy = copy, last


@njit
def promote_copies(codes, links, degree, dead, gone, heir):
    """Let the first copy below every removed row take its place; the others hang below that one.

    gone: rows just removed, the largest number first, all of them in `dead`; heir (n,) int32, -1 throughout, receives
    who takes whose place.
    """
    for i in range(gone.shape[0]):
        r = np.int64(gone[i])
        first = np.int64(-1)
        for e in range(degree[r]):
            t = np.int64(links[r, e])
            if t > r and equal_rows(codes, t, r):
                t = _living(dead, heir, t)
                if t >= 0 and (first < 0 or t < first):
                    first = t
        heir[r] = first
        if first < 0:
            continue
        for e in range(degree[r]):
            t = np.int64(links[r, e])
            if t > r and equal_rows(codes, t, r):
                t = _living(dead, heir, t)
                if t >= 0 and t != first:
                    _hang(codes, links, degree, dead, heir, first, t)


@njit
def rows_to_relink(links, dead, out):
    """List the rows that are not removed and link to one that is; give how many."""
    count = 0
    for p in range(links.shape[0]):
        if dead[p]:
            continue
        for e in range(links.shape[1]):
            t = links[p, e]
            if t < 0:
                break
            if dead[t]:
                out[count] = p
                count += 1
                break
    return count


@njit
def _own_links(codes, links, degree, dead, heir, p, marks, seen, ids, copies, routes):
    """List a row's links: kept ones and heirs in `ids`, copies below it in `copies`, removed ones in `routes`."""
    n = hung = m = np.int64(0)
    for e in range(degree[p]):
        t = np.int64(links[p, e])
        if dead[t]:
            h = _living(dead, heir, t)
            if h < 0 or h == p:
                if m < _ROUTES and marks[t] != seen:
                    marks[t] = seen
                    routes[m] = t
                    m += 1
                continue
            t = h
        if marks[t] == seen:
            continue
        marks[t] = seen
        if t > p and equal_rows(codes, t, p):
            copies[hung] = t
            hung += 1
        else:
            ids[n] = t
            n += 1
    return n, hung, m


@njit
def _follow(codes, links, dead, heir, p, marks, seen, ids, n, routes, m):
    """Add what the removed rows linked to; while that is too little, what the removed ones among those linked to."""
    first = m
    at = np.int64(0)
    while at < m and n < _MOST and (at < first or n < links.shape[1]):
        u = np.int64(routes[at])
        at += 1
        for e in range(links.shape[1]):
            t = np.int64(links[u, e])
            if t < 0 or n == _MOST:
                break
            if marks[t] == seen:
                continue
            marks[t] = seen
            if dead[t]:
                h = _living(dead, heir, t)
                if h < 0:
                    if m < _ROUTES:
                        routes[m] = t
                        m += 1
                    continue
                if marks[h] == seen:
                    continue
                marks[h] = seen
                t = h
            if t > p and equal_rows(codes, t, p):  # hangs elsewhere
                continue
            ids[n] = t
            n += 1
    return n


@njit
def relink(codes, links, degree, dead, heir, rows, marks, stamp, num, den, start, stop):
    """Choose the links of rows[start:stop] again among those kept and those of the removed rows they linked to.

    The heuristic chooses; the nearest of the others fill the row up to as many links as it had. marks (n,) int32 holds
    the stamp of the last row that saw a row; stamps from `stamp` on are new.
    """
    room = prune_room(codes.rows.shape[1])
    width = np.int64(links.shape[1])
    scores, ids = np.empty(BUFFER, np.int32), np.empty(BUFFER, np.int32)
    sorted_scores, sorted_ids = np.empty(BUFFER, np.int32), np.empty(BUFFER, np.int32)
    copies, routes = np.empty(width, np.int32), np.empty(_ROUTES, np.int32)
    for i in range(start, stop):
        p = np.int64(rows[i])
        seen = np.int32(stamp + i - start)
        marks[p] = seen
        n, hung, m = _own_links(codes, links, degree, dead, heir, p, marks, seen, ids, copies, routes)
        n = _follow(codes, links, dead, heir, p, marks, seen, ids, n, routes, m)
        offset = codes.offset[p]
        for j in range(n):
            if j + 4 < n:
                for line in range(0, codes.rows.shape[1], 64):
                    fetch(codes.rows, np.int64(ids[j + 4]) * codes.rows.shape[1] + line)
            t = np.int64(ids[j])
            scores[j] = dot8(codes.rows, t, p) - codes.half[t] - offset
        if n > PRUNED_MAX:
            n, _ = shrink(scores, ids, n, _SHORT)
        rank_sort(scores, ids, n, sorted_scores, sorted_ids)
        for j in range(n):
            room.ids[j] = sorted_ids[j]
            room.dist[j] = -sorted_scores[j]
        most = width - hung
        k = prune(codes, room, n, most, num, den) if n else 0
        wanted = lesser(most, greater(degree[p] - hung, _LEAST))
        for j in range(k):
            links[p, j] = room.ids[room.kept[j]]
        e = 0
        filled = np.int64(k)
        for j in range(n):
            if filled >= wanted:
                break
            if e < k and room.kept[e] == j:
                e += 1
            else:
                links[p, filled] = room.ids[j]
                filled += 1
        for j in range(hung):
            links[p, filled + j] = copies[j]
        degree[p] = filled + hung
        for j in range(filled + hung, width):
            links[p, j] = -1


@njit
def count_links(links, dead, incoming):
    """Count how many links of rows that are not removed lead to each row."""
    for p in range(incoming.shape[0]):
        incoming[p] = 0
    for p in range(links.shape[0]):
        if dead[p]:
            continue
        for e in range(links.shape[1]):
            t = links[p, e]
            if t < 0:
                break
            incoming[t] += 1
