"""Recall against QPS, one thread, one query per call; build time beside it.

Every engine lives in its own process; rounds are interleaved, so that a busy moment hits all of them alike.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from bench import metrics, report

__all__ = ["run"]

RECALLS = (0.90, 0.95, 0.99)


class Engine:
    """A worker process and its results."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        words = [name, options.dataset, str(options.queries), str(options.threads), str(options.k)]
        self.name = name
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rounds: list[list[dict[str, Any]]] = []

    def ask(self, command: str) -> Any:
        """Send a command and wait for its answer."""
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        self.worker.stdin.write(command + "\n")
        self.worker.stdin.flush()
        line = self.worker.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended early with {self.worker.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self.worker.stdin is not None
        self.worker.stdin.close()
        self.worker.wait()

    def result(self) -> dict[str, Any]:
        """Medians over rounds (the first one warms up and gives recall)."""
        points = []
        for i, first in enumerate(self.rounds[0]):
            low, middle, high = metrics.quartiles([r[i]["seconds"] for r in self.rounds[1:]])
            points.append(
                {
                    "setting": first["setting"],
                    "recall": first["recall"],
                    "qps": 1 / middle,
                    "qps_quartiles": [1 / high, 1 / low],
                }
            )
        curve = [(p["recall"], p["qps"]) for p in points]
        return {"points": points, "qps_at": {str(r): metrics.at_recall(curve, r) for r in RECALLS}}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure vicinal and the rivals; write a chart beside the result."""
    engines = [Engine(name, options) for name in ["vicinal", *options.rivals]]
    results: dict[str, Any] = {}
    for engine in engines:
        results[engine.name] = {"build": engine.ask("build")}
        print(f"{engine.name}: built in {results[engine.name]['build']['seconds']:.1f} s", flush=True)
    for number in range(options.rounds + 1):
        for engine in engines:
            engine.rounds.append(engine.ask("round"))
        print(f"round {number} of {options.rounds}", flush=True)
    for engine in engines:
        engine.close()
        results[engine.name].update(engine.result())
    answer = {
        "suite": "recall_qps",
        "dataset": options.dataset,
        "k": options.k,
        "queries": options.queries,
        "rounds": options.rounds,
        "build_threads": options.threads,
        "engines": results,
        "ratio_to_hnswlib": _ratios(results),
        "machine": metrics.machine(),
    }
    report.recall_chart(answer, report.path(answer, "png"))
    return answer


def _ratios(results: dict[str, Any]) -> dict[str, Any]:
    base = results.get("hnswlib")
    if base is None:
        return {}
    ratios: dict[str, Any] = {}
    for name, result in results.items():
        qps = {
            r: round(value / base["qps_at"][r], 3) if value and base["qps_at"][r] else None
            for r, value in result["qps_at"].items()
        }
        ratios[name] = {"qps": qps, "build": round(result["build"]["seconds"] / base["build"]["seconds"], 3)}
    return ratios
