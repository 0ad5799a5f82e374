"""Many coded walks in one call: the GIL is let go once, so threads that share a batch do not wait for each other."""

from __future__ import annotations

from numba import types

from vicinal.kernels import njit
from vicinal.kernels.simd import set_i64
from vicinal.kernels.walk import search_bytes, search_nibbles, search_signs
from vicinal.kernels.walk_fields import Call

__all__ = ["BATCH", "batch_bytes", "batch_nibbles", "batch_signs"]

_ALLOWED_AT = 8 * Call._fields.index("allowed")

_floats, _slots = types.Array(types.float32, 2, "C"), types.Array(types.uint32, 2, "C")
_numbers = types.Array(types.int64, 1, "C")
BATCH = _floats, types.intp, _numbers, types.int64, _slots, _floats, _numbers, types.intp, types.intp  # what all take


@njit
def batch_signs(queries, call_at, allowed, effort, slots, distances, counts, start, stop):
    """Do `search_signs` for rows start .. stop - 1 of queries (n, dim) float32, one after the other.

    allowed: int64 addresses of each row's bits (0: all slots), written into the Call; or an empty array for what the
    Call says. The answers go to the same rows of slots (n, k) uint32, distances (n, k) float32 and counts (n,) int64,
    which says how many were found.
    """
    for row in range(start, stop):
        if allowed.shape[0] > 0:
            set_i64(call_at + _ALLOWED_AT, allowed[row])
        counts[row] = search_signs(queries[row], call_at, effort, slots[row], distances[row])


@njit
def batch_nibbles(queries, call_at, allowed, effort, slots, distances, counts, start, stop):
    """Do as `batch_signs` in an index of 4-bit lines."""
    for row in range(start, stop):
        if allowed.shape[0] > 0:
            set_i64(call_at + _ALLOWED_AT, allowed[row])
        counts[row] = search_nibbles(queries[row], call_at, effort, slots[row], distances[row])


@njit
def batch_bytes(queries, call_at, allowed, effort, slots, distances, counts, start, stop):
    """Do as `batch_signs` in an index of 8-bit lines."""
    for row in range(start, stop):
        if allowed.shape[0] > 0:
            set_i64(call_at + _ALLOWED_AT, allowed[row])
        counts[row] = search_bytes(queries[row], call_at, effort, slots[row], distances[row])
