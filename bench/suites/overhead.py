"""What `Index.knn_query` and `Collection.query` add to the search kernel's own time, one query per call.

The kernel's calls are recorded while the API answers all queries, then repeated with the same arguments: the
difference of the two times, taken within each interleaved round, is what the API adds.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

import vicinal
from bench import datasets, metrics
from bench.kept import Kept
from bench.locks import Turns
from vicinal.flat_api import Index
from vicinal.index.coded import CodedIndex

__all__ = ["run"]

EF = 32
BATCH = 10_000

Ask = Callable[[Any], object]


class _Recorder:
    """In the kernel's place: remembers the arguments of each call."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.calls = kernel, list[tuple[Any, ...]]()

    def __call__(self, *words: Any) -> Any:
        self.calls.append(words)
        return self.kernel(*words)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds a query: the kernel's, with the API, and what that adds, as quartiles over rounds."""
    data = datasets.prepare(options.dataset)
    kept = Kept(options)
    apis = {"Index.knn_query": _index, "Collection.query": _collection}
    engines = {name: kept.get(name, _measure, make, data, options) for name, make in apis.items()}
    kept.done()
    return {
        "suite": options.suite,
        "dataset": options.dataset,
        "ef": EF,
        "k": options.k,
        "engines": engines,
        "machine": kept.machine,
    }


def _index(data: datasets.Dataset, k: int) -> tuple[Ask, Any]:
    index = Index({"cosine": "cosine", "l2": "l2"}[data.metric], data.base.shape[1])
    index.init_index(len(data.base))
    index.add_items(np.array(data.base))
    index.set_ef(EF)
    return lambda query: index.knn_query(query, k), index


def _collection(data: datasets.Dataset, k: int) -> tuple[Ask, Any]:
    made = vicinal.Database(":memory:").create_collection("bench", dim=data.base.shape[1], metric=data.metric)
    for first in range(0, len(data.base), BATCH):
        block = data.base[first : first + BATCH]
        made.upsert(np.arange(first, first + len(block)), block)
    made.flush()
    return lambda query: made.query(query, k, ef=EF, with_payload=False), made


def _measure(make: Callable[..., tuple[Ask, Any]], data: datasets.Dataset, options: argparse.Namespace) -> Any:
    queries = list(np.array(data.queries[: options.queries]))
    ask, kept_alive = make(data, options.k)
    graphs = [held for held in gc.get_objects() if isinstance(held, CodedIndex)]
    calls = _recorded(graphs, ask, queries)
    runs = []
    with Turns(options.lock, options.hold) as turns:
        for _ in range(options.rounds):
            turns.take()
            runs.append([1e6 * _seconds(lambda: [kernel(*words) for kernel, words in calls]) / len(queries)])
            runs[-1].append(1e6 * _seconds(lambda: [ask(query) for query in queries]) / len(queries))
    del kept_alive
    gc.collect()  # the next API's graph is then the only one
    return {
        "kernel_us": metrics.quartiles([kernel for kernel, _ in runs]),
        "api_us": metrics.quartiles([api for _, api in runs]),
        "added_us": metrics.quartiles([api - kernel for kernel, api in runs]),
    }


def _recorded(graphs: list[Any], ask: Ask, queries: list[Any]) -> list[tuple[Any, tuple[Any, ...]]]:
    """Kernel and arguments of every call; one call a query, or the difference would mean nothing."""
    recorders = [_Recorder(graph._walk) for graph in graphs]  # noqa: SLF001 - the kernel itself is what is timed
    for graph, recorder in zip(graphs, recorders, strict=True):
        graph._walk = recorder  # noqa: SLF001
    for query in queries:
        ask(query)
    for graph, recorder in zip(graphs, recorders, strict=True):
        graph._walk = recorder.kernel  # noqa: SLF001
    calls = [(recorder.kernel, words) for recorder in recorders for words in recorder.calls]
    if len(calls) != len(queries):
        raise RuntimeError(f"{len(calls)} kernel calls for {len(queries)} queries")
    return calls


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started
