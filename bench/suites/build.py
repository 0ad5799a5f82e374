"""Time to build, on two threads and on one; a fast builder is timed up to five times, the median counts."""

from __future__ import annotations

import argparse
from typing import Any

from bench import datasets, metrics
from bench.engine import Engine, EngineFailed, names, undisturbed

__all__ = ["run"]

ENOUGH_SECONDS = 10.0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Each build in a fresh process."""
    datasets.prepare(options.dataset)
    engines: dict[str, Any] = {}
    with undisturbed(options.lock):
        for name in names(options):
            try:
                engines[name] = {f"threads_{threads}": _build(name, options, threads) for threads in (2, 1)}
            except EngineFailed as reason:
                engines[name] = {"failed": str(reason)}
            print(name, engines[name], flush=True)
    base = engines.get("hnswlib", {})
    ratios = {
        name: {key: round(value["seconds"] / base[key]["seconds"], 4) for key, value in result.items()}
        for name, result in engines.items()
        if "failed" not in result and base
    }
    return {
        "suite": "build",
        "dataset": options.dataset,
        "engines": engines,
        "ratio_to_hnswlib": ratios,
        "machine": metrics.machine(),
    }


def _build(name: str, options: argparse.Namespace, threads: int) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    while not runs or (sum(run["seconds"] for run in runs) < ENOUGH_SECONDS and len(runs) < 5):
        with Engine(name, options.dataset, options.queries, options.k) as engine:
            runs.append(engine.ask("build", threads=threads, save=None))
    middle = metrics.quartiles([run["seconds"] for run in runs])[1]
    return {"seconds": middle, "peak_growth_mb": runs[0]["peak_growth_mb"], "runs": [r["seconds"] for r in runs]}
