"""Insertion into a finished graph: search it as it is, compare the new rows among themselves, lead to all of them.

Rows of a batch search the graph of the rows before it, so nothing is written while anything reads; links are then
grouped by target and every target is rewritten once (`back_links`). Links are (n, 32) int32, -1 in unused places.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.build import BLOCK_ROWS, BUFFER, FAR, scan_groups, set_down
from vicinal.kernels.detours import has_detour, leads
from vicinal.kernels.gemm import LOW, dot8
from vicinal.kernels.operands import fetch, greater, lesser
from vicinal.kernels.threshold import shrink

__all__ = [
    "COPIES_BELOW",
    "anchor",
    "attach_copies",
    "count_incoming",
    "equal_rows",
    "insert_key",
    "link_lonely",
    "meet",
    "place_for_copy",
    "search_frozen",
]

_KEYS = np.int64(1 << 32)
COPIES_BELOW = 4  # copies that hang below a row at most


@njit
def insert_key(beam, size, limit, key):
    """Insert a key into a sorted list of at most `limit`; give (place, size), place = limit when it is too far."""
    if size == limit and key >= beam[size - 1]:
        return limit, size
    low = np.int64(0)
    high = size
    while low < high:
        middle = (low + high) >> 1
        if beam[middle] < key:
            low = middle + 1
        else:
            high = middle
    if size < limit:
        size += 1
    for j in range(size - 1, low, -1):
        beam[j] = beam[j - 1]
    beam[low] = key
    return low, size


@njit
def search_frozen(codes, links, rows, entries, beam, marks, stamp, out, start, stop):
    """Beam search for rows[start:stop], each from its entry; the nearest found go to `out`, a row each.

    A key of the beam is distance, row and an expanded bit in one int64; its length is ef. marks (n,) int32 holds the
    stamp of the last search that saw a row; stamps from `stamp` on are new.
    """
    ef = beam.shape[0]
    width = codes.rows.shape[1]
    fresh = np.empty(np.int64(links.shape[1]), np.int32)
    for b in range(start, stop):
        p = np.int64(rows[b])
        seen = np.int32(stamp + b - start)
        here = np.int64(entries[b])
        offset = codes.offset[p]
        dist = np.int64(offset - (dot8(codes.rows, here, p) - codes.half[here]))
        beam[0] = dist * _KEYS + here * 2
        size = np.int64(1)
        marks[here] = seen
        marks[p] = seen
        at = np.int64(0)
        while at < size:
            if beam[at] & 1:
                at += 1
                continue
            u = (beam[at] & 0xFFFFFFFF) >> 1
            beam[at] |= 1
            following = at + 1
            m = 0
            for e in range(links.shape[1]):
                j = links[u, e]
                if j < 0:
                    break
                if marks[j] != seen:
                    marks[j] = seen
                    fresh[m] = j
                    m += 1
                    for line in range(0, width, 64):
                        fetch(codes.rows, np.int64(j) * width + line)
            for e in range(m):
                j = np.int64(fresh[e])
                dist = np.int64(offset - (dot8(codes.rows, j, p) - codes.half[j]))
                place, size = insert_key(beam, size, ef, dist * _KEYS + j * 2)
                following = lesser(following, place)
            at = following
        for j in range(out.ids.shape[1]):
            out.ids[b, j] = (beam[j] & 0xFFFFFFFF) >> 1 if j < size else -1
            out.dist[b, j] = beam[j] >> 32 if j < size else FAR


@njit
def meet(codes, rows, given, panel, groups, out, start, stop):
    """Compare rows[start:stop] with the panel of their whole batch; keep the best of `given` and those found.

    groups: the panel's groups, padded to a multiple of four.
    """
    L = given.ids.shape[1]
    scores = np.empty((BLOCK_ROWS, BUFFER), np.int32)
    ids = np.empty((BLOCK_ROWS, BUFFER), np.int32)
    filled = np.empty(BLOCK_ROWS, np.int64)
    least = np.empty(BLOCK_ROWS, np.int32)
    block = np.empty(BLOCK_ROWS, np.int32)
    sorted_scores = np.empty(BUFFER, np.int32)
    sorted_ids = np.empty(BUFFER, np.int32)
    for first in range(start, stop, BLOCK_ROWS):
        m = lesser(BLOCK_ROWS, stop - first)
        for r in range(BLOCK_ROWS):
            block[r] = rows[first + lesser(r, m - 1)]
        for r in range(m):
            offset = codes.offset[block[r]]
            c = 0
            while c < L and given.ids[first + r, c] >= 0:
                scores[r, c] = offset - given.dist[first + r, c]
                ids[r, c] = given.ids[first + r, c]
                c += 1
            filled[r] = c
            least[r] = scores[r, c - 1] if c == L else np.int32(LOW // 2)
        scan_groups(codes, block, m, panel, groups, groups.shape[0], L + 1, scores, ids, filled, least)
        for r in range(m):
            c = filled[r]
            if c > L + 33:
                c, _ = shrink(scores[r], ids[r], c, L + 17)
            set_down(
                scores[r],
                ids[r],
                c,
                block[r],
                codes.offset[block[r]],
                out.ids[first + r],
                out.dist[first + r],
                sorted_scores,
                sorted_ids,
            )


@njit
def equal_rows(codes, i, j):
    """Whether two rows have the same codes."""
    if codes.half[i] != codes.half[j] or codes.offset[i] != codes.offset[j]:
        return False
    for e in range(codes.rows.shape[1]):  # noqa: SIM110 - numba has no all()
        if codes.rows[i, e] != codes.rows[j, e]:
            return False
    return True


@njit
def count_incoming(links, rows, incoming, step):
    """Add `step` to the count of every row that the given rows link to."""
    for i in range(rows.shape[0]):
        for e in range(links.shape[1]):
            t = links[rows[i], e]
            if t < 0:
                break
            incoming[t] += step


@njit
def _give(links, degree, incoming, q, p):
    """Link q -> p in a free place, or over q's farthest link that has a detour; False when there is none."""
    place = np.int64(degree[q])
    if place == links.shape[1]:
        place -= 1
        while place >= 0 and not has_detour(links, q, np.int64(links[q, place])):
            place -= 1
        if place < 0:
            return False
        incoming[links[q, place]] -= 1
    else:
        degree[q] += 1
    links[q, place] = p
    incoming[p] += 1
    return True


@njit
def link_lonely(links, degree, rows, incoming, touched):
    """Give every listed row without an incoming link one from its nearest link that can spare a place.

    Rows that give are listed in `touched`; gives how many.
    """
    count = 0
    for i in range(rows.shape[0]):
        p = np.int64(rows[i])
        if incoming[p] > 0:
            continue
        for e in range(degree[p]):
            q = np.int64(links[p, e])
            if _give(links, degree, incoming, q, p):
                touched[count] = q
                count += 1
                break
    return count


@njit
def _spread(links, reached, queue, head, tail, first):
    """Visit rows from `first` on, breadth first from queue[head:tail]; reached and queue count from `first`."""
    while head < tail:
        p = queue[head]
        head += 1
        for e in range(links.shape[1]):
            t = np.int64(links[p, e])
            if t < 0:
                break
            if t >= first and reached[t - first] == 0:
                reached[t - first] = 1
                queue[tail] = t
                tail += 1
    return tail


@njit
def anchor(links, degree, incoming, rows, old, targets, first, stop, touched):
    """Lead from older rows, those before `first`, to every new row: a batch may link to nothing but itself.

    old (rows, any) holds each row's nearest older rows, -1 ends; targets: the rows patched. Older rows that give a link
    are listed in `touched`; gives how many.
    """
    reached = np.zeros(stop - first, np.uint8)
    queue = np.empty(stop - first, np.int32)
    tail = np.int64(0)
    for i in range(targets.shape[0]):
        if targets[i] >= first:
            continue
        for e in range(links.shape[1]):
            t = np.int64(links[targets[i], e])
            if t >= first and reached[t - first] == 0:
                reached[t - first] = 1
                queue[tail] = t
                tail += 1
    tail = _spread(links, reached, queue, np.int64(0), tail, first)
    count = 0
    for i in range(rows.shape[0]):
        p = np.int64(rows[i])
        if reached[p - first]:
            continue
        for e in range(old.shape[1]):
            q = np.int64(old[i, e])
            if q < 0 or not _give(links, degree, incoming, q, p):
                continue
            _give(links, degree, incoming, p, q)
            touched[count] = q
            count += 1
            reached[p - first] = 1
            queue[tail] = p
            tail = _spread(links, reached, queue, tail, tail + 1, first)
            break
    return count


@njit
def place_for_copy(links, degree, node, copies):
    """Give the place of `node` that a copy may take: a free one, or that of a link with a detour; else -1.

    copies: one bit per place that holds a copy.
    """
    width = np.int64(links.shape[1])
    if degree[node] < width:
        return np.int64(degree[node])
    place = width - 1
    while place >= 0 and ((copies >> place) & 1 or not has_detour(links, node, np.int64(links[node, place]))):
        place -= 1
    return place


@njit
def attach_copies(codes, links, degree, rows, owners, incoming, touched):
    """Hang row rows[i] below owners[i], a row with equal codes: at most four per row, the others further down.

    A child is a link to an equal row of larger number. The copy takes its parent's other links as the way out. Parents
    are listed in `touched`, one for each copy.
    """
    width = np.int64(links.shape[1])
    for i in range(rows.shape[0]):
        p = np.int64(rows[i])
        node = np.int64(owners[i])
        turn = p
        while True:
            children = 0
            copies = np.int64(0)
            down = np.int64(-1)
            for e in range(degree[node]):
                t = np.int64(links[node, e])
                if equal_rows(codes, t, node):
                    copies |= np.int64(1) << e
                    if t > node:
                        if down < 0 or children == turn % COPIES_BELOW:
                            down = t
                        children += 1
            place = place_for_copy(links, degree, node, copies)
            if (children < COPIES_BELOW and place >= 0) or down < 0:
                break
            node = down
            turn //= COPIES_BELOW
        n = np.int64(0)
        for e in range(degree[node]):
            if n < width - COPIES_BELOW - 1 and not (copies >> e) & 1:
                links[p, n] = links[node, e]
                incoming[links[p, n]] += 1
                n += 1
        links[p, n] = node
        incoming[node] += 1
        degree[p] = n + 1
        place = greater(place, 0)
        if place == degree[node]:
            degree[node] += 1
        else:  # what `node` no longer leads to, the copy does
            lost = links[node, place]
            incoming[lost] -= 1
            if not leads(links, p, lost):
                links[p, n + 1] = lost
                incoming[lost] += 1
                degree[p] = n + 2
        links[node, place] = p
        incoming[p] += 1
        touched[i] = node
