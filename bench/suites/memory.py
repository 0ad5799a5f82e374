"""Resident memory per engine: growth of a fresh process that opens a saved index and answers all queries."""

from __future__ import annotations

import argparse
from typing import Any

from bench import datasets, metrics
from bench.engine import Engine, EngineFailed, busy, names, saved

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """MB in all, anonymous and of mapped files; imports, compiled kernels and queries are in the baseline."""
    data = datasets.prepare(options.dataset)
    engines: dict[str, Any] = {}
    for name in names(options):
        try:
            folder, _ = saved(name, options)
            with busy(options.lock), Engine(name, options.dataset, options.queries, options.k) as engine:
                engines[name] = engine.ask("memory", folder=str(folder))
        except EngineFailed as reason:
            engines[name] = {"failed": str(reason)}
        print(name, engines[name], flush=True)
    base = engines.get("hnswlib", {}).get("all")
    return {
        "suite": "memory",
        "dataset": options.dataset,
        "vectors_mb": data.base.nbytes / 2**20,
        "engines": engines,
        "ratio_to_hnswlib": {n: round(e["all"] / base, 3) for n, e in engines.items() if "all" in e and base},
        "machine": metrics.machine(),
    }
