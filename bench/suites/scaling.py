"""Rows compared per query at recall .95, and build time per row, from a 64th of a data set's rows to all.

faiss's HNSW stands for hnswlib in distances: the same algorithm and parameters, and it counts them. hnswlib's own
build time is beside it.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench import datasets, metrics
from bench.engine import Engine
from bench.kept import Kept
from bench.locks import Turns

__all__ = ["run"]

ENGINES = ("vicinal", "vicinal-links", "faiss-hnsw", "hnswlib")
COUNTING = ("vicinal", "vicinal-links", "faiss-hnsw")
RECALL = 0.95
ENOUGH = 0.97  # recall at which counting ends
QUERIES = 500
DOUBLINGS = 6  # a 64-fold range


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Slope: growth of distances per doubling of n, by least squares, in distances and in per cent."""
    n = len(datasets.prepare(options.dataset).base)
    kept = Kept(options)
    engines: dict[str, list[dict[str, Any]]] = {name: [] for name in ENGINES}
    sizes = [n >> shift for shift in range(DOUBLINGS, -1, -1)]
    sets = {size: f"{options.dataset.partition('@')[0]}@{size}" if size < n else options.dataset for size in sizes}
    for name in sets.values():
        datasets.prepare(name)
    turns = Turns(options.lock, options.hold)
    for size, name in sets.items():
        for engine in ENGINES:
            point = kept.get(f"{engine} {size}", _point, engine, name, options, turns)
            engines[engine].append({"n": size, **point})
            print(engine, {k: v for k, v in engines[engine][-1].items() if k != "points"}, flush=True)
    turns.let_go()
    answer = {
        "suite": options.suite,
        "dataset": options.dataset,
        "recall": RECALL,
        "engines": engines,
        "slope": {name: _slope(engines[name]) for name in COUNTING},
        "machine": kept.machine,
    }
    kept.done()
    return answer


def _point(engine: str, dataset: str, options: argparse.Namespace, turns: Turns) -> dict[str, Any]:
    turns.take()
    with Engine(engine, dataset, min(options.queries, QUERIES), options.k) as worker:
        built = worker.ask("build", threads=options.threads, save=None)
        facts = {"distances": None, "build_seconds": built["seconds"], "points": []}
        if engine not in COUNTING:
            return facts
        points = worker.ask("count", enough=ENOUGH)
    inverse = metrics.at_recall([(p["recall"], 1 / p["distances"]) for p in points], RECALL)
    return {**facts, "distances": 1 / inverse if inverse else None, "points": points}


def _slope(points: list[dict[str, Any]]) -> dict[str, float]:
    known = [(np.log2(p["n"]), p["distances"]) for p in points if p["distances"]]
    x, y = np.array(known).T
    return {
        "distances_per_doubling": float(np.polyfit(x, y, 1)[0]),
        "percent_per_doubling": float(100 * (2 ** np.polyfit(x, np.log2(y), 1)[0] - 1)),
    }
