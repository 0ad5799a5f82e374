"""Every row reachable: repair of cut-off rows, copies hung below their owner, links back to the caller's rows."""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.gemm import dot8
from vicinal.kernels.operands import greater, lesser
from vicinal.kernels.simd import SENTINEL

__all__ = ["EVERY", "attach", "components", "hang_copies", "reach", "rename", "repair"]

_ROUNDS = 8
_FULL_SCANS = 64  # islands joined by a scan of all rows; later ones scan a sample
_SAMPLE = 4096
_NONE = np.uint32(SENTINEL)
EVERY = np.zeros(0, np.uint8)  # no row is left out


@njit
def reach(links, queue, seen, head, tail):
    """Visit breadth first from queue[head:tail]; give the new end of the queue. -1 ends a row of links."""
    while head < tail:
        p = queue[head]
        head += 1
        for j in range(links.shape[1]):
            t = links[p, j]
            if t < 0:
                break
            if not seen[t]:
                seen[t] = 1
                queue[tail] = t
                tail += 1
    return tail


@njit
def attach(links, degree, places, replaced, q, p):
    """Link q -> p in a free place, else over q's last link that was not placed so; False when a quarter was.

    places: how many links each row may have; replaced: how many of its links were overwritten.
    """
    width = places[q]
    if degree[q] < width:
        links[q, degree[q]] = p
        degree[q] += 1
        return True
    if replaced[q] >= width // 4:
        return False
    replaced[q] += 1
    links[q, width - replaced[q]] = p
    return True


@njit
def _from_candidates(links, degree, places, ids, replaced, queue, seen, tail):
    """Link each unreached row from its nearest reached candidate; give (rows linked, end of the queue)."""
    fixed = 0
    for p in range(links.shape[0]):
        if seen[p]:
            continue
        for j in range(ids.shape[1]):
            q = ids[p, j]
            if q < 0:
                break
            if seen[q] and attach(links, degree, places, replaced, np.int64(q), p):
                fixed += 1
                seen[p] = 1
                queue[tail] = p
                tail = reach(links, queue, seen, tail, tail + 1)
                break
    return fixed, tail


@njit
def _nearest_reached(codes, degree, places, replaced, seen, p, step):
    """Give the reached row nearest to p that can take a link, among every `step`-th; -1 when there is none."""
    best = np.int32(-(1 << 31))
    found = -1
    for t in range(0, degree.shape[0], step):
        if seen[t] and (degree[t] < places[t] or replaced[t] < places[t] // 4):
            score = dot8(codes.rows, t, p) - codes.half[t]
            if score > best:
                best = score
                found = t
    return found


@njit
def repair(codes, links, degree, places, ids, entry, left_out):
    """Make every row reachable from `entry`: one sequential pass; give (rows linked, islands joined, rows left).

    An unreached row is linked from its nearest reached candidate (`ids`); when no unreached row has one, from the
    nearest reached row of a scan, and back. A replaced link can cut off another row, hence up to eight rounds. Rows
    marked in left_out (n,) uint8 (or of no length: none) need not be reached; their `places` are 0.
    """
    n = links.shape[0]
    wanted = n
    for p in range(left_out.shape[0]):
        wanted -= np.int64(left_out[p])
    replaced = np.zeros(n, np.int32)
    queue = np.empty(n, np.int32)
    fixed = 0
    islands = 0
    tail = 0
    for _ in range(_ROUNDS):
        seen = np.zeros(n, np.uint8)
        for p in range(left_out.shape[0]):
            seen[p] = left_out[p]
        queue[0] = entry
        seen[entry] = 1
        tail = reach(links, queue, seen, np.int64(0), np.int64(1))
        if tail == wanted:
            break
        while tail < wanted:
            linked, tail = _from_candidates(links, degree, places, ids, replaced, queue, seen, tail)
            fixed += linked
            if linked or tail == wanted:
                continue
            p = 0
            while seen[p]:
                p += 1
            step = 1 if islands < _FULL_SCANS else greater(1, n // _SAMPLE)
            q = _nearest_reached(codes, degree, places, replaced, seen, p, step)
            if q < 0 or not attach(links, degree, places, replaced, q, np.int64(p)):
                break
            if degree[p] < places[p]:
                links[p, degree[p]] = q
                degree[p] += 1
            islands += 1
            seen[p] = 1
            queue[tail] = p
            tail = reach(links, queue, seen, tail, tail + 1)
    return fixed, islands, wanted - tail


@njit
def rename(links, degree, names, out, out_degree, start, stop):
    """Write rows start .. stop as the caller knows them: row names[p], links names[...], SENTINEL where unused."""
    for p in range(start, stop):
        o = names[p]
        out_degree[o] = degree[p]
        for j in range(links.shape[1]):
            out[o, j] = np.uint32(names[links[p, j]]) if links[p, j] >= 0 else _NONE


@njit
def hang_copies(links, degree, own, arity):
    """Hang copies (own[i] != i) below their owner as a tree; each takes its owner's nearest links as the way out.

    An owner has at least `arity` free places. own[i] is -1 for rows that are not linked at all.
    """
    n = own.shape[0]
    width = links.shape[1]
    starts = np.zeros(n + 1, np.int64)
    for i in range(n):
        if own[i] >= 0 and own[i] != i:
            starts[own[i] + 1] += 1
    for i in range(n):
        starts[i + 1] += starts[i]
    place = starts.copy()
    members = np.empty(starts[n], np.int32)
    for i in range(n):
        if own[i] >= 0 and own[i] != i:
            members[place[own[i]]] = i
            place[own[i]] += 1
    for r in range(n):
        k = starts[r + 1] - starts[r]
        if k == 0:
            continue
        stay = degree[r]
        for x in range(-1, k):
            p = r if x < 0 else np.int64(members[starts[r] + x])
            m = stay
            if x >= 0:
                for j in range(stay - 1):
                    links[p, j] = links[r, j]
                links[p, greater(stay - 1, 0)] = np.uint32(r)
                m = greater(stay, 1)
            for c in range(arity * (x + 1), lesser(arity * (x + 2), k)):
                links[p, m] = np.uint32(members[starts[r] + c])
                m += 1
            degree[p] = m
            for j in range(m, width):
                links[p, j] = _NONE


@njit
def _root_of(root, p):
    """Find the root of a row's tree, halving the path."""
    while root[p] != p:
        root[p] = root[root[p]]
        p = root[p]
    return p


@njit
def components(ids, member):
    """Give the least row of each member's component; members are joined by their candidates `ids`, -1 for none."""
    n = ids.shape[0]
    root = np.empty(n, np.int32)
    for p in range(n):
        root[p] = p
    for p in range(n):
        if not member[p]:
            continue
        for j in range(ids.shape[1]):
            q = ids[p, j]
            if q >= 0 and member[q]:
                a = np.int64(_root_of(root, np.int64(p)))
                b = np.int64(_root_of(root, np.int64(q)))
                root[greater(a, b)] = lesser(a, b)
    for p in range(n):
        root[p] = _root_of(root, np.int64(p))
    return root
