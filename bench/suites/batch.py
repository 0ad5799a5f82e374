"""Recall against QPS of each engine's own batch call on `--threads` threads."""

from __future__ import annotations

import argparse
from typing import Any

from bench import charts, metrics
from bench.engine import interleaved, names
from bench.rivals import OURS

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; engines without a batch call are left out with their reason."""
    engines = interleaved(options, names(options), threads=options.threads)
    answer = {
        "suite": "batch",
        "dataset": options.dataset,
        "k": options.k,
        "queries": options.queries,
        "rounds": options.rounds,
        "threads": options.threads,
        "engines": engines,
        "ratios": metrics.ratios(engines, OURS),
        "machine": metrics.machine(),
    }
    charts.recall_chart(answer)
    return answer
