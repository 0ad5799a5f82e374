"""One new row into a finished graph, in one call: by itself, a call costs as much as most of the steps."""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.cluster import assign
from vicinal.kernels.patch import anchor, count_incoming, link_lonely, patch_targets, search_frozen
from vicinal.kernels.prune import select

__all__ = ["insert_row"]


@njit
def insert_row(
    codes, links, degree, incoming, rows, panel, groups, names, beam, marks, stamp, found, chosen, num, den, touched
):
    """Search for row rows[0], link it and patch the links back, as `search_frozen` to `anchor` do for many.

    panel, groups, names: the rows from the nearest of which the search starts, as `assign` takes them; found, chosen
    (1, any): room for the candidates and, ids and distances, the links. Rows that changed, without the new one, go to
    `touched`; gives how many.
    """
    best, counts = np.empty(1, np.int32), np.empty(1, np.int32)
    assign(codes, rows, panel.lanes, panel.bias, groups, names, best, 0, 1)
    search_frozen(codes, links, rows, best, beam, marks, stamp, found, 0, 1)
    select(codes, found, chosen.ids.shape[1], num, den, chosen.ids, chosen.dist, counts, 0, 1)
    p, k = np.int64(rows[0]), np.int64(counts[0])
    for j in range(k):
        links[p, j] = chosen.ids[0, j]
        touched[j] = chosen.ids[0, j]
    degree[p] = k
    targets = chosen.ids[0, :k]
    before = np.empty(k * links.shape[1], np.int32)
    starts, sources = np.empty(k + 1, np.int64), np.empty(k, np.int32)
    starts[k] = k
    for i in range(k):
        starts[i], sources[i] = i, p
        for e in range(links.shape[1]):
            before[i * links.shape[1] + e] = links[targets[i], e]
    count_incoming(links, rows, incoming, 1)
    count_incoming(links, targets, incoming, -1)
    patch_targets(codes, links, degree, targets, starts, sources, chosen.dist[0], num, den, 0, k)
    count_incoming(links, targets, incoming, 1)
    n = k + link_lonely(links, degree, rows, incoming, touched[k:])
    lost = np.empty(1, np.int32)
    for i in range(before.shape[0]):
        if before[i] >= 0 and incoming[before[i]] == 0:
            lost[0] = before[i]
            n += link_lonely(links, degree, lost, incoming, touched[n:])
    return n + anchor(links, degree, incoming, rows, found.ids, targets, p, p + 1, touched[n:])
