"""Many queries over threads: each thread calls kernels that release the GIL, one query after the other."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.flat.picture import Answer, Batch

__all__ = ["answer_all", "label_matrix"]

_ROWS_PER_TURN: Final = 32
_ROWS_PER_THREAD: Final = 16  # fewer are answered before a thread has begun
NOBODY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="vicinal-query")


def answer_all(queries: NDArray[np.float32], k: int, answers: Sequence[Answer], threads: int) -> Batch:
    """The k nearest of each query; `answers` holds one for all queries or one for each."""
    rows = len(queries)
    batch = Batch(np.zeros((rows, k), np.uint32), np.full((rows, k), np.inf, np.float32), np.zeros(rows, np.int64))
    share = answers[0].share if len(answers) == 1 else None
    if share is not None:
        _over_threads(rows, threads, lambda first, last: share(queries, batch, first, last))
        again = np.flatnonzero(batch.counts < k)
        batch.distances[again] = np.inf
    else:
        again = np.arange(rows)

    def one_by_one(first: int, last: int) -> None:
        for row in again[first:last].tolist():
            answer = answers[row if len(answers) > 1 else 0]
            found, near = answer.one(queries[row])
            m = batch.counts[row] = len(found)
            batch.slots[row, :m], batch.distances[row, :m] = found, near

    slow = len(answers) > 0 and answers[0].slow
    _over_threads(len(again), threads if slow else 1, one_by_one)
    return batch


def _over_threads(rows: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call `work(first, last)` for parts of `rows` until all are done."""
    turns = itertools.count(0, _ROWS_PER_TURN)  # `next` is atomic

    def take_turns() -> None:
        for first in turns:
            if first >= rows:
                return
            work(first, min(first + _ROWS_PER_TURN, rows))

    used = min(threads, os.cpu_count() or 1, rows // _ROWS_PER_THREAD)
    others = [_pool().submit(take_turns) for _ in range(used - 1)]
    take_turns()
    for other in others:
        other.result()


def label_matrix(batch: Batch, labels: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The labels of a batch's slots, 2**64 - 1 where a row has fewer than k."""
    rows, k = batch.slots.shape
    if not len(labels):
        return np.full((rows, k), NOBODY, np.uint64)
    found: NDArray[np.uint64] = labels[batch.slots]
    if (batch.counts < k).any():
        found[np.arange(k) >= batch.counts[:, None]] = NOBODY
    return found
