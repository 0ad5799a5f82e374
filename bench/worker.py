"""One engine in its own process: reads one JSON command per line, answers with one JSON line each.

{"do": "build", "threads": 2, "save": folder or null}    {"do": "open", "folder": folder}
{"do": "scout", "threads": 1, or more for the batch call}    {"do": "round", "threads": 1, "settings": [...]}
{"do": "count", "enough": 0.9995}    {"do": "memory", "folder": folder}
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from bench import datasets, exact, metrics
from bench.rivals import make
from bench.rivals.base import Floats, Rival, Unsupported

SWEEP = 0.85, 0.997  # recalls between which speed is measured
SCOUTED = 500  # queries by which settings are chosen
SLOWEST = 0.002  # seconds a query: settings that take more work are left out
SLICE, FEWEST = 0.2, 200  # seconds that a setting may take in a round, and queries that it answers at least
PAGE, MADV_DONTNEED = 4096, 4  # of Linux
WARM_ROWS = 4096  # built and searched first, so that compiling kernels is not counted


class Worker:
    """The engine and its data."""

    def __init__(self, name: str, dataset: str, queries: int, k: int) -> None:
        self.name, self.k = name, k
        self.data = datasets.load(dataset)
        self.rival = make(name)
        self.queries = self.rival.prepare(np.array(self.data.queries[:queries]))
        self.truth = self.data.truth[:queries]

    def warm(self) -> None:
        """Compile an engine's numba kernels on a few rows."""
        if not (self.name.startswith("vicinal") or self.name == "pynndescent"):
            return
        small = make(self.name)
        small.build(np.array(self.data.base[:WARM_ROWS]), self.data.metric, 2)
        small.set(small.settings[0])
        small.query(self.queries[0], self.k)

    def build(self, threads: int, save: str | None) -> dict[str, Any]:
        """Index all rows and time it."""
        if save is not None and type(self.rival).save is Rival.save:
            raise Unsupported("cannot be saved")
        self.warm()
        base: Floats = np.array(self.data.base)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, cpu = perf_counter(), process_time()
        self.rival.build(base, self.data.metric, threads)
        seconds, cpu = perf_counter() - started, process_time() - cpu
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if save is not None:
            Path(save).mkdir(parents=True)
            self.rival.save(Path(save))
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "threads": threads,
            "peak_growth_mb": (after - before) / 1024,
            "version": importlib.metadata.version(self.rival.package),
        }

    def open(self, folder: str) -> dict[str, Any]:
        """Read a saved index, answer one query, and time both."""
        started = perf_counter()
        self.rival.open(Path(folder), self.data.base, self.data.metric)
        opened = perf_counter()
        self.rival.set(self.rival.settings[0])
        self.rival.query(self.queries[0], self.k)
        version = importlib.metadata.version(self.rival.package)
        return {"open": opened - started, "first_query": perf_counter() - opened, "version": version}

    def scout(self, threads: int) -> list[dict[str, Any]]:
        """Find the settings worth timing, and their recall over all queries."""
        tried: list[dict[str, Any]] = []
        ends: list[Any] = []
        self._timed(self.rival.settings[0], threads)  # touches the index's pages: the fast settings come first
        for setting in self.rival.settings:
            if any(_covers(setting, end) for end in ends):
                continue  # more work than a setting that is good, or slow, enough
            seconds, found = self._timed(setting, threads, SCOUTED)
            share = metrics.recall(found, self.truth[: len(found)], self.k)
            alone = not isinstance(setting, tuple)  # more work, more recall: time says nothing that recall does not
            tried.append({"setting": setting, "seconds": len(tried) if alone else seconds, "recall": share})
            if share >= SWEEP[1] or seconds > SLOWEST:
                ends.append(setting)
        points = []
        for setting in metrics.front(tried, SWEEP):
            seconds, found = self._timed(setting, threads)
            recall = metrics.recall(found, self.truth, self.k)
            points.append({"setting": setting, "recall": recall, "queries": self._affordable(seconds)})
        return points

    def _affordable(self, seconds: float) -> int:
        """Queries of a round: all, unless at `seconds` each they would take longer than SLICE."""
        return min(len(self.queries), max(FEWEST, int(SLICE / max(seconds, 1e-9))))

    def round(self, threads: int, settings: list[Any], queries: list[int] | None = None) -> dict[str, list[float]]:
        """Seconds a query of each setting, over all queries or the first so many.

        What other engines' processes pushed out of the caches meanwhile comes back before, not in the first setting.
        """
        limits = [None] * len(settings) if queries is None else queries
        self._timed(settings[0], threads, limits[0])
        return {"seconds": [self._timed(s, threads, limit)[0] for s, limit in zip(settings, limits, strict=True)]}

    def _timed(self, setting: Any, threads: int, limit: int | None = None) -> tuple[float, Any]:
        self.rival.set(setting)
        asked = self.queries[:limit]
        queries, k, query = list(asked), self.k, self.rival.query
        if threads == 1:
            for vector in queries[:100]:
                query(vector, k)
            started = perf_counter()
            found: Any = [query(vector, k) for vector in queries]
        else:
            self.rival.query_batch(self.queries[:200], k, threads)
            started = perf_counter()
            found = self.rival.query_batch(asked, k, threads)
        return (perf_counter() - started) / len(queries), found

    def count(self, enough: float = 0.9995) -> list[dict[str, Any]]:
        """Rows compared per query per setting up to `enough` recall by distance: an equally near row counts."""
        points = []
        for setting in self.rival.settings:
            self.rival.set(setting)
            found, looked = [], 0.0
            for vector in self.queries:
                found.append(np.asarray(self.rival.query(vector, self.k)))
                looked += self.rival.distances()
            points.append({"setting": setting, "recall": self._near(found), "distances": looked / len(found)})
            if points[-1]["recall"] >= enough:
                break
        return points

    def _near(self, found: list[Any]) -> float:
        hits = 0
        for i, rows in enumerate(found):
            vector, metric = self.data.queries[i], self.data.metric
            far = exact.distances(self.data.base[self.truth[i, self.k - 1 : self.k]], vector, metric)[0]
            distances = exact.distances(self.data.base[np.unique(rows[rows >= 0])], vector, metric)
            hits += int((distances <= far + 1e-5 * abs(far) + 1e-7).sum())
        return hits / (self.k * len(found))

    def memory(self, folder: str) -> dict[str, Any]:
        """Growth of resident memory by opening a saved index and answering every query, in MB.

        Of the data set's own file only the pages count that searching needs.
        """
        self.warm()
        gc.collect()
        _trim()
        _forget(self.data.base)
        before = resident()
        self.rival.open(Path(folder), self.data.base, self.data.metric)
        self.rival.set(self.rival.settings[len(self.rival.settings) // 2])
        _forget(self.data.base)
        for vector in self.queries:
            self.rival.query(vector, self.k)
        gc.collect()
        _trim()
        after = resident()
        return {part: (after[part] - before[part]) / 1024 for part in before}


def _covers(setting: Any, end: Any) -> bool:
    """Whether a setting asks for at least the work of another in each of its parameters."""
    return bool(np.all(np.asarray(setting) >= np.asarray(end)))


def resident() -> dict[str, int]:
    """Resident kilobytes: all, anonymous, and of mapped files."""
    names = {"VmRSS:": "all", "RssAnon:": "anonymous", "RssFile:": "files"}
    words = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {names[w[0]]: int(w[1]) for w in words if w[0] in names}


def _forget(mapped: Floats) -> None:
    """Let go of a mapped array's pages: those that a search needs come back from the page cache."""
    start = mapped.ctypes.data // PAGE * PAGE
    length = mapped.ctypes.data + mapped.nbytes - start
    if ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(MADV_DONTNEED)) != 0:
        raise OSError("madvise refused to let go of the data set's pages")


def _trim() -> None:
    """Give freed memory back, so that what was needed only while opening is not counted."""
    ctypes.CDLL(None).malloc_trim(0)


def serve(make_worker: Callable[[str, str, int, int], Any]) -> None:
    """Answer commands until the parent closes the pipe; what an engine cannot do is an answer too."""
    name, dataset, queries, k = sys.argv[1:]
    worker = None
    for line in sys.stdin:
        words = json.loads(line)
        try:
            worker = worker or make_worker(name, dataset, int(queries), int(k))
            answer: Any = getattr(worker, words.pop("do"))(**words)
        except Unsupported as reason:
            answer = {"unsupported": str(reason)}
        except ImportError as error:
            answer = {"unsupported": f"not installed: {error}"}
        except Exception as error:
            if name.startswith("vicinal"):
                raise  # a defect of ours is none of an engine's limits
            answer = {"unsupported": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    serve(Worker)
