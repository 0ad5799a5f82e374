"""One new row into a finished graph, in one call: by itself, a call costs as much as most of the steps.

And candidates that another search found, measured on the codes of the links.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.back_links import patch_targets
from vicinal.kernels.build import FAR
from vicinal.kernels.gemm import dot8
from vicinal.kernels.operands import fetch, lesser
from vicinal.kernels.patch import anchor, count_incoming, link_lonely
from vicinal.kernels.prune import select, top_up
from vicinal.kernels.rejoin import cut_off, rejoin
from vicinal.kernels.simd import SENTINEL

__all__ = ["insert_row", "measure_found"]

_AHEAD = np.int64(4)  # rows whose codes are on their way


@njit
def measure_found(codes, rows, ids, out, start, stop):
    """Sort ids (rows, any) uint32, SENTINEL in unused places, by how far they are from rows[start:stop], into `out`.

    `out` has as many places a row; unused ones hold -1.
    """
    width = codes.rows.shape[1]
    for b in range(start, stop):
        p = np.int64(rows[b])
        offset = codes.offset[p]
        n = 0
        for j in range(ids.shape[1]):
            if ids[b, j] == SENTINEL:
                break
            n += 1
        for j in range(lesser(n, _AHEAD)):
            for line in range(0, width, 64):
                fetch(codes.rows, np.int64(ids[b, j]) * width + line)
        for j in range(n):
            if j + _AHEAD < n:
                for line in range(0, width, 64):
                    fetch(codes.rows, np.int64(ids[b, j + _AHEAD]) * width + line)
            t = np.int64(ids[b, j])
            dist = np.int32(offset - (dot8(codes.rows, t, p) - codes.half[t]))
            at = j  # they come nearly in order
            while at > 0 and out.dist[b, at - 1] > dist:
                out.dist[b, at], out.ids[b, at] = out.dist[b, at - 1], out.ids[b, at - 1]
                at -= 1
            out.dist[b, at], out.ids[b, at] = dist, t
        for j in range(n, ids.shape[1]):
            out.ids[b, j], out.dist[b, j] = -1, FAR


@njit
def _listed(list_, count, row):
    """Whether a row is among the first `count` of a list."""
    for i in range(count):  # noqa: SIM110 - numba has no any()
        if list_[i] == row:
            return True
    return False


@njit
def _note(touched, count, first):
    """Keep entries first .. count - 1 that are not listed before; give how many entries there are then."""
    n = first
    for i in range(first, count):
        if not _listed(touched, n, touched[i]):
            touched[n] = touched[i]
            n += 1
    return n


@njit
def insert_row(codes, links, degree, incoming, rows, found, chosen, most, num, den, touched):
    """Link row rows[0] and patch the links back, as `select` to `anchor` do for many.

    found (1, any): its candidates; chosen (1, width): room for the links' ids and distances; most: links to choose,
    the nearest candidates fill the row up. Rows that changed, without the new one, go to `touched`; gives how many.
    """
    width = np.int64(links.shape[1])
    counts, places = np.empty(1, np.int32), np.full(1, width, np.int32)
    select(codes, found, most, num, den, chosen.ids, chosen.dist, counts, 0, 1)
    p, k = np.int64(rows[0]), np.int64(counts[0])
    targets = chosen.ids[0, :k].copy()
    top_up(chosen.ids, counts, places, found.ids, 0, 1)
    for j in range(width):
        links[p, j] = chosen.ids[0, j]
    degree[p] = counts[0]
    before, cut = np.empty((k, width), np.int32), np.empty((k, width), np.uint8)
    starts, sources = np.empty(k + 1, np.int64), np.empty(k, np.int32)
    starts[k] = k
    for i in range(k):
        touched[i] = targets[i]
        starts[i], sources[i] = i, p
        for e in range(width):
            before[i, e] = links[targets[i], e]
    count_incoming(links, rows, incoming, 1)
    count_incoming(links, targets, incoming, -1)
    patch_targets(codes, links, degree, targets, starts, sources, chosen.dist[0], num, den, 0, k)
    count_incoming(links, targets, incoming, 1)
    n = k + link_lonely(links, degree, rows, incoming, touched[k:])
    lost = np.empty(1, np.int32)
    for z in before.flat:
        if z >= 0 and incoming[z] == 0:
            lost[0] = z
            n += link_lonely(links, degree, lost, incoming, touched[n:])
    cut_off(codes, links, targets, before, cut, 0, k)
    n += rejoin(codes, links, degree, incoming, targets, before, cut, touched[n:])
    n += anchor(links, degree, incoming, rows, found.ids, targets, p, p + 1, touched[n:])
    return _note(touched, n, k)
