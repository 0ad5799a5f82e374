"""Start-up: `import vicinal` beyond numpy's own import, and a fresh process to its first answer.

The first answer comes from collections on disk, 5,000 points (walked on floats) and 20,000 (walked on codes), with
kernels cached and with an empty cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import vicinal
from bench import metrics
from bench.kept import Kept
from bench.locks import undisturbed

__all__ = ["run"]

IMPORT = "import time, numpy; t = time.perf_counter(); import vicinal; vicinal.connect; print(time.perf_counter() - t)"
EMPTY_ROUNDS = 3
COLLECTIONS = {"first_answer": 5_000, "coded_first_answer": 20_000}
ANSWER = """
import sys, numpy, vicinal
with vicinal.connect(sys.argv[1], read_only=True) as db:
    hits = db.collection("papers").query(numpy.ones(384, numpy.float32), 10)
    assert len(hits) == 10
"""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds; three of them with an empty cache, which take seconds."""
    kept = Kept(options)
    answer: dict[str, Any] = {"suite": options.suite}
    answer["import_seconds"] = metrics.quartiles(kept.get("import", _alone, options, options.rounds, _import))
    for name, rows in COLLECTIONS.items():
        cached, empty = _first_answers(rows, kept, options)
        answer[f"{name}_cached_seconds"] = metrics.quartiles(cached)
        answer[f"{name}_empty_cache_seconds"] = metrics.quartiles(empty)
    kept.done()
    return {**answer, "machine": kept.machine}


def _first_answers(rows: int, kept: Kept, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds of fresh processes that open a collection of so many rows and ask it once."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "db"
        _write(directory, rows)
        cached = kept.get(f"cached {rows}", _alone, options, options.rounds + 1, lambda _: _timed(directory, {}))
        empty = kept.get(f"empty {rows}", _alone, options, EMPTY_ROUNDS, lambda i: _empty(directory, folder, i))
    return cached[1:], empty


def _write(directory: Path, rows: int) -> None:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((200, 384), np.float32)  # rows without any structure would be compared exactly
    vectors = centres[rng.integers(200, size=rows)] + 0.5 * rng.standard_normal((rows, 384), np.float32)
    with vicinal.Database(directory) as db:
        papers = db.create_collection("papers", dim=384)
        papers.upsert(range(rows), vectors)
        papers.flush()
        told = papers.query(vectors[0], 10, explain=True).explain or {}
        assert told["plan"] == "sweep", f"meant to walk a graph of {rows} rows: {told}"


def _alone(options: argparse.Namespace, rounds: int, once: Callable[[int], float]) -> list[float]:
    with undisturbed(options.lock):
        return [once(number) for number in range(rounds)]


def _import(_: int) -> float:
    return float(_python(["-c", IMPORT]).stdout)


def _empty(directory: Path, folder: str, number: int) -> float:
    return _timed(directory, {"VICINAL_CACHE_DIR": str(Path(folder) / f"cache{number}")})


def _python(words: list[str], extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(extra or {})}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, env=environment)


def _timed(directory: Path, extra: dict[str, str]) -> float:
    started = perf_counter()
    _python(["-c", ANSWER, str(directory)], extra)
    return perf_counter() - started
