"""Bridges: links for rows where a walk towards some far target would end early.

The nearest candidates of a row in an island or in a family of near-equal rows never leave it, so no link does
either. A few hundred target rows, evenly taken, find such rows: one is *stuck* for a target when neither its links nor
their links lie nearer to it. A stuck row gets a link to where a greedy walk from the target towards it ends: the
nearest row of the far side's border. An invention of this engine.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.gemm import ROWS_PER_TILE, dot8, tile6x4
from vicinal.kernels.operands import greater, lesser
from vicinal.kernels.repair import attach
from vicinal.kernels.rows8 import numbers

__all__ = ["REGION", "add_bridges", "bridges", "least_over_links", "to_targets"]

_ZERO = np.int64(0)
_TILE = np.int64(ROWS_PER_TILE)
REGION = 64  # rows in cell order that are dense in stuck rows together, or not


@njit
def to_targets(codes, lanes, bias, shift, out, start, stop):
    """out[p, t] = half squared distance of row p to target t, shifted right to fit uint16."""
    groups_count = out.shape[1] // 16
    width = out.shape[1]
    groups = numbers(groups_count)
    scores = np.empty(ROWS_PER_TILE * width, np.int32)
    rows = np.empty(_TILE, np.int32)
    for b in range(start, stop, ROWS_PER_TILE):
        for r in range(ROWS_PER_TILE):
            rows[r] = lesser(b + r, stop - 1)
        for g in range(0, groups_count, 4):
            tile6x4(codes.rows, rows, 0, lanes, groups, g, bias, scores, g * 16, width)
        for r in range(lesser(ROWS_PER_TILE, stop - b)):
            offset = codes.offset[b + r]
            for t in range(width):
                out[b + r, t] = np.uint16(greater((offset - scores[r * width + t]) >> shift, 0))


@njit
def least_over_links(links, distances, out, start, stop):
    """out[p] = elementwise least of `distances` (n, targets) uint16 over the links of p."""
    width = distances.shape[1]
    for p in range(start, stop):
        for t in range(width):
            out[p, t] = 65535
        for e in range(links.shape[1]):
            s = links[p, e]
            if s < 0:
                break
            for t in range(width):
                a = distances[s, t]
                b = out[p, t]
                out[p, t] = a if a < b else b  # noqa: FURB136 - min() of uint16 would widen


@njit
def _walk(codes, links, here, p, steps):
    """Walk greedily from row `here` towards row p without stepping on it; give where it ends."""
    best = dot8(codes.rows, here, p) - codes.half[here]
    for _ in range(steps):
        following = np.int64(-1)
        for e in range(links.shape[1]):
            s = np.int64(links[here, e])
            if s < 0:
                break
            if s == p:
                continue
            score = dot8(codes.rows, s, p) - codes.half[s]
            if score > best:
                best = score
                following = s
        if following < 0:
            break
        here = following
    return here


@njit
def _bridge_row(codes, links, targets, distances, p, wanted, n, steps, out, count):
    """Bridge row p towards targets wanted[:n], nearest first, until its row of `out` is full.

    A target that a bridge of this call already leads nearer to needs none.
    """
    first = count[p]
    while n > 0 and count[p] < out.shape[1]:
        b = 0
        for j in range(1, n):
            if distances[p, wanted[j]] < distances[p, wanted[b]]:
                b = j
        t = wanted[b]
        n -= 1
        wanted[b] = wanted[n]
        served = False
        for j in range(first, count[p]):
            served |= distances[out[p, j], t] < distances[p, t]
        if served:
            continue
        end = _walk(codes, links, np.int64(targets[t]), np.int64(p), steps)
        fresh = True
        for j in range(count[p]):
            fresh &= out[p, j] != end
        for e in range(links.shape[1]):
            fresh &= links[p, e] != end
        if fresh:
            out[p, count[p]] = end
            count[p] += 1


@njit
def _stuck_for(links, targets, distances, least, p, low, wanted):
    """List in `wanted` the targets for which row p is stuck within two hops; give how many."""
    width = distances.shape[1]
    n = 0
    for t in range(width):
        low[t] = least[p, t]
        n += 1 if distances[p, t] < low[t] else 0
    if n == 0:
        return 0
    for e in range(links.shape[1]):
        s = links[p, e]
        if s < 0:
            break
        for t in range(width):
            a = least[s, t]
            low[t] = a if a < low[t] else low[t]  # noqa: FURB136
    n = 0
    for t in range(width):
        if distances[p, t] <= low[t] and distances[p, t] < least[p, t] and targets[t] != p:
            wanted[n] = t
            n += 1
    return n


@njit
def bridges(codes, links, targets, distances, least, dense, steps, out, count, stuck, regions, start, stop):
    """Find bridges of rows start .. stop (a multiple of REGION) towards `targets`; they go to out[p, : count[p]].

    distances, least: of `to_targets` and `least_over_links`. Regions with at least `dense` stuck rows (islands,
    families) are noted in `regions`: there, rows without a nearer link of their own get bridges too, and later targets
    need no look at the links' links.
    """
    width = distances.shape[1]
    low = np.empty(width, np.uint16)
    wanted = np.empty(width, np.int32)
    full = out.shape[1]
    for first in range(start, stop, REGION):
        end = lesser(first + REGION, stop)
        found = 0
        if regions[first // REGION] == 0:
            for p in range(first, end):
                if count[p] == full:
                    continue
                n = _stuck_for(links, targets, distances, least, p, low, wanted)
                stuck[p] += n
                if n:
                    found += 1
                    _bridge_row(codes, links, targets, distances, p, wanted, n, steps, out, count)
        if found >= dense:
            regions[first // REGION] = 1
        if regions[first // REGION] == 0:
            continue
        for p in range(first, end):
            if count[p] == full:
                continue
            n = _ZERO
            for t in range(width):
                if distances[p, t] < least[p, t] and targets[t] != p:
                    wanted[n] = t
                    n += 1
            _bridge_row(codes, links, targets, distances, p, wanted, n, steps, out, count)


@njit
def add_bridges(links, degree, places, out, count):
    """Link bridges both ways, in one sequential pass: in free places, else over a row's last links; give how many."""
    n = links.shape[0]
    replaced = np.zeros(n, np.int32)
    added = 0
    for p in range(n):
        for j in range(count[p]):
            for turn in range(2):
                a = p if turn == 0 else out[p, j]
                b = out[p, j] if turn == 0 else p
                fresh = True
                for e in range(degree[a]):
                    fresh &= links[a, e] != b
                if fresh and attach(links, degree, places, replaced, np.int64(a), np.int64(b)):
                    added += 1
    return added
