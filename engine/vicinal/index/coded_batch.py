"""Many queries over one coded index in one kernel call, which is a thread's share of a batch."""
# ruff: noqa: SLF001 - the part of CodedIndex that answers batches, in a file of its own

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, InvalidVector
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import CodedArrays
from vicinal.index.coded_scratch import Scratch
from vicinal.kernels import walk, walk_batch
from vicinal.types import Bits, Rows

__all__ = ["search_share"]

_BATCHES = {
    walk.search_signs: walk_batch.batch_signs,
    walk.search_nibbles: walk_batch.batch_nibbles,
    walk.search_bytes: walk_batch.batch_bytes,
}


def search_share(
    index: CodedIndex,
    queries: NDArray[np.float32],
    ef: int,
    start: int,
    stop: int,
    *,
    rows: Rows,
    limit: int,
    allowed: Bits | None,
    slots: NDArray[np.uint32],
    distances: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> None:
    """Answer queries[start:stop] as `CodedIndex.search` does, into the same rows of slots, distances (n, k) and counts.

    queries: (n, dim) float32, C-contiguous. Any number of threads may do shares of one batch at once.
    """
    k = slots.shape[1]
    _check(index, queries, start, stop, slots, distances, counts)
    arrays = index._arrays
    packed, pool, results = index._packed.get((k, ef)) or index._pack(k, ef)
    bound, vectors, inv_norms, reach = index._bound
    if rows is not bound:
        vectors, inv_norms, reach = index._bind(rows)
    if not 0 <= limit <= reach:
        raise InvalidArgument(f"rows hold {reach} vectors", field="limit", value=limit, limit=reach)
    words = 0 if allowed is None else index._words(allowed, limit)
    scratch = _borrow(index, arrays, pool, results)
    places = arrays.at, scratch.at, vectors, inv_norms, words
    _BATCHES[index._walk](queries, *places, limit, packed, slots, distances, counts, start, stop)
    index._free.append(scratch)


def _borrow(index: CodedIndex, arrays: CodedArrays, pool: int, results: int) -> Scratch:
    """Take scratch memory that is large enough; list.pop is atomic, so threads never share one."""
    try:
        scratch = index._free.pop()
    except IndexError:
        return index._scratch(arrays, pool, results)
    if scratch.room < arrays.capacity or scratch.pool < pool or scratch.results < results:
        return index._scratch(arrays, pool, results)
    return scratch
