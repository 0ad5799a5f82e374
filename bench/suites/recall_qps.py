"""Recall against QPS, one thread, one query per call; build time beside it."""

from __future__ import annotations

import argparse
from typing import Any

from bench import charts, metrics
from bench.engine import interleaved, names
from bench.rivals import OURS

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure ours and the rivals; write a chart beside the result."""
    engines = interleaved(options, names(options), threads=1)
    answer = {
        "suite": "recall_qps",
        "dataset": options.dataset,
        "k": options.k,
        "queries": options.queries,
        "rounds": options.rounds,
        "threads": 1,
        "engines": engines,
        "ratios": metrics.ratios(engines, OURS),
        "machine": metrics.machine(),
    }
    charts.recall_chart(answer)
    return answer
