"""Many queries over one coded index in one kernel call, which is a thread's share of a batch; rows to be inserted."""
# ruff: noqa: SLF001 - the part of CodedIndex that answers batches, in a file of its own

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, InvalidVector
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import CodedArrays
from vicinal.index.coded_effort import insertion_effort, results_room
from vicinal.index.coded_scratch import Scratch, bits_at
from vicinal.kernels import entry, walk_batch
from vicinal.types import Bits, Rows

__all__ = ["search_candidates", "search_share"]

_KERNELS = {
    "signs": walk_batch.batch_signs,
    "nibbles": walk_batch.batch_nibbles,
    "bytes": walk_batch.batch_bytes,
}


@functools.cache
def _kernel(code: str) -> Callable[..., int]:
    """The compiled kernel: a call of it costs a fraction of a choice among signatures."""
    return entry(_KERNELS[code], walk_batch.BATCH)


def search_share(
    index: CodedIndex,
    queries: NDArray[np.float32],
    ef: int,
    start: int,
    stop: int,
    *,
    rows: Rows,
    limit: int,
    allowed: Bits | Sequence[Bits | None] | None,
    slots: NDArray[np.uint32],
    distances: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> int:
    """Answer queries[start:stop] as `CodedIndex.search` does, into the same rows of slots, distances (n, k) and counts.

    Gives for how many queries the answer means nothing unless somebody checks that it can be compared: those not of
    finite numbers, too long, or, under cosine, too short.

    queries: (n, dim) float32, C-contiguous. allowed: bits for all queries, or one entry for each of the n. Any number
    of threads may do shares of one batch at once.
    """
    n, k = slots.shape
    _check_queries(index, queries, n)
    _check_share(start, stop, n, lengths=(len(counts), *distances.shape) == (n, n, k))
    arrays = index._arrays
    packed, pool, results = index._packed.get((k, ef)) or index._pack(k, ef)
    common = allowed if allowed is None or isinstance(allowed, np.ndarray) else None
    each = _each(None if common is not None else allowed, n, limit)
    scratch = _borrow(index, arrays, pool, results)
    index._aim(scratch, arrays, rows, limit, common)
    batch = _kernel(index._choice.codec.name)
    unsure = batch(queries, scratch.call_at, each, packed, slots, distances, counts, start, stop)
    index._free_lanes.append(scratch)
    return unsure


def _borrow(index: CodedIndex, arrays: CodedArrays, pool: int, results: int) -> Scratch:
    """Do as `CodedIndex._borrow` for as many walks as take turns."""
    try:
        scratch = index._free_lanes.pop()  # atomic: two threads never get the same
    except IndexError:
        return index._scratch(arrays, pool, results, walk_batch.LANES)
    if scratch.room < arrays.capacity or scratch.pool < pool or scratch.results < results:
        return index._scratch(arrays, pool, results, walk_batch.LANES)
    return scratch


def _each(allowed: Bits | Sequence[Bits | None] | None, n: int, limit: int) -> NDArray[np.int64]:
    """The addresses of each row's bits; empty when all rows have the same."""
    if allowed is None:
        return np.empty(0, np.int64)
    if len(allowed) != n:
        raise InvalidArgument(f"allowed has an entry for each of {n} queries", field="allowed", value=len(allowed))
    return np.array([0 if bits is None else bits_at(bits, limit) for bits in allowed], np.int64)


def _check_queries(index: CodedIndex, queries: NDArray[np.float32], n: int) -> None:
    if queries.dtype != np.float32 or queries.shape != (n, index.dim) or not queries.flags.c_contiguous:
        raise InvalidVector(f"queries are ({n}, {index.dim}) float32", field="queries", value=queries.shape)


def _check_share(start: int, stop: int, n: int, *, lengths: bool) -> None:
    if not lengths or not 0 <= start <= stop <= n:
        raise InvalidArgument("a share lies inside arrays of one length", field="stop", value=stop, limit=n)


def search_candidates(index: CodedIndex, query: NDArray[Any], rows: Rows, out: NDArray[np.uint32]) -> int:
    """Write slots near a query, nearest first, to `out` (k,); give how many: what insertion chooses links from."""
    k = len(out)
    if (k, 0) not in index._packed:  # no ef: the least effort that makes good graphs
        effort = insertion_effort(k, exact_walk=index._arrays.exact_walk)
        index._packed[k, 0] = index._packed_effort(effort), effort.pool, results_room(effort, k)
    scratch = index._ready(k, 0, rows, len(rows.vectors), None)
    found = index.walked(index._cast(query), scratch.call_at, scratch.packed, out, np.empty(k, np.float32))
    index._free.append(scratch)
    return found
