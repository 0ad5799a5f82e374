"""Filtered search by the FANNS paper's protocol and beyond it: recall against QPS per kind of filter, one thread.

Every engine scouts a cell's settings by itself; then the fastest that reaches a recall of .95, and the default of
those that have one, are timed in interleaved rounds, the filter's evaluation always inside the clock.

A run may be asked for some cells: they are kept, and the result is written once all of the grid are.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench import datasets, metrics
from bench.engine import INDEXES, Engine, EngineFailed, saved
from bench.fanns import columns
from bench.fanns.cells import Cell, grid
from bench.fanns.engines import ENGINES, OURS, engine_class
from bench.fanns.engines.base import Filtered
from bench.fanns.regret import RECALL, regrets
from bench.fanns.truth import exact_answers
from bench.fanns.worker import FAR
from bench.kept import Kept, Unfinished
from bench.locks import Turns, busy
from bench.rivals.base import Unsupported

__all__ = ["run"]

SEED = 11  # of the order of engines in each round
SCOUT_SECONDS, ROUND_SECONDS, JUDGE_SECONDS = 0.5, 0.06, 0.25  # most, per engine and cell; see worker.FEWEST
ROUNDS_FAR = 3  # in which engines far behind are timed


class FilteredEngine(Engine):
    """A worker of bench.fanns."""

    module: ClassVar[str] = "bench.fanns.worker"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every cell with every engine."""
    data = datasets.prepare(options.dataset)
    whole, cells = _cells(data, options)
    kept = Kept(options)
    wanted = options.engines or list(ENGINES)
    with contextlib.ExitStack() as stack:
        turns = stack.enter_context(Turns(options.lock, options.hold))
        engines = {}
        if any(cell.name not in kept.parts for cell in cells):
            left = [cell.name for cell in cells if cell.name not in kept.parts]
            engines = _running(wanted, left, options, kept, stack)
        for cell in cells:
            kept.get(cell.name, _measured, cell, engines, options, turns)
            print(cell.name, _shown(kept.parts[cell.name]), flush=True)
    rest = {cell.kind: None for cell in whole if cell.name not in kept.parts}
    if rest:
        raise Unfinished(f"kept under {kept.path}: the same with --cells {' '.join(rest)}, or without, goes on")
    answer = _answer(options, whole, wanted, kept)
    kept.done()
    return answer


def _cells(data: datasets.Dataset, options: argparse.Namespace) -> tuple[list[Cell], list[Cell]]:
    """The whole grid and the cells asked for, their exact answers on disk before any engine starts."""
    table = columns.load(data)
    queries = min(options.queries, len(data.queries))
    made = grid(table, queries)
    exact_answers(data, table, made, options.k)
    asked = options.cells
    return made, [cell for cell in made if not asked or cell.name in asked or cell.kind in asked]


def _running(
    names: list[str], cells: list[str], options: argparse.Namespace, kept: Kept, stack: contextlib.ExitStack
) -> dict[str, FilteredEngine]:
    """Processes with their indexes; engines that fail are kept with their reason.

    Those that build on all cores come up one after another, the others as many at once as there are threads.
    """
    engines: dict[str, FilteredEngine] = {}

    def start(name: str) -> tuple[str, Any]:
        try:
            return name, _prepared(name, cells, options)
        except (EngineFailed, Unsupported) as reason:
            return name, reason

    def take(name: str, told: Any) -> None:
        if isinstance(told, Exception):
            kept.put(f"{name} failed", str(told))
            print(f"{name}: left out, {told}", flush=True)
            return
        engine, facts = told
        engines[name] = stack.enter_context(engine)
        kept.put(f"{name} facts", _joined(kept.parts.get(f"{name} facts"), facts))
        print(f"{name}: {facts}", flush=True)

    left = [name for name in names if f"{name} failed" not in kept.parts]
    together = []
    for name in left:
        try:
            if _at_ease(name, options):
                together.append(name)
                continue
        except EngineFailed as reason:
            take(name, reason)
            continue
        take(*start(name))
    with ThreadPoolExecutor(options.threads) as pool:
        for name, told in pool.map(start, together):
            take(name, told)
    return {name: engines[name] for name in names if name in engines}


def _at_ease(name: str, options: argparse.Namespace) -> bool:
    """Whether an engine may come up beside others: its index, if it can be saved, is on disk then."""
    try:
        made = engine_class(name)
    except ImportError as error:
        raise EngineFailed(f"not installed: {error}") from None
    if made.reuses is not None:
        saved(made.reuses, options)
    elif made.saves:
        _saved(name, made, options)
    return not made.alone


def _prepared(name: str, cells: list[str], options: argparse.Namespace) -> tuple[FilteredEngine, dict[str, Any]]:
    """A process with all that the cells ask about."""
    engine, facts = _ready(name, options)
    try:
        with busy(options.lock):
            return engine, {**facts, **engine.ask("prepare", cells=cells)}
    except BaseException:
        engine.__exit__()
        raise


def _joined(known: dict[str, Any] | None, facts: dict[str, Any]) -> dict[str, Any]:
    """What is known of an engine after several runs, each of which built what its cells ask about."""
    if known is None or not facts.get("builds"):
        return facts
    builds = {**known["builds"], **facts["builds"]}
    sizes = {**known["sizes"], **facts["sizes"]}
    return {**facts, "builds": builds, "sizes": sizes, "bytes": sum(sizes.values())}


def _ready(name: str, options: argparse.Namespace) -> tuple[FilteredEngine, dict[str, Any]]:
    """A process with the index built in it, or opened from what was saved."""
    made = engine_class(name)
    engine = FilteredEngine(name, options.dataset, options.queries, options.k)
    try:
        if made.reuses is not None:
            folder, built = saved(made.reuses, options)
        elif made.saves:
            folder, built = _saved(name, made, options)
        else:
            with busy(options.lock):
                return engine, engine.ask("build", threads=options.threads, save=None)
        return engine, {**built, **engine.ask("open", folder=str(folder))}
    except BaseException:
        engine.__exit__()
        raise


def _saved(name: str, made: type[Filtered], options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The index of an engine that holds the attributes too, built once in a process that ends; ours by each code."""
    holder = made.shares or name
    known = f"fanns-{holder}"
    if holder in OURS:
        known += f"@{metrics.code()[:12]}"
    folder = INDEXES / options.dataset / known
    record = folder.with_name(f"{known}.json")
    if not record.exists():
        for old in folder.parent.glob(f"fanns-{holder}@*" if holder in OURS else known):
            shutil.rmtree(old, ignore_errors=True)
            old.unlink(missing_ok=True)
        with busy(options.lock), FilteredEngine(holder, options.dataset, options.queries, options.k) as engine:
            built = engine.ask("build", threads=options.threads, save=str(folder))
        record.write_text(json.dumps(built))
    facts: dict[str, Any] = json.loads(record.read_text())
    return folder, facts


def _measured(
    cell: Cell, engines: dict[str, FilteredEngine], options: argparse.Namespace, turns: Turns
) -> dict[str, Any]:
    """One cell: each engine scouts it, what was chosen is timed in turns, then judged."""
    answer: dict[str, Any] = {}
    timed: dict[str, dict[str, Any]] = {}
    scouted: dict[str, tuple[float, dict[str, Any]]] = {}  # seconds of a query with the chosen setting, and its verdict
    for name, engine in engines.items():
        turns.take()
        lead = min((one for one, _ in scouted.values()), default=None)
        try:
            told = engine.ask("scout", cell=cell.name, seconds=SCOUT_SECONDS, lead=lead)
        except EngineFailed as reason:
            answer[name] = {"failed": str(reason)}
            continue
        answer[name] = {"points": told["points"], "chosen": told["chosen"]}
        settings = _timed(told)
        if settings:
            timed[name] = settings
        if "fastest" in settings:
            scouted[name] = _seconds(told), told["verified"]
    seconds = _rounds(cell, engines, timed, scouted, answer, options, turns)
    for name, settings in timed.items():
        turns.take()
        for at, (key, setting) in enumerate(settings.items()):
            try:
                if key == "fastest":
                    told = scouted[name][1]
                else:
                    told = engines[name].ask("judge", cell=cell.name, setting=setting, seconds=JUDGE_SECONDS)
            except EngineFailed as reason:
                answer[name] = {"failed": str(reason)}
                break
            answer[name][key] = {"setting": setting, **told, **_medians([one[at] for one in seconds[name]])}
    return answer


def _seconds(told: dict[str, Any]) -> float:
    """What a query took with the chosen setting when it was scouted."""
    return float(next(point["seconds"] for point in told["points"] if point["setting"] == told["chosen"]))


def _rounds(
    cell: Cell,
    engines: dict[str, FilteredEngine],
    timed: dict[str, dict[str, Any]],
    scouted: dict[str, tuple[float, Any]],
    answer: dict[str, Any],
    options: argparse.Namespace,
    turns: Turns,
) -> dict[str, list[list[dict[str, Any]]]]:
    """What each engine's settings took in each round, in an order drawn anew; who fails or is far behind leaves."""
    seconds: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in timed}
    lead = min((one for one, _ in scouted.values()), default=0.0)
    for number in range(options.rounds):
        order = np.random.default_rng((SEED, number)).permutation(list(timed))
        for name in order.tolist():
            if number >= ROUNDS_FAR and scouted.get(name, (0.0,))[0] > FAR * lead:
                continue
            turns.take()
            asked = {"cell": cell.name, "settings": list(timed[name].values()), "seconds": ROUND_SECONDS}
            try:
                seconds[name].append(engines[name].ask("round", **asked))
            except EngineFailed as reason:
                answer[name] = {"failed": str(reason)}
                del timed[name]
    return seconds


def _timed(told: dict[str, Any]) -> dict[str, Any]:
    """The settings worth timing: the fastest that reached the recall, and the default of engines that have one."""
    chosen, always = told["chosen"], told["always"]
    settings = {} if chosen is None and not _alone(told["points"]) else {"fastest": chosen}
    return settings if always is None else {**settings, "default": always}


def _alone(points: list[dict[str, Any]]) -> bool:
    """Whether the engine has no setting, and reached the recall without."""
    return [point["setting"] for point in points] == [None] and points[0]["recall"] >= RECALL


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    low, middle, high = metrics.quartiles([one["seconds"] for one in rounds])
    told = {f"{key}_us": float(np.median([one[key] for one in rounds])) * 1e6 for key in ("p50", "p99")}
    return {"qps": 1 / middle, "qps_quartiles": [1 / high, 1 / low], **told}


def _answer(options: argparse.Namespace, cells: list[Cell], names: list[str], kept: Kept) -> dict[str, Any]:
    facts = {}
    for name in names:
        if f"{name} failed" in kept.parts:
            facts[name] = {"failed": kept.parts[f"{name} failed"]}
        else:
            facts[name] = kept.parts[f"{name} facts"]
    told = {cell.name: {"kind": cell.kind, "engines": kept.parts[cell.name]} for cell in cells}
    words = {key: getattr(options, key) for key in ("suite", "dataset", "k", "queries", "rounds")}
    return {
        **words,
        "threads": 1,
        "seed": SEED,
        "recall": RECALL,
        "engines": facts,
        "cells": told,
        "regret": regrets(told),
        "machine": {**kept.machine, "load": os.getloadavg()},
    }


def _shown(result: dict[str, Any]) -> dict[str, Any]:
    """QPS of each engine's fastest setting, for who watches."""
    return {name: round(one["fastest"]["qps"]) if "fastest" in one else None for name, one in result.items()}
