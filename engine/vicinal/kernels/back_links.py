"""Links from old rows back to new ones.

A row of a built graph holds the links that the neighbour heuristic chose, nearest first, and then, up to the last
place, the nearest of those it passed over, nearest first: where the distances fall is the end of the chosen ones. A
newcomer is ranked among them by the same heuristic with two distances a link, to the row and to the newcomer, instead
of all distances between them, and the row stays full. (Choosing anew among all 33 takes four times as long; graphs are
as good.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.gemm import dot8
from vicinal.kernels.operands import fetch
from vicinal.kernels.patch import equal_rows

__all__ = ["fetch_targets", "patch_targets", "rank_room", "take_in"]

_AHEAD = 2  # targets whose links are on their way; one fewer whose links' codes are


class RankRoom(NamedTuple):
    """Scratch of `take_in`, a place for each link."""

    ids: NDArray[np.int32]
    copies: NDArray[np.int32]
    away: NDArray[np.int64]  # half squared distances to the row
    apart: NDArray[np.int64]  # to the newcomer
    passed: NDArray[np.int64]  # places of links that the newcomer makes needless


@njit
def rank_room(width):
    """Allocate the scratch of `take_in` for rows of `width` links."""
    return RankRoom(
        np.empty(width, np.int32),
        np.empty(width, np.int32),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
    )


@njit
def _measure(codes, links, p, c, room):
    """Read the links of a full row and their distances to it and to c; give how many are no copies that hang there."""
    offset, other = codes.offset[p], codes.offset[c]
    n, hung = np.int64(0), np.int64(0)
    for j in range(links.shape[1]):
        t = np.int64(links[p, j])
        if t > p and equal_rows(codes, t, p):
            room.copies[hung] = t
            hung += 1
            continue
        room.ids[n] = t
        room.away[n] = np.int64(offset - (dot8(codes.rows, t, p) - codes.half[t]))
        room.apart[n] = np.int64(other - (dot8(codes.rows, t, c) - codes.half[t]))
        n += 1
    return n


@njit
def _chosen(room, n):
    """How many links the heuristic chose: those before the first that is nearer than the one before it."""
    b = np.int64(1)
    while b < n and room.away[b] >= room.away[b - 1]:
        b += 1
    return b


@njit
def _pass_over(links, p, c, dist, room, b, n):
    """Put c among the links passed over, places b .. n - 1, unless all of them are nearer."""
    if b == n or room.away[n - 1] <= dist:
        return False
    e = n - 1
    while e > b and room.away[e - 1] > dist:
        e -= 1
    for j in range(e):
        links[p, j] = room.ids[j]  # copies may have stood between
    links[p, e] = c
    for j in range(e + 1, n):
        links[p, j] = room.ids[j - 1]
    return True


@njit
def _choose(links, p, c, room, b, n, at, num, den):
    """Put c at place `at` of the chosen links; those it makes needless join the ones passed over, and the last goes."""
    for j in range(at):
        links[p, j] = room.ids[j]
    links[p, at] = c
    out, m = at + 1, np.int64(0)
    for j in range(at, b):
        if room.apart[j] < room.away[j] * num // den:
            room.passed[m] = j
            m += 1
        elif out < n:
            links[p, out] = room.ids[j]
            out += 1
    i, j = np.int64(0), b
    while out < n:
        if j == n or (i < m and room.away[room.passed[i]] <= room.away[j]):
            links[p, out] = room.ids[room.passed[i]]
            i += 1
        else:
            links[p, out] = room.ids[j]
            j += 1
        out += 1


@njit
def take_in(codes, links, p, c, dist, num, den, room):
    """Rank row c, at half squared distance `dist`, among the links of the full row p; give whether p links to it now.

    Copies that hang below p stay, behind the others: nothing else leads to them.
    """
    n = _measure(codes, links, p, c, room)
    if n == 0:
        return False
    b = _chosen(room, n)
    bound, at, needless = dist * num // den, np.int64(0), False
    while at < b and room.away[at] <= dist:
        needless |= room.away[at] < dist and room.apart[at] < bound
        at += 1
    if needless:
        taken = _pass_over(links, p, c, dist, room, b, n)
    else:
        taken = at < n
        if taken:
            _choose(links, p, c, room, b, n, at, num, den)
    if taken:
        for j in range(n, links.shape[1]):
            links[p, j] = room.copies[j - n]
    return taken


@njit
def fetch_targets(codes, links, degree, targets, i, stop):
    """Start fetching what targets after the i-th are ranked by: the links of one, the codes of the links of another."""
    width = links.shape[1]
    if i + _AHEAD < stop:
        fetch(links, np.int64(targets[i + _AHEAD]) * width)
        fetch(links, np.int64(targets[i + _AHEAD]) * width + width - 1)
    if i + 1 >= stop or degree[targets[i + 1]] < width:
        return
    p, size = np.int64(targets[i + 1]), codes.rows.shape[1]
    for e in range(width):
        for line in range(0, size, 64):
            fetch(codes.rows, np.int64(links[p, e]) * size + line)


@njit
def patch_targets(codes, links, degree, targets, starts, sources, dists, num, den, start, stop):
    """Lead from targets[i] to sources[starts[i] : starts[i + 1]], whose half squared distances are `dists`."""
    width = np.int64(links.shape[1])
    room = rank_room(width)
    for i in range(start, stop):
        fetch_targets(codes, links, degree, targets, i, stop)
        p = np.int64(targets[i])
        for e in range(starts[i], starts[i + 1]):
            c, own = np.int64(sources[e]), np.int64(degree[p])
            new = True
            for j in range(own):
                new &= links[p, j] != c  # rows of one batch may have chosen each other
            if new and own < width:
                links[p, own] = c
                degree[p] = own + 1
            elif new:
                take_in(codes, links, p, c, np.int64(dists[e]), num, den, room)
