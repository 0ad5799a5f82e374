"""A fresh process to its first answer from a saved index: start of Python, imports, opening, one query."""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

from bench import datasets, metrics
from bench.engine import Engine, EngineFailed, names, saved
from bench.kept import Kept
from bench.locks import Turns

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Quartiles over rounds after one that warms up; the data set is mapped, its rows come from the page cache."""
    datasets.prepare(options.dataset)
    kept = Kept(options)
    engines: dict[str, Any] = {}
    folders = {name: _folder(name, options) for name in names(options) if name not in kept.parts}
    with Turns(options.lock, options.hold) as turns:
        for name in names(options):
            engines[name] = kept.get(name, _rounds, name, options, folders.get(name), turns)
            print(name, engines[name], flush=True)
    kept.done()
    return {"suite": options.suite, "dataset": options.dataset, "engines": engines, "machine": kept.machine}


def _folder(name: str, options: argparse.Namespace) -> str | EngineFailed:
    try:
        return str(saved(name, options)[0])
    except EngineFailed as reason:
        return reason


def _rounds(name: str, options: argparse.Namespace, folder: str | EngineFailed, turns: Turns) -> dict[str, Any]:
    if isinstance(folder, EngineFailed):
        return {"failed": str(folder)}
    turns.take()
    try:
        runs = [_start(name, options, folder) for _ in range(options.rounds + 1)][1:]
    except EngineFailed as reason:
        return {"failed": str(reason)}
    return {part: metrics.quartiles([run[part] for run in runs]) for part in runs[0]}


def _start(name: str, options: argparse.Namespace, folder: str) -> dict[str, float]:
    started = perf_counter()
    with Engine(name, options.dataset, options.queries, options.k) as engine:
        parts = engine.ask("open", folder=folder)
        seconds = perf_counter() - started
    return {"seconds": seconds, "open": parts["open"], "first_query": parts["first_query"]}
