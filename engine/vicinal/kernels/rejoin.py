"""Links that a patch drops, and the ways that are left around them.

When every link q -> z that was dropped leaves another way from q to z, every row that was reachable still is: any path
keeps its ends when each dropped link on it is replaced by such a way. Mostly there is one of two or three links, as the
heuristic drops z where a nearer neighbour of q leads to it; else a narrow search from q may come upon z. Where none of
these does, as after a bridge between islands was dropped, a way is made.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.detours import has_detour, leads
from vicinal.kernels.gemm import dot8
from vicinal.kernels.operands import fetch, lesser
from vicinal.kernels.patch import insert_key

__all__ = ["cut_off", "rejoin"]

_LOW = np.int32(-(1 << 31))
_KEYS = np.int64(1 << 32)
_BITS = 1 << 10
_MASK = np.int64(_BITS - 1)
_EF = 24  # rows of the narrow search


@njit
def _has(near, t):
    """Whether row t may be in a set of bits."""
    bit = t & _MASK
    return (near[bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1)


@njit
def _by_three(links, q, z, near):
    """Whether a way of three links leads from q to z, the last of them of a row that z links to as well.

    near: room for a set of bits.
    """
    near[:] = 0
    for e in range(links.shape[1]):
        t = np.int64(links[z, e])
        if t < 0:
            break
        fetch(links, t * links.shape[1])
    for e in range(links.shape[1]):
        t = np.int64(links[z, e])
        if t < 0:
            break
        if leads(links, t, z):
            bit = t & _MASK
            near[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
    for e in range(links.shape[1]):
        s = np.int64(links[q, e])
        if s < 0:
            break
        if s == z:
            continue
        for j in range(links.shape[1]):
            t = np.int64(links[s, j])
            if t < 0:
                break
            if _has(near, t) and leads(links, z, t) and leads(links, t, z):
                return True
    return False


@njit
def _walks_to(codes, links, q, z, beam):
    """Whether a narrow search from q towards z comes upon it; beam: room for its keys, of distance, row and a bit."""
    offset, ef = codes.offset[z], beam.shape[0]
    beam[0] = np.int64(offset - (dot8(codes.rows, q, z) - codes.half[q])) * _KEYS + q * 2
    size, at = np.int64(1), np.int64(0)
    while at < size:
        if beam[at] & 1:
            at += 1
            continue
        u = (beam[at] & 0xFFFFFFFF) >> 1
        beam[at] |= 1
        following = at + 1
        for e in range(links.shape[1]):
            t = np.int64(links[u, e])
            if t < 0:
                break
            if t == z:
                return True
            key = np.int64(offset - (dot8(codes.rows, t, z) - codes.half[t])) * _KEYS + t * 2
            known = False
            for j in range(size):
                known |= (beam[j] | 1) == (key | 1)
            if not known:
                place, size = insert_key(beam, size, ef, key)
                following = lesser(following, place)
        at = following
    return False


@njit
def cut_off(codes, links, rows, before, out, start, stop):
    """out[i, e] = 1 where rows[i] has dropped its link before[i, e] and no other way there is found."""
    near, beam = np.zeros(_BITS >> 6, np.uint64), np.empty(_EF, np.int64)
    for i in range(start, stop):
        q = np.int64(rows[i])
        for e in range(before.shape[1]):
            z = np.int64(before[i, e])
            lost = z >= 0 and not leads(links, q, z)
            lost = lost and not has_detour(links, q, z) and not _by_three(links, q, z, near)
            out[i, e] = lost and not _walks_to(codes, links, q, z, beam)


@njit
def _spare_place(links, degree, q, z):
    """Give a place of q for a link to z: a free one, or the last of a link with a detour; -1 when there is none."""
    if degree[q] < links.shape[1]:
        return np.int64(degree[q])
    place = np.int64(links.shape[1] - 1)
    while place >= 0 and (links[q, place] == z or not has_detour(links, q, np.int64(links[q, place]))):
        place -= 1
    return place


@njit
def rejoin(codes, links, degree, incoming, rows, before, cut, touched):
    """Lead to every row that was cut off (`cut_off`) from the nearest linked row that can spare a place.

    Rows that give a link are listed in `touched`, at most one for each row cut off; gives how many.
    """
    count = 0
    width = links.shape[1]
    asked = np.empty(np.int64(width), np.uint8)
    for i in range(rows.shape[0]):
        q = np.int64(rows[i])
        for j in range(before.shape[1]):
            z = np.int64(before[i, j])
            if not cut[i, j] or leads(links, q, z) or has_detour(links, q, z):
                continue
            asked[:] = 0
            for _ in range(degree[q]):
                best, nearest = _LOW, np.int64(-1)
                for e in range(degree[q]):
                    score = dot8(codes.rows, np.int64(links[q, e]), z) - codes.half[links[q, e]]
                    if asked[e] == 0 and score > best:
                        best, nearest = score, np.int64(e)
                asked[nearest] = 1
                t = np.int64(links[q, nearest])
                place = _spare_place(links, degree, t, z)
                if place < 0:
                    continue
                if place == degree[t]:
                    degree[t] += 1
                else:
                    incoming[links[t, place]] -= 1
                links[t, place] = z
                incoming[z] += 1
                touched[count] = t
                count += 1
                break
    return count
