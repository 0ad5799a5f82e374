"""One engine of filtered search in its own process: reads JSON commands and answers them as `bench.worker` does.

{"do": "build", "threads": 2, "save": folder or null}    {"do": "open", "folder": folder}
{"do": "prepare", "cells": [...]}    {"do": "scout", "cell": name, "seconds": 2.0, "lead": seconds or null}
{"do": "round", "cell": name, "settings": [...], "seconds": 0.5}
{"do": "judge", "cell": name, "setting": ..., "seconds": 2.0}
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import resource
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

from bench import datasets
from bench.fanns import columns
from bench.fanns.cells import grid
from bench.fanns.engines import engine_class
from bench.fanns.regret import RECALL
from bench.fanns.truth import exact_answers, judged
from bench.rivals.base import Unsupported
from bench.worker import serve

__all__ = ["Worker", "least"]

SLACK = 0.005  # by which the scouted queries must exceed it: the others may be harder
SCOUTED = 100  # queries by which settings are chosen
FEWEST = 20  # queries that are asked however slow the engine is
FEWEST_FAR = 8  # the same of one that is far behind
FAR = 50  # times the fastest engine's time, from which one is far behind
WARMED = 20  # queries before each timed block
WARM_ROWS = 4096


class Worker:
    """The engine, the data, the cells and their exact answers."""

    def __init__(self, name: str, dataset: str, queries: int, k: int) -> None:
        self.data, self.k = datasets.load(dataset), k
        self.queries = list(np.array(self.data.queries[:queries]))
        self.table = columns.load(self.data)
        made = grid(self.table, len(self.queries))
        self.cells = {cell.name: cell for cell in made}
        self.truths = exact_answers(self.data, self.table, made, k)
        self.engine = engine_class(name)()
        self._phrased: tuple[str, list[Any]] = ("", [])
        self._far = float("inf")  # seconds of a query, from which this engine is far behind

    def build(self, threads: int, save: str | None) -> dict[str, Any]:
        """Index all rows and time it."""
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, perf_counter()
        self.engine.build(self.data, self.table, threads)
        seconds = perf_counter() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        size = self.engine.nbytes
        if save is not None:
            Path(save).mkdir(parents=True)
            self.engine.save(Path(save))
            size = sum(file.stat().st_size for file in Path(save).rglob("*") if file.is_file())
        return {**self._facts(), "seconds": seconds, "threads": threads, "peak_growth_mb": grown / 1024, "bytes": size}

    def open(self, folder: str) -> dict[str, Any]:
        """Read a saved index."""
        started = perf_counter()
        self.engine.open(Path(folder), self.data, self.table)
        return {**self._facts(), "open_seconds": perf_counter() - started}

    def _facts(self) -> dict[str, Any]:
        return {"version": importlib.metadata.version(self.engine.package)}

    def prepare(self, cells: list[str]) -> dict[str, Any]:
        """Let methods build what these cells ask about, outside the clock; the bytes, and seconds by attribute."""
        for cell in cells:
            with contextlib.suppress(Unsupported):  # told again by `scout`
                self.engine.phrase(self.cells[cell].predicates[0])
        size = self.engine.nbytes
        told = {"builds": self.engine.builds, "sizes": self.engine.sizes}
        return {**told, **({} if size is None else {"bytes": size})}

    def scout(self, cell: str, seconds: float, lead: float | None = None) -> dict[str, Any]:
        """The settings tried on a part of the queries, and the fastest that reaches the recall, verified on more.

        `chosen` is None when none does; `verified`: how it was judged. lead: seconds of a query with the fastest engine
        so far; one that takes `FAR` times as long is asked few.
        """
        started = perf_counter()
        self._far = float("inf") if lead is None else FAR * lead
        phrased = self._filters(cell)
        built, end = perf_counter() - started, perf_counter() + seconds
        tried: list[dict[str, Any]] = []
        for line in self.engine.lines:
            if tried and perf_counter() > end:
                break
            tried += self._bisected(cell, line, end, phrased)
        reached = sorted((p for p in tried if p["recall"] >= RECALL + SLACK), key=lambda p: float(p["seconds"]))
        chosen = verified = None
        for point in reached[:3]:
            told = self.judge(cell, point["setting"], seconds / 2)
            point["recall"] = told["recall"]
            if told["recall"] >= RECALL:
                chosen, verified = point["setting"], told
                break
        told = {"points": tried, "chosen": chosen, "verified": verified, "always": self.engine.always}
        return {**told, "phrase_seconds": built}

    def _bisected(self, cell: str, line: Sequence[Any], end: float, phrased: list[Any]) -> list[dict[str, Any]]:
        """Points of one line around the least setting that reaches the recall."""
        points: dict[int, dict[str, Any]] = {}

        def good(at: int) -> bool:
            times, found = self._asked(line[at], phrased, SCOUTED, (end - perf_counter()) / 2)
            told = judged(found, self.cells[cell], self.truths[cell], self.table)
            points[at] = {"setting": line[at], "seconds": float(np.mean(times)), "recall": told["recall"]}
            return bool(told["recall"] >= RECALL + SLACK)

        first = least(len(line), good)
        for more in (first + 1, first + 3):
            if more < len(line) and more not in points and perf_counter() < end:
                good(more)
        return [points[at] for at in sorted(points)]

    def round(self, cell: str, settings: list[Any], seconds: float) -> list[dict[str, Any]]:
        """Speed of each setting: QPS over the queries asked, median and 99th percentile of their latency."""
        phrased = self._filters(cell)
        answers = []
        for setting in settings:
            times, _ = self._asked(setting, phrased, len(self.queries), seconds)
            middle, worst = np.percentile(times, [50, 99])
            answers.append({"seconds": float(np.mean(times)), "p50": float(middle), "p99": float(worst)})
        return answers

    def judge(self, cell: str, setting: Any, seconds: float) -> dict[str, Any]:
        """Recall and the promises, over as many queries as there is time for."""
        _, found = self._asked(setting, self._filters(cell), len(self.queries), seconds)
        return judged(found, self.cells[cell], self.truths[cell], self.table)

    def _filters(self, cell: str) -> list[Any]:
        if self._phrased[0] != cell:
            self._phrased = cell, [self.engine.phrase(one) for one in self.cells[cell].predicates]
        return self._phrased[1]

    def _asked(self, setting: Any, phrased: list[Any], most: int, seconds: float) -> tuple[list[float], list[Any]]:
        """Seconds of each query and its answer; stops after `seconds`, but not before FEWEST, or FEWEST_FAR."""
        engine, k = self.engine, self.k
        engine.set(tuple(setting) if isinstance(setting, list) else setting)
        end = perf_counter() + seconds
        for vector, one in zip(self.queries[:WARMED], phrased, strict=False):
            engine.query(vector, one, k)
            if perf_counter() > end:
                break
        times, found = [], []
        for vector, one in zip(self.queries[:most], phrased, strict=False):
            started = perf_counter_ns()
            answer = engine.query(vector, one, k)
            times.append((perf_counter_ns() - started) / 1e9)
            found.append(answer)
            if len(times) >= FEWEST_FAR and perf_counter() > end:
                few = FEWEST_FAR if np.median(times) > self._far else FEWEST
                if len(times) >= few:
                    break
        return times, found


def least(count: int, good: Any) -> int:
    """The least of `count` settings for which `good` holds, by bisection; `count` when it is none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if good(middle):
            high = middle
        else:
            low = middle + 1
    return low


if __name__ == "__main__":
    serve(Worker)
