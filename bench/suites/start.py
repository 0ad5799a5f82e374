"""Start-up: `import vicinal` beyond numpy's own import, and a fresh process to its first answer.

The first answer comes from a collection of 5,000 points on disk, with kernels cached and with an empty cache.
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
ANSWER = """
import sys, numpy, vicinal
with vicinal.connect(sys.argv[1], read_only=True) as db:
    hits = db.collection("papers").query(numpy.ones(384, numpy.float32), 10)
    assert len(hits) == 10
"""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds; three of them with an empty cache, which take seconds."""
    kept = Kept(options)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "db"
        rng = np.random.default_rng(1)
        with vicinal.Database(directory) as db:
            papers = db.create_collection("papers", dim=384)
            papers.upsert(range(5000), rng.standard_normal((5000, 384), np.float32))
            papers.flush()
        imports = kept.get("import", _alone, options, options.rounds, _import)
        cached = kept.get("cached", _alone, options, options.rounds + 1, lambda _: _timed(directory, {}))[1:]
        empty = kept.get("empty", _alone, options, EMPTY_ROUNDS, lambda i: _empty(directory, folder, i))
    answer = {
        "suite": options.suite,
        "import_seconds": metrics.quartiles(imports),
        "first_answer_cached_seconds": metrics.quartiles(cached),
        "first_answer_empty_cache_seconds": metrics.quartiles(empty),
        "machine": kept.machine,
    }
    kept.done()
    return answer


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
