"""Token matrices: recall of exact MaxSim's top 10 and top 100 against QPS, bytes, build time, and judges' measures.

Every engine in a process of its own on one thread, all alive at once, timed in interleaved rounds. QPS at a recall
comes off the front of the medians; ratios to rivals are taken of it, with quartiles over single rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench import metrics
from bench.engine import INDEXES, Engine, EngineFailed
from bench.kept import Kept
from bench.locks import Turns
from bench.multi import OURS, RIVALS, sets

__all__ = ["run"]

SEED = 11  # of the order of engines in each round
DEPTHS = (10, 100)
CACHE = Path(__file__).parent.parent / ".cache"


class _MultiProcess(Engine):
    """A worker that has one thread, whatever libraries it takes."""

    module: ClassVar[str] = "bench.multi.worker"
    environment: ClassVar[dict[str, str]] = {
        f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMBA")
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Points, medians and quartiles per engine and depth."""
    sets.prepare(options.dataset)
    kept = Kept(options)
    os.environ.setdefault("VICINAL_BENCH_PYTHON_FAST_PLAID", str(_plaid_python()))
    with contextlib.ExitStack() as stack:
        turns = stack.enter_context(Turns(options.lock, options.hold))
        engines = [_started(name, options, stack) for name in _asked(options)]
        for engine in list(engines):
            _attempt(engine, engines, kept, _scout, turns)
        for number in range(options.rounds):
            order = np.random.default_rng((SEED, number)).permutation(len(engines))
            for engine in [engines[i] for i in order]:
                _attempt(engine, engines, kept, _round, turns, number)
            print(f"round {number + 1} of {options.rounds}", flush=True)
    answer = _answer(options, kept)
    for name in set(_asked(options)) & set(OURS):
        shutil.rmtree(INDEXES / options.dataset / name, ignore_errors=True)
    kept.done()
    return answer


def _plaid_python() -> Path:
    own = CACHE / "fast-plaid" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def _asked(options: argparse.Namespace) -> list[str]:
    """Engines by name; all rivals there are for `all`."""
    rivals = list(RIVALS) if set(options.rivals) >= set(RIVALS) else options.rivals
    return [name for name in (*options.ours, *rivals) if name in OURS or name in RIVALS]


def _started(name: str, options: argparse.Namespace, stack: contextlib.ExitStack) -> Engine:
    return stack.enter_context(_MultiProcess(name, options.dataset, options.queries, options.k))


def _attempt(engine: Engine, engines: list[Engine], kept: Kept, what: Any, turns: Turns, *words: Any) -> None:
    """Measure, or leave the engine out with its reason."""
    kept.check()
    try:
        what(engine, kept, turns, *words)
    except EngineFailed as reason:
        engines.remove(engine)
        kept.put(f"{engine.name} failed", str(reason))
        print(f"{engine.name}: left out, {reason}", flush=True)


def _scout(engine: Engine, kept: Kept, turns: Turns) -> None:
    """Build, and find the settings worth timing."""
    turns.take()
    again = f"{engine.name} facts" in kept.parts
    facts = engine.ask("build", folder=str(INDEXES / kept.meant["dataset"] / engine.name), again=again)
    if not again:
        kept.put(f"{engine.name} facts", facts)
    print(f"{engine.name}: {facts}", flush=True)
    for k in DEPTHS:
        if f"{engine.name} {k} points" not in kept.parts:
            turns.take()
            kept.put(f"{engine.name} {k} points", engine.ask("scout", k=k))


def _round(engine: Engine, kept: Kept, turns: Turns, number: int) -> None:
    for k in DEPTHS:
        key = f"round {number} of {engine.name} {k}"
        if key not in kept.parts:
            turns.take()
            points = kept.parts[f"{engine.name} {k} points"]
            settings, queries = [p["setting"] for p in points], [p["queries"] for p in points]
            kept.put(key, engine.ask("round", k=k, settings=settings, queries=queries)["seconds"])


def _answer(options: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    names = _asked(options)
    last = [f"round {options.rounds - 1} of {{}} {k}" for k in DEPTHS]
    ran = [name for name in names if all(key.format(name) in kept.parts for key in last)]
    engines: dict[str, Any] = {name: dict(kept.parts[f"{name} facts"]) for name in ran}
    for name in ran:
        for k in DEPTHS:
            engines[name][f"top_{k}"] = _curve(name, k, options.rounds, kept)
    failed = {name: {"failed": kept.parts[f"{name} failed"]} for name in names if f"{name} failed" in kept.parts}
    return {
        "suite": options.suite,
        "dataset": options.dataset,
        "queries": options.queries,
        "rounds": options.rounds,
        "threads": 1,
        "seed": SEED,
        "engines": {**engines, **failed},
        "ratios": {f"top_{k}": _ratios(engines, f"top_{k}") for k in DEPTHS},
        "machine": kept.machine,
    }


def _curve(name: str, k: int, rounds: int, kept: Kept) -> dict[str, Any]:
    """Medians and quartiles over rounds."""
    seconds = [kept.parts[f"round {number} of {name} {k}"] for number in range(rounds)]
    points, each = kept.parts[f"{name} {k} points"], []
    for i, point in enumerate(points):
        low, middle, high = metrics.quartiles([one[i] for one in seconds])
        each.append({**point, "qps": 1 / middle, "qps_quartiles": [1 / high, 1 / low]})
    single = [
        metrics.at_recalls([{**point, "qps": 1 / s} for point, s in zip(points, one, strict=True)]) for one in seconds
    ]
    return {
        "points": each,
        "qps_at": metrics.at_recalls(each),
        "qps_at_rounds": {wanted: [curve[wanted] for curve in single] for wanted in single[0]},
    }


def _ratios(engines: dict[str, Any], depth: str) -> dict[str, Any]:
    """QPS of each of ours over that of each rival, at recalls that both reach; with quartiles over rounds."""
    ratios: dict[str, Any] = {}
    for ours in [name for name in engines if name in OURS]:
        for rival in [name for name in engines if name in RIVALS]:
            mine, other = engines[ours][depth], engines[rival][depth]
            for wanted, qps in mine["qps_at"].items():
                if qps and other["qps_at"][wanted]:
                    pairs = zip(mine["qps_at_rounds"][wanted], other["qps_at_rounds"][wanted], strict=True)
                    low, _, high = metrics.quartiles([a / b for a, b in pairs if a and b])
                    ratios.setdefault(ours, {}).setdefault(rival, {})[wanted] = {
                        "ratio": qps / other["qps_at"][wanted],
                        "quartiles": [low, high],
                    }
    return ratios
