"""Exact search: every candidate's distance is computed. The reference for all others, and the tail's scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.scratch import address, give_back, take
from vicinal.index.spaces import bits_at, capacity_of, space_at
from vicinal.kernels.exact import scan_list, scan_range
from vicinal.types import Bits, Metric, Rows

__all__ = ["Found", "exact_search", "exact_search_list", "merge"]

Found = tuple[NDArray[np.uint32], NDArray[np.float32]]


def exact_search(
    metric: Metric,
    rows: Rows,
    query: NDArray[Any],
    k: int,
    *,
    start: int,
    stop: int,
    allowed: Bits | None = None,
) -> Found:
    """The k nearest of slots start .. stop - 1, those in `allowed` if it is given.

    query: (columns,) of the rows' dtype. Returns (slots uint32, distances float32), ascending by distance, ties by
    slot; fewer than k when fewer match. The GIL is released while scanning. `allowed` must hold bits for all slots
    below stop.
    """
    k = max(min(k, stop - start), 0)
    slots, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
    if k == 0:
        return slots, distances
    _check_range(metric, rows, start, stop)
    (element, space), bits = space_at(metric, rows), bits_at(allowed, stop)
    scratch = take(0, (k + 7) >> 3, rows.vectors.shape[1], rows.vectors.dtype)
    try:
        scratch.put_query(query)
        count = scan_range(element, space, scratch.at, start, stop, bits, slots, distances)
    finally:
        give_back(scratch)
    return slots[:count], distances[:count]


def exact_search_list(metric: Metric, rows: Rows, query: NDArray[Any], k: int, slots: NDArray[np.uint32]) -> Found:
    """The k nearest of the listed slots (uint32, distinct); results as in `exact_search`."""
    listed = np.ascontiguousarray(slots, np.uint32)
    k = max(min(k, len(listed)), 0)
    found, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
    if k == 0:
        return found, distances
    _check_range(metric, rows, 0, int(listed.max()) + 1)
    element, space = space_at(metric, rows)
    scratch = take(0, (k + 7) >> 3, rows.vectors.shape[1], rows.vectors.dtype)
    try:
        scratch.put_query(query)
        count = scan_list(element, space, scratch.at, address(listed), len(listed), found, distances)
    finally:
        give_back(scratch)
    return found[:count], distances[:count]


def merge(one: Found, other: Found, k: int) -> Found:
    """The k nearest of two answers over different slots, ties by slot."""
    slots = np.concatenate((one[0], other[0]))
    distances = np.concatenate((one[1], other[1]))
    best = np.lexsort((slots, distances))[:k]
    return slots[best], distances[best]


def _check_range(metric: Metric, rows: Rows, start: int, stop: int) -> None:
    """Refuse what a kernel without bounds checks would read beyond."""
    if start < 0 or stop > capacity_of(metric, rows):
        raise ValueError(f"slots {start} to {stop - 1} are not all among the {capacity_of(metric, rows)} rows given")
