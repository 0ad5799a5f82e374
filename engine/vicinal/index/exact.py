"""Exact search: every candidate's distance is computed. The reference for all others, and the tail's scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.index.scratch import Scratch, address, borrow
from vicinal.kernels import distance as kernel
from vicinal.kernels.bitset import words_of
from vicinal.kernels.exact import scan_list, scan_range
from vicinal.types import Bits, Metric, Rows

__all__ = ["Found", "exact_search", "exact_search_list", "inverse_norms", "space_of"]

Found = tuple[NDArray[np.uint32], NDArray[np.float32]]

_CODES = {Metric.L2: kernel.L2, Metric.DOT: kernel.DOT, Metric.COSINE: kernel.COSINE}


def space_of(metric: Metric, rows: Rows) -> kernel.Space:
    """The rows as the kernels see them; valid while the arrays of `rows` live."""
    vectors = rows.vectors
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not vectors.flags.c_contiguous:
        raise ValueError(
            f"rows.vectors must be a C-contiguous (capacity, dim) float32 array, got {vectors.dtype} {vectors.shape}"
        )
    norms = address(rows.inv_norms) if metric is Metric.COSINE else 0
    return kernel.Space(_CODES[metric], vectors.shape[1], address(vectors), norms)


def inverse_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / |x| of each row of a C-contiguous (n, dim) float32 array; 0 for a row of zeros."""
    out = np.empty(len(vectors), np.float32)
    kernel.inverse_norms(address(vectors), len(vectors), vectors.shape[1], out)
    return out


def query_scale(space: kernel.Space, scratch: Scratch) -> np.float32:
    """1 / |query| of the query in the scratch under cosine, else 1."""
    if space.metric != kernel.COSINE:
        return np.float32(1)
    return np.float32(kernel.inverse_norm(scratch.query, space.dim))  # numba returns a Python float


def _cut(count: int, slots: NDArray[np.uint32], distances: NDArray[np.float32]) -> Found:
    return slots[:count], distances[:count]


def exact_search(
    metric: Metric,
    rows: Rows,
    query: NDArray[np.float32],
    k: int,
    *,
    start: int,
    stop: int,
    allowed: Bits | None = None,
) -> Found:
    """The k nearest of slots start .. stop - 1, those in `allowed` if it is given.

    Returns (slots uint32, distances float32), ascending by distance, ties by slot; fewer than k when fewer match.
    The GIL is released while scanning. `allowed` must hold bits for all slots below stop.
    """
    space = space_of(metric, rows)
    k = max(min(k, stop - start), 0)
    slots, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
    if k == 0:
        return slots, distances
    _check_range(rows, stop, allowed)
    with borrow(0, (k + 7) >> 3, space.dim) as scratch:
        scratch.put_query(query)
        scale = query_scale(space, scratch)
        bits = 0 if allowed is None else address(allowed)
        count = scan_range(space, scratch.query, scale, start, stop, bits, scratch.pool, slots, distances)
    return _cut(count, slots, distances)


def exact_search_list(
    metric: Metric, rows: Rows, query: NDArray[np.float32], k: int, slots: NDArray[np.uint32]
) -> Found:
    """The k nearest of the listed slots (uint32, distinct); results as in `exact_search`."""
    space = space_of(metric, rows)
    listed = np.ascontiguousarray(slots, np.uint32)
    k = max(min(k, len(listed)), 0)
    found, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
    if k == 0:
        return found, distances
    _check_range(rows, int(listed.max()) + 1, None)
    with borrow(0, (k + 7) >> 3, space.dim) as scratch:
        scratch.put_query(query)
        scale = query_scale(space, scratch)
        count = scan_list(space, scratch.query, scale, address(listed), len(listed), scratch.pool, found, distances)
    return _cut(count, found, distances)


def _check_range(rows: Rows, stop: int, allowed: Bits | None) -> None:
    """Refuse what a kernel without bounds checks would read beyond."""
    if stop > len(rows.vectors):
        raise ValueError(f"slot {stop - 1} is beyond the {len(rows.vectors)} rows given")
    if allowed is not None and len(allowed) < words_of(stop):
        raise ValueError(f"allowed has {len(allowed)} words, {words_of(stop)} are needed for {stop} slots")
