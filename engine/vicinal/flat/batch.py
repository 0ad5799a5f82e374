"""Many queries over threads: each thread calls kernels that release the GIL, one query after the other."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.flat.picture import Answer

__all__ = ["Batch", "answer_all", "label_matrix"]

_ROWS_PER_TURN: Final = 32
_ROWS_PER_THREAD: Final = 16  # fewer are answered before a thread has begun
NOBODY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


class Batch(NamedTuple):
    """Slots and distances (rows, k); row i holds counts[i] of them, distances beyond are infinite."""

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    counts: NDArray[np.int64]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="vicinal-query")


def answer_all(queries: NDArray[np.float32], k: int, answers: Sequence[Answer], threads: int) -> Batch:
    """The k nearest of each query; `answers` holds one for all queries or one for each."""
    rows = len(queries)
    slots, distances = np.zeros((rows, k), np.uint32), np.full((rows, k), np.inf, np.float32)
    counts = np.zeros(rows, np.int64)
    turns = itertools.count(0, _ROWS_PER_TURN)  # `next` is atomic

    def work() -> None:
        for first in turns:
            if first >= rows:
                return
            for row in range(first, min(first + _ROWS_PER_TURN, rows)):
                answer = answers[row] if len(answers) > 1 else answers[0]
                found, near = answer(queries[row])
                m = counts[row] = len(found)
                slots[row, :m], distances[row, :m] = found, near

    used = min(threads, os.cpu_count() or 1, rows // _ROWS_PER_THREAD)
    if used <= 1:
        work()
    else:
        others = [_pool().submit(work) for _ in range(used - 1)]
        work()
        for other in others:
            other.result()
    return Batch(slots, distances, counts)


def label_matrix(batch: Batch, labels: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The labels of a batch's slots, 2**64 - 1 where a row has fewer than k."""
    rows, k = batch.slots.shape
    if not len(labels):
        return np.full((rows, k), NOBODY, np.uint64)
    found: NDArray[np.uint64] = labels[batch.slots]
    if (batch.counts < k).any():
        found[np.arange(k) >= batch.counts[:, None]] = NOBODY
    return found
