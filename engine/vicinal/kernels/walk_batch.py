"""Many coded walks in one call: the GIL is let go once, so threads that share a batch do not wait for each other."""

from __future__ import annotations

from vicinal.kernels import njit
from vicinal.kernels.walk import search_bytes, search_nibbles, search_signs

__all__ = ["batch_bytes", "batch_nibbles", "batch_signs"]


@njit
def batch_signs(
    queries, index_at, work_at, vectors, inv_norms, allowed, limit, effort, slots, distances, counts, start, stop
):
    """Do `search_signs` for rows start .. stop - 1 of queries (n, dim) float32, one after the other.

    The answers go to the same rows of slots (n, k) uint32, distances (n, k) float32 and counts (n,) int64, which says
    how many were found.
    """
    for row in range(start, stop):
        counts[row] = search_signs(
            queries[row],
            index_at,
            work_at,
            vectors,
            inv_norms,
            allowed,
            limit,
            -1,
            effort,
            slots[row],
            distances[row],
        )


@njit
def batch_nibbles(
    queries, index_at, work_at, vectors, inv_norms, allowed, limit, effort, slots, distances, counts, start, stop
):
    """Do as `batch_signs` in an index of 4-bit lines."""
    for row in range(start, stop):
        counts[row] = search_nibbles(
            queries[row],
            index_at,
            work_at,
            vectors,
            inv_norms,
            allowed,
            limit,
            -1,
            effort,
            slots[row],
            distances[row],
        )


@njit
def batch_bytes(
    queries, index_at, work_at, vectors, inv_norms, allowed, limit, effort, slots, distances, counts, start, stop
):
    """Do as `batch_signs` in an index of 8-bit lines."""
    for row in range(start, stop):
        counts[row] = search_bytes(
            queries[row],
            index_at,
            work_at,
            vectors,
            inv_norms,
            allowed,
            limit,
            -1,
            effort,
            slots[row],
            distances[row],
        )
