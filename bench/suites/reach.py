"""The highest recall that an engine reaches, and the distances it takes; copies and islands are where graphs fail.

A row as near as the true k-th counts as found, so that copies of a vector are as good as each other.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench import datasets, metrics
from bench.engine import Engine, busy

__all__ = ["run"]

ENGINES = ("vicinal", "faiss-hnsw")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Ours and faiss's HNSW, whole sweeps."""
    datasets.prepare(options.dataset)
    engines: dict[str, Any] = {}
    for name in ENGINES:
        with busy(options.lock), Engine(name, options.dataset, min(options.queries, 1000), options.k) as engine:
            engine.ask("build", threads=options.threads, save=None)
            points = engine.ask("count")
        best = max(points, key=lambda point: point["recall"])
        engines[name] = {"highest_recall": best["recall"], "at_setting": best["setting"], "points": points}
        print(name, best, flush=True)
    return {"suite": "reach", "dataset": options.dataset, "engines": engines, "machine": metrics.machine()}
