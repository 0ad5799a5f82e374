"""Durable upsert: points per second until acknowledged, with payloads, in batches of 1,000; recall straight after.

The tail's hard bound must not be reached, or the figure would be that of graph building.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import vicinal
from bench import datasets, metrics
from bench.kept import Kept
from bench.locks import undisturbed

__all__ = ["run"]

BATCH = 1000


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Median of several rounds, each into a fresh directory; one caller, then two at once."""
    data = datasets.prepare(options.dataset)
    kept = Kept(options)
    answer: dict[str, Any] = {"suite": options.suite, "dataset": options.dataset, "points": len(data.base)}
    for callers in (1, 2):
        rates = [kept.get(f"{callers} {number}", _round, data, callers, options) for number in range(options.rounds)]
        low, middle, high = metrics.quartiles([r["points_per_second"] for r in rates])
        answer[f"callers_{callers}"] = {
            "points_per_second": middle,
            "quartiles": [low, high],
            "recall_right_after": min(r["recall"] for r in rates),
            "rounds": rates,
        }
        print(f"{callers} caller(s): {middle:,.0f} points/s", flush=True)
    kept.done()
    return {**answer, "machine": kept.machine}


def _round(data: datasets.Dataset, callers: int, options: argparse.Namespace) -> dict[str, Any]:
    n = len(data.base)
    payloads = [{"number": i, "parity": "even" if i % 2 == 0 else "odd", "title": f"row {i}"} for i in range(n)]
    with tempfile.TemporaryDirectory() as folder, vicinal.Database(Path(folder) / "db") as db:
        made = db.create_collection("bench", dim=data.base.shape[1], metric=data.metric)

        def send(first: int) -> None:
            stop = min(first + BATCH, n)
            made.upsert(range(first, stop), data.base[first:stop], payloads[first:stop])

        with undisturbed(options.lock), ThreadPoolExecutor(callers) as pool:
            started = perf_counter()
            list(pool.map(send, range(0, n, BATCH)))
            seconds = perf_counter() - started
        tail = made.info().tail
        found = [made.query(q, 10, exact=tail == n, with_payload=False).ids for q in data.queries[:100]]
        share = metrics.recall(np.asarray(found).tolist(), data.truth[:100], 10)
    return {"seconds": seconds, "points_per_second": n / seconds, "tail_after": tail, "recall": share}
