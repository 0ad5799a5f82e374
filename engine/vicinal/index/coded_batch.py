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
    n, k = slots.shape
    _check_queries(index, queries, n)
    _check_share(start, stop, n, lengths=(len(counts), *distances.shape) == (n, n, k))
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


def _check_queries(index: CodedIndex, queries: NDArray[np.float32], n: int) -> None:
    if queries.dtype != np.float32 or queries.shape != (n, index.dim) or not queries.flags.c_contiguous:
        raise InvalidVector(f"queries are ({n}, {index.dim}) float32", field="queries", value=queries.shape)


def _check_share(start: int, stop: int, n: int, *, lengths: bool) -> None:
    if not lengths or not 0 <= start <= stop <= n:
        raise InvalidArgument("a share lies inside arrays of one length", field="stop", value=stop, limit=n)


def _borrow(index: CodedIndex, arrays: CodedArrays, pool: int, results: int) -> Scratch:
    """Scratch of at least this room, for this thread alone until it is given back."""
    try:
        scratch = index._free.pop()  # atomic: two threads never get the same
    except IndexError:
        return index._scratch(arrays, pool, results)
    if scratch.room < arrays.capacity or scratch.pool < pool or scratch.results < results:
        return index._scratch(arrays, pool, results)
    return scratch
