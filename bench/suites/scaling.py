"""Rows compared per query at recall .95, and build time per row, from a 64th of a data set to all of it.

faiss's HNSW stands for hnswlib here: the same algorithm and parameters, and it counts its distances.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench import charts, datasets, metrics
from bench.engine import Engine, undisturbed

__all__ = ["run"]

ENGINES = ("vicinal", "faiss-hnsw")
RECALL = 0.95
SMALLEST = 1_700


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Slope: growth of distances per doubling of n, by least squares, in distances and in per cent."""
    n = len(datasets.prepare(options.dataset).base)
    sizes = [size for size in (n >> shift for shift in range(8, -1, -1)) if size >= SMALLEST]
    engines: dict[str, list[dict[str, Any]]] = {name: [] for name in ENGINES}
    for size in sizes:
        name = f"{options.dataset.partition('@')[0]}@{size}" if size < n else options.dataset
        datasets.prepare(name)
        with undisturbed(options.lock):
            for engine in ENGINES:
                engines[engine].append({"n": size, **_point(engine, name, options)})
                print(engine, {k: v for k, v in engines[engine][-1].items() if k != "points"}, flush=True)
    answer = {
        "suite": "scaling",
        "dataset": options.dataset,
        "recall": RECALL,
        "engines": engines,
        "slope": {name: _slope(points) for name, points in engines.items()},
        "machine": metrics.machine(),
    }
    charts.scaling_chart(answer)
    return answer


def _point(engine: str, dataset: str, options: argparse.Namespace) -> dict[str, Any]:
    with Engine(engine, dataset, min(options.queries, 1000), options.k) as worker:
        built = worker.ask("build", threads=options.threads, save=None)
        points = worker.ask("count")
    curve = [(p["recall"], 1 / p["distances"]) for p in points]
    inverse = metrics.at_recall(curve, RECALL)
    return {"distances": 1 / inverse if inverse else None, "build_seconds": built["seconds"], "points": points}


def _slope(points: list[dict[str, Any]]) -> dict[str, float]:
    known = [(np.log2(p["n"]), p["distances"]) for p in points if p["distances"]]
    x, y = np.array(known).T
    return {
        "distances_per_doubling": float(np.polyfit(x, y, 1)[0]),
        "percent_per_doubling": float(100 * (2 ** np.polyfit(x, np.log2(y), 1)[0] - 1)),
    }
