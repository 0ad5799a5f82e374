"""Time to build on two threads, in interleaved rounds; ours and hnswlib on one thread too.

An engine that has built for `ENOUGH` seconds in all is left out of further rounds; the median of its runs counts.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench import datasets, metrics
from bench.engine import Engine, EngineFailed, names
from bench.kept import Kept
from bench.locks import Turns
from bench.rivals import OURS

__all__ = ["run"]

ENOUGH = 45.0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Each build in a fresh process."""
    datasets.prepare(options.dataset)
    kept = Kept(options)
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in names(options)}
    failed: dict[str, str] = {}
    turns = Turns(options.lock, options.hold)
    for number in range(options.rounds):
        for name, mine in runs.items():
            for threads in (2, 1) if name in (*OURS, "hnswlib") else (2,):
                done = mine.setdefault(f"threads_{threads}", [])
                if name in failed or sum(one["seconds"] for one in done) > ENOUGH:
                    continue
                built = kept.get(f"{name} {threads} {number}", _build, name, options, threads, turns)
                if "failed" in built:
                    failed[name] = built["failed"]
                    continue
                done.append(built)
                print(f"{name}, threads: {threads}, {built['seconds']:.2f} s", flush=True)
    turns.let_go()
    engines: dict[str, Any] = {
        name: {"failed": failed[name]} if name in failed else _facts(done) for name, done in runs.items()
    }
    base = engines.get("hnswlib", {})
    ratios = {
        name: {key: round(value["seconds"] / base[key]["seconds"], 4) for key, value in result.items() if key in base}
        for name, result in engines.items()
        if "failed" not in result and base
    }
    answer = {
        "suite": options.suite,
        "dataset": options.dataset,
        "engines": engines,
        "ratio_to_hnswlib": ratios,
        "machine": kept.machine,
    }
    kept.done()
    return answer


def _build(name: str, options: argparse.Namespace, threads: int, turns: Turns) -> dict[str, Any]:
    turns.take()
    try:
        with Engine(name, options.dataset, options.queries, options.k) as engine:
            built: dict[str, Any] = engine.ask("build", threads=threads, save=None)
            return built
    except EngineFailed as reason:
        return {"failed": str(reason)}


def _facts(done: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    facts = {}
    for key, runs in done.items():
        low, middle, high = metrics.quartiles([run["seconds"] for run in runs])
        facts[key] = {
            "seconds": middle,
            "quartiles": [low, high],
            "peak_growth_mb": runs[0]["peak_growth_mb"],
            "version": runs[0]["version"],
            "runs": [run["seconds"] for run in runs],
        }
    return facts
