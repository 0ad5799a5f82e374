"""The highest recall that an engine reaches, and the distances it takes; copies and islands are where graphs fail.

A row as near as the true k-th counts as found, so that copies of a vector are as good as each other.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench import datasets
from bench.engine import Engine
from bench.kept import Kept
from bench.locks import busy

__all__ = ["run"]

ENGINES = ("vicinal", "vicinal-links", "faiss-hnsw")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Ours on codes and on floats, and faiss's HNSW, whole sweeps."""
    datasets.prepare(options.dataset)
    kept = Kept(options)
    engines: dict[str, Any] = {}
    for name in ENGINES:
        points = kept.get(name, _sweep, name, options)
        best = max(points, key=lambda point: point["recall"])
        engines[name] = {"highest_recall": best["recall"], "at_setting": best["setting"], "points": points}
        print(name, best, flush=True)
    kept.done()
    return {"suite": options.suite, "dataset": options.dataset, "engines": engines, "machine": kept.machine}


def _sweep(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    with busy(options.lock), Engine(name, options.dataset, min(options.queries, 1000), options.k) as engine:
        engine.ask("build", threads=options.threads, save=None)
        points: list[dict[str, Any]] = engine.ask("count")
        return points
