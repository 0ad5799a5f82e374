"""Microseconds a row to add to a built graph, until searchable in it: one by one, and in batches of 100.

All but the last rows are built at once; the next thousand are added one by one, then ten thousand in batches, or as
many as there are, on one core. `vicinal.Index` finds a point in the graph as soon as `add_items` returns. hnswlib does
the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import datasets, metrics
from bench.kept import Kept
from bench.locks import Turns
from vicinal.flat_api import Index

__all__ = ["run"]

SINGLE, MANY, BATCH = 1000, 7000, 100


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Quartiles over single additions and over batches, per engine; recall of all queries afterwards."""
    data = datasets.prepare(options.dataset)
    kept = Kept(options)
    engines: dict[str, Any] = {}
    with Turns(options.lock, options.hold) as turns:
        for name, make in (("vicinal-index", _ours), ("hnswlib", _hnswlib)):
            engines[name] = kept.get(name, _measure, make, data, options, turns)
            print(name, engines[name], flush=True)
    kept.done()
    built = len(data.base) - SINGLE - MANY
    return {
        "suite": options.suite,
        "dataset": options.dataset,
        "built": built,
        "engines": engines,
        "machine": kept.machine,
    }


def _ours(space: str, dim: int, n: int) -> Any:
    index = Index(space, dim)
    index.init_index(n)
    return index


def _hnswlib(space: str, dim: int, n: int) -> Any:
    import hnswlib

    index = hnswlib.Index(space, dim)
    index.init_index(n, M=16, ef_construction=200, random_seed=7)
    return index


def _measure(make: Any, data: datasets.Dataset, options: argparse.Namespace, turns: Turns) -> dict[str, Any]:
    turns.take()
    base: NDArray[np.float32] = np.array(data.base)
    built = len(base) - SINGLE - MANY
    index = make(data.metric, base.shape[1], len(base))
    index.add_items(base[:built])
    with _one_core():
        _add(index, base, built, built + 10, 1)  # compiles, and makes what the first addition needs
        one = _add(index, base, built + 10, built + SINGLE, 1)
        hundred = _add(index, base, built + SINGLE, len(base), BATCH)
    index.set_ef(200)
    found = index.knn_query(np.array(data.queries[: options.queries]), options.k)[0]
    return {
        "one_us": metrics.quartiles(one),
        "batch_us": metrics.quartiles(hundred),
        "recall_after_at_ef_200": metrics.recall(found.tolist(), data.truth[: len(found)], options.k),
    }


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and those it starts, on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _add(index: Any, base: NDArray[np.float32], start: int, stop: int, size: int) -> list[float]:
    """Microseconds a row of each call, on one thread."""
    spent = []
    for first in range(start, stop, size):
        block = base[first : min(first + size, stop)]
        begun = perf_counter()
        index.add_items(block, np.arange(first, first + len(block)), num_threads=1)
        spent.append(1e6 * (perf_counter() - begun) / len(block))
    return spent
