"""What durability costs: ingest against stores that keep points on disk, bytes written and kept, recovery, snapshots.

Each store runs in an interpreter of its own, `bench/.cache/durable-<name>/bin/python` or what
`VICINAL_BENCH_PYTHON_<NAME>` names; one that is not there is left out with that reason. Rows are random; each batch of
1,000 points with a payload is acknowledged before the next is sent. Recovery is that of fresh processes, from opening
to the first answer, after a clean close and after a kill in the middle of writing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import metrics
from bench.kept import Kept
from bench.locks import undisturbed

__all__ = ["run"]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "bench" / ".cache"
STORES = {
    "vicinal": ("vicinal", "ours"),
    "lancedb": ("lancedb", "lance"),
    "lancedb-synced": ("lancedb", "lance_synced"),
    "chromadb": ("chromadb", "chroma"),
    "milvus": ("milvus", "milvus"),
}  # by the name of the environment and the script
ROUNDS = 3  # at most: a store's times differ less than the stores
SIZES = {128: 20_000, 384: 10_000, 1536: 4_000}  # points by dimension, so that the slowest store ends in a minute
RECOVERED = {10_000: 5, 30_000: 5, 100_000: 20}  # times opened, by points
TAIL = 20_000
SECONDS_MAX = 200.0

WRITE = """
import os, sys, time
import numpy as np, vicinal
folder, count, tail = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rows = np.random.default_rng(1).standard_normal((count, 128)).astype(np.float32)
database = vicinal.Database(folder)
bench = database.create_collection("bench", dim=128, metric="l2")
def send(first, stop):
    for at in range(first, stop, 1000):
        bench.upsert(range(at, at + 1000), rows[at : at + 1000], [{"number": i} for i in range(at, at + 1000)])
send(0, count - tail)
assert bench.flush()
if tail:
    send(count - tail, count)
    print(bench.info().tail, flush=True)
    os.kill(os.getpid(), 9)
parts = bench._generation
parts.indexer.close(save=False)  # which saves snapshots itself, one at a time
began = time.perf_counter()
parts.indexer._snapshot(*next(iter(parts.opened.fields.items())))
print(time.perf_counter() - began)
began = time.perf_counter()
database.close()
print(time.perf_counter() - began)
"""
OPEN = """
import sys, time
import numpy as np, vicinal
vicinal.connect
row = np.random.default_rng(1).standard_normal((int(sys.argv[2]), 128)).astype(np.float32)[-1]
began = time.perf_counter()
hits = vicinal.Database(sys.argv[1], read_only=sys.argv[3] == "clean").collection("bench").query(row, 1)
print(time.perf_counter() - began, flush=True)
assert hits[0].id == int(sys.argv[2]) - 1
"""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Ingest by dimension and store, in rounds; then recovery by points."""
    kept = Kept(options)
    answer: dict[str, Any] = {"suite": options.suite, "ingest": {}, "recovery": {}}
    for dim, count in SIZES.items():
        told = {store: kept.get(f"{dim} {store}", _store, store, dim, count, options) for store in STORES}
        answer["ingest"][str(dim)] = told
    for count, times in RECOVERED.items():
        answer["recovery"][str(count)] = kept.get(f"recovery {count}", _recovery, count, times, options)
    kept.done()
    return {**answer, "machine": kept.machine}


def _interpreter(store: str) -> Path:
    if store == "vicinal":
        return Path(sys.executable)
    named = os.environ.get(f"VICINAL_BENCH_PYTHON_{store.upper()}")
    return Path(named) if named else CACHE / f"durable-{store}" / "bin" / "python"


def _store(store: str, dim: int, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Median of the rounds of one store, each into a fresh directory."""
    environment, script = STORES[store]
    python = _interpreter(environment)
    if not python.exists():
        return {"failed": f"no interpreter {python.relative_to(ROOT) if python.is_relative_to(ROOT) else python}"}
    rounds = []
    for _ in range(min(options.rounds, ROUNDS)):
        with tempfile.TemporaryDirectory(dir=CACHE) as folder, undisturbed(options.lock):
            told = _told([str(python), "-m", f"bench.durable.{script}", folder, str(count), str(dim)])
        if "failed" in told:
            return told
        rounds.append(told)
    low, middle, high = metrics.quartiles([r["points_per_second"] for r in rounds])
    last = rounds[-1]
    print(f"{store}, {dim} dimensions: {middle:,.0f} points/s", flush=True)
    return {
        "points": count,
        "points_per_second": [low, middle, high],
        "written_per_point": sorted(r["written_bytes"] / count for r in rounds)[len(rounds) // 2],
        "disk_per_point": last["disk_bytes"] / count,
        "settled_seconds": metrics.quartiles([r["settled_seconds"] for r in rounds]),
        "mode": last["mode"],
        "version": last["version"],
    }


def _told(words: Sequence[str]) -> dict[str, Any]:
    """What a script printed last; why it failed, if it did."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_MAX, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {SECONDS_MAX:g} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _recovery(count: int, times: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from opening to the first answer; after a kill, that of the newest point, which no graph has.

    `times` processes one after another, each on a fresh copy, whose files the system has in memory.
    """
    tail = min(TAIL, count // 2)
    found: dict[str, Any] = {"asked_tail": tail}
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        for kind, unindexed in (("clean", 0), ("killed", tail)):
            place = str(Path(folder) / kind)
            lines = _lines([sys.executable, "-c", WRITE, place, str(count), str(unindexed)])
            if kind == "clean":
                snapshots = sum(path.stat().st_size for path in Path(place).rglob("*.snapshot"))
                found |= {"snapshot_seconds": float(lines[0]), "snapshot_bytes": snapshots}
            found["close_seconds" if kind == "clean" else "tail"] = float(lines[-1])
            seconds = sorted(_opened(place, count, kind, options) for _ in range(times))
            found[f"{kind}_seconds"] = metrics.quartiles(seconds)
            found[f"{kind}_p95"] = seconds[math.ceil(0.95 * times) - 1]
    print(f"{count} points: {found['clean_seconds'][1]:.2f} s, after a kill {found['killed_seconds'][1]:.2f} s")
    return found


def _opened(place: str, count: int, kind: str, options: argparse.Namespace) -> float:
    copied = shutil.copytree(place, place + " copied")  # opened for writing, it would go on with the tail
    with undisturbed(options.lock):
        seconds = float(_lines([sys.executable, "-c", OPEN, copied, str(count), kind])[-1])
    shutil.rmtree(copied)
    return seconds


def _lines(words: Sequence[str]) -> list[str]:
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=SECONDS_MAX * 3, check=False)
    return done.stdout.strip().splitlines()
