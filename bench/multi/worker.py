"""One engine for token matrices in its own process, on one thread; `bench.worker` says how it is spoken to.

{"do": "build", "folder": ...}    {"do": "scout", "k": 10}    {"do": "round", "k": 10, "settings": [...], "queries": 50}

fast-plaid runs under the interpreter that `VICINAL_BENCH_PYTHON_FAST_PLAID` names, or that of the environment
`bench/.cache/fast-plaid`: `python -m venv bench/.cache/fast-plaid`, then `bin/pip install fast-plaid torch`.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import metrics
from bench.multi import OURS, make
from bench.multi.quality import judged_recall, ndcg
from bench.multi.sets import load
from bench.worker import serve

ENOUGH = 0.999  # recall from which more candidates are not tried
IDLE = 2  # settings in a row that find no more than the one before them, after which others are not tried
SLICE, FEWEST = 0.5, 5  # seconds that a setting may take in a round, and queries that it answers at least
SCOUTED = 15.0, 20  # the same where its recall is measured
PATIENCE = 300.0  # seconds after which further settings are not tried


class MultiWorker:
    """The engine and its data."""

    def __init__(self, name: str, dataset: str, queries: int, k: int) -> None:
        self.name, self.k = name, k
        self.data = load(dataset)
        self.queries, self.truth = self.data.queries[:queries], self.data.truth[:queries]
        self.engine = make(name)

    def build(self, folder: str, again: bool = False) -> dict[str, Any]:
        """Index all documents and time it; an engine of ours compiles its kernels before.

        Ours are opened where this run has built them (`again`), others where any run has.
        """
        if self.name in OURS and not again:
            shutil.rmtree(folder, ignore_errors=True)
            count = min(300, len(self.data.ends))
            first = make(self.name)
            first.build(self.data._replace(ends=self.data.ends[:count]), Path(folder) / "first")
            first.set((*first.settings(self.data, 1), 10)[0])
            first.query(self.queries[0], 10)
            first.close()
        started = perf_counter()
        self.engine.build(self.data, Path(folder))
        seconds = perf_counter() - started
        used = self.engine.bytes_used()
        return {
            "build_seconds": seconds,
            "bytes": used,
            "bytes_each_token": round(used / int(self.data.ends[-1]), 2),
            "version": importlib.metadata.version(self.engine.package),
            **self.engine.facts(),
        }

    def scout(self, k: int) -> list[dict[str, Any]]:
        """Recall, judgements and time of every setting until recall is enough or it has taken too long."""
        points: list[dict[str, Any]] = []
        started = perf_counter()
        for setting in self.engine.settings(self.data, k):
            if perf_counter() - started > PATIENCE:
                break
            each = self._timed(setting, k, 1)[0]
            seconds, found = self._timed(setting, k, max(SCOUTED[1], int(SCOUTED[0] / each)))
            answers = [[int(d) for d in row] for row in found]
            point = {
                "setting": setting,
                "recall": metrics.recall(answers, self.truth[: len(answers)], k),
                "seconds": seconds,
                "scouted": len(answers),
                "queries": min(len(self.queries), max(FEWEST, int(SLICE / seconds))),
            }
            if self.data.judged:
                point |= {"ndcg_10": ndcg(answers, self.data.judged, 10)}
                point |= {"judged_recall": judged_recall(answers, self.data.judged, k)}
            points.append(point)
            if not isinstance(setting, tuple) and _idle([p["recall"] for p in points]):
                break
        if not isinstance(points[0]["setting"], tuple):
            return points
        kept = metrics.front(points, (0.0, ENOUGH))
        return [point for point in points if point["setting"] in kept]

    def round(self, k: int, settings: list[Any], queries: list[int]) -> dict[str, list[float]]:
        """Seconds a query of each setting."""
        self._timed(settings[0], k, FEWEST)
        return {"seconds": [self._timed(s, k, count)[0] for s, count in zip(settings, queries, strict=True)]}

    def _timed(self, setting: Any, k: int, count: int) -> tuple[float, list[Any]]:
        self.engine.set(setting)
        asked = self.queries[:count]
        self.engine.query(asked[0], k)
        started = perf_counter()
        found = [self.engine.query(query, k) for query in asked]
        return (perf_counter() - started) / len(asked), found


def _idle(recalls: list[float]) -> bool:
    """Whether more candidates find no more."""
    return recalls[-1] >= ENOUGH or (len(recalls) > IDLE and recalls[-1] <= recalls[-1 - IDLE])


if __name__ == "__main__":
    serve(MultiWorker)
