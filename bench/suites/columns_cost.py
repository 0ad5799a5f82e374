"""What attribute columns cost queries without a filter: one collection with payloads, one without, asked in turns.

Both hold the same rows in memory, inserted in the same order. In each round both answer all queries, one per call, in
an order drawn anew; what counts is the ratio within a round.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import numpy as np

import vicinal
from bench import datasets, metrics
from bench.kept import Kept
from bench.locks import Turns

__all__ = ["run"]

EF = 64
BATCH = 10_000
SEED = 3


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Queries per second of both, and their ratio, as quartiles over rounds."""
    data = datasets.prepare(options.dataset)
    kept = Kept(options)
    made = {name: _filled(data, with_payloads=name == "with columns") for name in ("without", "with columns")}
    made["with columns"].count("number >= 0 and topic = 't1'")  # they are there, and were asked
    queries = list(np.array(data.queries[: options.queries]))
    runs: dict[str, list[float]] = {name: [] for name in made}
    with Turns(options.lock, options.hold) as turns:
        for number in range(options.rounds + 1):
            turns.take()
            for name in np.random.default_rng((SEED, number)).permutation(list(made)).tolist():
                started = perf_counter()
                for query in queries:
                    made[name].query(query, options.k, ef=EF, with_payload=False)
                runs[name].append(len(queries) / (perf_counter() - started))
    kept.done()
    seconds = {name: qps[1:] for name, qps in runs.items()}  # the first round warmed up
    ratios = [have / lack for have, lack in zip(seconds["with columns"], seconds["without"], strict=True)]
    return {
        "suite": options.suite,
        "dataset": options.dataset,
        "ef": EF,
        "k": options.k,
        "rounds": options.rounds,
        "seed": SEED,
        "column_bytes": sum(made["with columns"].info().columns.values()),
        "engines": {name: {"qps": metrics.quartiles(qps)} for name, qps in seconds.items()},
        "ratio": metrics.quartiles(ratios),
        "machine": kept.machine,
    }


def _filled(data: datasets.Dataset, *, with_payloads: bool) -> Any:
    made = vicinal.Database(":memory:").create_collection("bench", dim=data.base.shape[1], metric=data.metric)
    for first in range(0, len(data.base), BATCH):
        block = np.ascontiguousarray(data.base[first : first + BATCH])
        ids = np.arange(first, first + len(block))
        payloads = [_payload(i) for i in ids.tolist()] if with_payloads else None
        made.upsert(ids, block, payloads)
    made.flush()
    return made


def _payload(i: int) -> dict[str, Any]:
    drawn = i * 2_654_435_761 % 1_000_003
    return {"number": drawn, "topic": f"t{drawn % 40}", "price": drawn / 7, "tags": [f"g{drawn % 9}", f"g{i % 5}"]}
