"""Detours: ways of two links around a link that is to be given up."""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit

__all__ = ["has_detour", "leads"]


@njit
def leads(links, p, t):
    """Whether row p links to t."""
    for e in range(links.shape[1]):
        if links[p, e] == t:
            return True
        if links[p, e] < 0:
            return False
    return False


@njit
def has_detour(links, q, z):
    """Whether a way of two links leads from q to z."""
    low, high = np.uint64(0), np.uint64(0)  # which rows q may link to, by seven of their bits
    for e in range(links.shape[1]):
        t = np.int64(links[q, e])
        if t < 0:
            break
        bit = np.uint64(1) << np.uint64(t & 63)
        low |= bit if t & 64 == 0 else np.uint64(0)
        high |= bit if t & 64 else np.uint64(0)
    for e in range(links.shape[1]):  # what z links to mostly links back
        t = np.int64(links[z, e])
        if t < 0:
            break
        may = ((high if t & 64 else low) >> np.uint64(t & 63)) & np.uint64(1)
        if may and leads(links, q, t) and leads(links, t, z):
            return True
    for e in range(links.shape[1]):
        t = np.int64(links[q, e])
        if t < 0:
            break
        if t != z and leads(links, t, z):
            return True
    return False
