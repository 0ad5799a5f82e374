"""Interleaved rounds over several engines, and the curves that come of them.

First every engine scouts: its whole grid on a part of the queries, the front of which goes on (a grid of two
parameters has many settings that another one beats in both speed and recall), and the recall of those on all queries.
Then in each round every engine answers all queries at each of its settings; a busy moment hits all alike, and so does
the order, which is drawn anew for each round.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import metrics
from bench.engine import Engine, EngineFailed, indexed, names, opened
from bench.kept import Kept
from bench.locks import Turns
from bench.rivals import OURS

__all__ = ["SEED", "measured"]

SEED = 11  # of the order of engines in each round


def measured(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """The result of a suite of curves: facts, points and quartiles per engine, and ratios."""
    kept = Kept(options)
    with contextlib.ExitStack() as stack:
        turns = stack.enter_context(Turns(options.lock, options.hold))
        engines = _running(options, kept, stack, turns)
        for engine in list(engines):
            _scout(engine, engines, kept, turns, threads)
        for number in range(options.rounds):
            _round(number, engines, kept, turns, threads)
            print(f"round {number + 1} of {options.rounds}", flush=True)
    ran = [name for name in names(options) if f"round {options.rounds - 1} of {name}" in kept.parts]
    result = {name: _curve(name, options.rounds, kept) for name in ran}
    failed = {name: kept.parts[f"{name} failed"] for name in names(options) if f"{name} failed" in kept.parts}
    answer = {
        "suite": options.suite,
        "dataset": options.dataset,
        "k": options.k,
        "queries": options.queries,
        "rounds": options.rounds,
        "threads": threads,
        "seed": SEED,
        "engines": {**result, **{name: {"failed": reason} for name, reason in failed.items()}},
        "ratios": metrics.ratios(result, OURS),
        "machine": kept.machine,
    }
    kept.done()
    return answer


def _running(options: argparse.Namespace, kept: Kept, stack: contextlib.ExitStack, turns: Turns) -> list[Engine]:
    """Processes with their indexes; engines that fail are kept with their reason."""
    live: dict[str, tuple[Engine | None, dict[str, Any]]] = {}
    for name in [name for name in options.rivals if f"{name} failed" not in kept.parts]:
        kept.check()
        try:
            live[name] = indexed(name, options)
        except EngineFailed as reason:
            _leave_out(name, reason, kept)
            continue
        process = live[name][0]
        if process is not None:
            stack.enter_context(process)
    turns.take()
    engines = []
    for name in [*options.ours, *live]:
        engine, built = live.get(name, (None, {}))
        facts = {"build": built}
        try:
            if engine is None:
                engine, facts = opened(name, options)
                stack.enter_context(engine)
        except EngineFailed as reason:
            _leave_out(name, reason, kept)
            continue
        engines.append(engine)
        if f"{name} facts" not in kept.parts:
            kept.put(f"{name} facts", facts)
        print(f"{name}: {facts}", flush=True)
    return engines


def _scout(engine: Engine, engines: list[Engine], kept: Kept, turns: Turns, threads: int) -> None:
    """Find the settings worth timing."""
    if f"{engine.name} points" in kept.parts:
        return
    kept.check()
    turns.take()
    try:
        points = engine.ask("scout", threads=threads)
        kept.put(f"{engine.name} points", points)
        print(f"{engine.name}: {len(points)} settings", flush=True)
    except EngineFailed as reason:
        engines.remove(engine)
        _leave_out(engine.name, reason, kept)


def _round(number: int, engines: list[Engine], kept: Kept, turns: Turns, threads: int) -> None:
    """Time every engine that this round still lacks."""
    order = np.random.default_rng((SEED, number)).permutation(len(engines))
    for engine in [engines[i] for i in order]:
        key = f"round {number} of {engine.name}"
        if key in kept.parts:
            continue
        kept.check()
        turns.take()
        points = kept.parts[f"{engine.name} points"]
        settings, asked = [p["setting"] for p in points], [p["queries"] for p in points]
        try:
            kept.put(key, engine.ask("round", threads=threads, settings=settings, queries=asked)["seconds"])
        except EngineFailed as reason:
            engines.remove(engine)
            _leave_out(engine.name, reason, kept)


def _leave_out(name: str, reason: EngineFailed, kept: Kept) -> None:
    kept.put(f"{name} failed", str(reason))
    print(f"{name}: left out, {reason}", flush=True)


def _curve(name: str, rounds: int, kept: Kept) -> dict[str, Any]:
    """Medians and quartiles over rounds."""
    seconds = [kept.parts[f"round {number} of {name}"] for number in range(rounds)]
    points = []
    for i, point in enumerate(kept.parts[f"{name} points"]):
        low, middle, high = metrics.quartiles([one[i] for one in seconds])
        points.append({**point, "qps": 1 / middle, "qps_quartiles": [1 / high, 1 / low]})
    return {
        **kept.parts[f"{name} facts"],
        "points": points,
        "qps_at": metrics.at_recalls(points),
        "qps_at_rounds": _each_round(points, seconds),
    }


def _each_round(points: Sequence[dict[str, Any]], seconds: Sequence[Sequence[float]]) -> dict[str, list[Any]]:
    """QPS at each recall in every single round: the ratios' quartiles are read from these."""
    curves = [
        metrics.at_recalls([{**point, "qps": 1 / s} for point, s in zip(points, one, strict=True)]) for one in seconds
    ]
    return {wanted: [curve[wanted] for curve in curves] for wanted in curves[0]}
