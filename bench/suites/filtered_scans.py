"""Filtered search with the bitmap given: every match (list), the nearest cells or a sweep, beside faiss with a bitmap.

One process, one thread, one query per call; settings are chosen on the first queries as the fastest with a recall of
.95, then timed in interleaved rounds. Ours is measured twice: over cells alone, and beside a coded graph, which is also
walked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import datasets, exact, metrics
from bench.locks import undisturbed
from bench.rivals.base import Floats
from bench.rivals.vicinal_coded import rows_of
from vicinal.index.builder import build_links
from vicinal.index.cell_lists import CellLists, partition
from vicinal.index.cells import CellsIndex
from vicinal.index.code_scan import CodeScan
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_effort import Effort
from vicinal.index.filtered import sweep
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import Bits, Metric, Rows

__all__ = ["run"]

SHARES = (0.5, 0.1, 0.01, 0.001)
RECALL = 0.95
SCOUTED = 200
_RESCORES = (16, 24, 32, 48, 64, 96, 128)
_STOPS = (3, 4, 5, 6, 8, 10, 13, 18, 26, 38)  # of walks
_SWEPT = 0.1  # the least share that is walked
_QUOTAS = (250, 500, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 12_000, 16_000)

Query = Callable[[Floats], Any]
Ways = dict[str, list[tuple[Any, Query]]]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every share in turn."""
    data = datasets.prepare(options.dataset)
    base, queries = np.ascontiguousarray(data.base), np.ascontiguousarray(data.queries[: options.queries])
    rows, metric = rows_of(base, Metric(data.metric)), Metric(data.metric)
    scans = _scans(rows, len(base), metric, options.threads)
    rival = _rival(base, data.metric, options.threads) if "faiss" in options.rivals else None
    shares = {}
    for share in SHARES:
        slots = np.flatnonzero(np.random.default_rng(11).random(len(base)) < share)
        truth = slots[exact.nearest(base[slots], queries, data.metric, options.k)]
        bits = slots_to_bits(slots, len(base))
        ways = {
            f"{name} {how}": tried
            for name, scan in scans.items()
            for how, tried in _ours(scan, rows, bits, len(slots), options.k)
        }
        if share >= _SWEPT:
            ways["graph sweep"] = list(_sweeps(scans["graph"], rows, bits, share, options.k))
        if rival is not None:
            ways["faiss-ivfpqfs"] = list(rival(bits, options.k))
        shares[str(share)] = _measured(ways, queries, truth, options)
        print(
            share, {name: (one.get("qps"), one.get("recall")) for name, one in shares[str(share)].items()}, flush=True
        )
    return {"suite": options.suite, "dataset": options.dataset, "shares": shares, "machine": metrics.machine()}


def _scans(rows: Rows, n: int, metric: Metric, threads: int) -> dict[str, CodeScan]:
    cells = CellsIndex.build(rows, n, metric, threads=threads, measure=False)
    links = build_links(rows, n, metric, fill=True, threads=threads)
    assert cells is not None
    assert links is not None
    graph = CodedIndex.build(rows, n, metric, links.links, measure=False)
    lists = CellLists(rows, metric, graph.choice, partition(rows, n, metric, seed=42, threads=threads))
    return {"cells": cells.scan, "graph": CodeScan(graph, lists)}


def _ours(
    scan: CodeScan, rows: Rows, bits: Bits, matches: int, k: int
) -> Iterable[tuple[str, list[tuple[Any, Query]]]]:
    def listed(rescore: int) -> Query:
        return lambda q: scan.scan_list(q, k, rows=rows, allowed=bits, matches=matches, rescore=rescore).slots

    def celled(quota: int, rescore: int) -> Query:
        return lambda q: (
            scan.scan_cells(q, k, rows=rows, allowed=bits, matches=matches, quota=quota, rescore=rescore).slots
        )

    yield "list", [(rescore, listed(rescore)) for rescore in _RESCORES]
    quotas = [quota for quota in _QUOTAS if quota < matches]
    yield "nearest", [((q, rescore), celled(q, rescore)) for q, rescore in product(quotas, _RESCORES)]


def _sweeps(scan: CodeScan, rows: Rows, bits: Bits, share: float, k: int) -> Iterable[tuple[Any, Query]]:
    def swept(effort: Effort) -> Query:
        return lambda q: sweep(scan.index, q, k, effort, rows=rows, limit=scan.index.n, allowed=bits).slots

    for stop, rescore in product(_STOPS, (8, 16, 32)):
        pool = -(-int((1.3 * stop + 28) / share) // 8) * 8
        yield (stop, rescore), swept(Effort(pool, stop, rescore, k + 2))


def _rival(base: Floats, metric: str, threads: int) -> Callable[[Bits, int], Iterable[tuple[Any, Query]]]:
    from bench.rivals.faiss import IvfPqFastScan, faiss

    rival = IvfPqFastScan()
    rival.build(base, metric, threads)

    def ways(bits: Bits, k: int) -> Iterable[tuple[Any, Query]]:
        packed = bits.view(np.uint8)
        selector = faiss.IDSelectorBitmap(len(packed), faiss.swig_ptr(packed))
        for probed, factor in rival.settings:
            inner = faiss.SearchParametersIVF(nprobe=probed, sel=selector)
            outer = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)

            def query(q: Floats, outer: Any = outer, held: Any = (inner, selector, packed)) -> Any:
                del held
                return rival.index.search(q[None], k, params=outer)[1][0]

            yield (probed, factor), query

    return ways


def _timed(query: Query, queries: Floats) -> tuple[float, list[Any]]:
    for vector in queries[:50]:
        query(vector)
    started = perf_counter()
    found = [query(vector) for vector in queries]
    return (perf_counter() - started) / len(queries), found


def _measured(ways: Ways, queries: Floats, truth: NDArray[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Scout every setting, then time the best of each way in turns."""
    chosen: dict[str, tuple[Any, Query]] = {}
    with undisturbed(options.lock):
        for name, tried in ways.items():
            good = []
            for setting, query in tried:
                seconds, found = _timed(query, queries[:SCOUTED])
                if metrics.recall(found, truth[:SCOUTED], options.k) >= RECALL + 0.005:
                    good.append((seconds, setting, query))
            if good:
                chosen[name] = min(good, key=lambda one: one[0])[1:]
        times: dict[str, list[float]] = {name: [] for name in chosen}
        for _ in range(options.rounds):
            for name, (_, query) in chosen.items():
                times[name].append(_timed(query, queries)[0])
    answer: dict[str, Any] = {name: {"failed": f"no setting reached {RECALL}"} for name in ways if name not in chosen}
    for name, (setting, query) in chosen.items():
        _, middle, _ = metrics.quartiles(times[name])
        share = metrics.recall(_timed(query, queries)[1], truth, options.k)
        answer[name] = {"setting": setting, "qps": round(1 / middle), "recall": round(share, 4), "seconds": times[name]}
    return answer
