"""What a vector's dtype and its code cost and give: bytes, recall, latency and build time of one collection each.

Options are those a user has: `Dense(dtype=..., codec=...)`. Rows of other dtypes are made as a user would make them:
int8 by one scale for all (127 at the largest value), uint8 where the data are such numbers, bits by whether a number
exceeds its dimension's mean. Recall is against the exact answers on float32, so it holds what the dtype lost; `ef` is
the default. One option more lets near-copies share nodes (`Dense(share=0.05)`): what that saves where there are some,
and costs where there are none. Every option is built by one fresh process and opened and asked by another.

After "Experimental Analysis of Large-scale Learnable Vector Storage Compression" (Zhang et al., VLDB 2024), which
reports memory, quality, latency and build time of every method together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import datasets
from bench.kept import Kept
from bench.locks import busy, undisturbed
from bench.metrics import quartiles, recall
from bench.worker import resident

__all__ = ["run"]

FOLDER = Path(__file__).parent.parent / ".cache" / "compression"
BATCH = 20_000
NARROW = 56  # dimensions that a code line holds in 8 bits
WARM = 10_000  # rows that a coded graph is made of
FEW = 64
SHARE = 0.05
SHARED = f"share {SHARE}"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Build and ask every option."""
    data = datasets.prepare(options.dataset)
    kept = Kept(options)
    engines: dict[str, Any] = {}
    for option in _options(data):
        name = ", ".join(option)
        engines[name] = kept.get(name, _measured, option, options)
        print(name, engines[name], flush=True)
    kept.done()
    return {
        "suite": options.suite,
        "dataset": options.dataset,
        "k": options.k,
        "vectors_mb": data.base.nbytes / 2**20,
        "engines": engines,
        "machine": kept.machine,
    }


def _options(data: datasets.Dataset) -> list[tuple[str, ...]]:
    """(dtype, codec) that the data allow, and one with near-copies sharing nodes."""
    some = data.base[:1000]
    whole = bool((some == np.rint(some)).all() and some.min() >= 0 and some.max() <= 255)
    bytes_ = "uint8" if whole else "int8"
    narrow = [("float32", "int8")] if data.base.shape[1] <= NARROW else []
    codecs = [("float32", "auto"), ("float32", "none"), *narrow, ("float32", "int4"), ("float32", "rabitq")]
    return [
        *codecs,
        ("float32", "auto", SHARED),
        ("float16", "auto"),
        ("float16", "none"),
        (bytes_, "auto"),
        (bytes_, "none"),
        ("bit", "none"),
    ]


def _measured(option: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    words = [options.dataset, json.dumps(option), str(options.queries), str(options.k), str(options.rounds)]
    try:
        with busy(options.lock):
            built = _child("build", words)
        with undisturbed(options.lock):
            return {**built, **_child("ask", words)}
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def _child(what: str, words: list[str]) -> dict[str, Any]:
    call = [sys.executable, "-m", "bench.suites.compression", what, *words]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _cast(data: datasets.Dataset, rows: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Rows as a user would send them in that dtype; what is fitted is fitted to the base."""
    if dtype == "int8":
        widest = float(np.abs(data.base).max())
        return np.asarray(np.clip(np.rint(rows * (127 / widest)), -127, 127), np.int8)
    if dtype == "bit":
        wider = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.bool_)
        wider[:, : rows.shape[1]] = rows > data.base.mean(0, dtype=np.float64)
        return wider
    return rows.astype(dtype)


def _create(database: Any, data: datasets.Dataset, option: list[str]) -> Any:
    dtype, codec = option[:2]
    share = SHARE if option[2:] else None
    dim, metric = data.base.shape[1], data.metric
    if dtype == "bit":
        dim, metric = -(-dim // 8) * 8, "hamming"
    return database.create_collection("c", dim=dim, metric=metric, dtype=dtype, codec=codec, share=share)


def _build(data: datasets.Dataset, option: list[str]) -> dict[str, Any]:
    """Seconds to insert durably and until the graph holds all; bytes on disk."""
    import vicinal

    with vicinal.connect(":memory:") as warm:  # compile or load what building needs
        small = _create(warm, data, option)
        rows = data.base[: 3 * WARM if option[2:] else WARM]  # of which few enough are copies
        small.upsert(range(len(rows)), _cast(data, rows, option[0]))
        small.flush()
    began = time.perf_counter()
    with vicinal.connect(FOLDER) as database:
        collection = _create(database, data, option)
        for first in range(0, len(data.base), BATCH):
            rows = _cast(data, data.base[first : first + BATCH], option[0])
            collection.upsert(range(first, first + len(rows)), rows)
        inserted = time.perf_counter()
        collection.flush()
        finished = time.perf_counter()
    disk = {
        kind: sum(f.stat().st_size for f in FOLDER.rglob(f"*{kind}") if f.is_file()) / 2**20 for kind in (".vec", "")
    }
    return {
        "build_seconds": finished - began,
        "graph_seconds": finished - inserted,
        "vectors_mb": disk[".vec"],
        "disk_mb": disk[""],
    }


def _ask(data: datasets.Dataset, option: list[str], asked: int, k: int, rounds: int) -> dict[str, Any]:
    """Recall and latency at the default ef, and what opening and asking takes of memory."""
    import vicinal

    queries = list(_cast(data, data.queries[:asked], option[0]))
    with vicinal.connect(":memory:") as warm:
        small = _create(warm, data, option)
        small.upsert(range(FEW), _cast(data, data.base[:FEW], option[0]))
        small.query(queries[0], k, with_payload=False)
    before = resident()
    with vicinal.connect(FOLDER, read_only=True) as database:
        collection = database.collection("c")
        found = [collection.query(query, k, with_payload=False).ids for query in queries]
        after = resident()
        medians = []
        for _ in range(rounds):
            times = []
            for query in queries:
                began = time.perf_counter()
                collection.query(query, k, with_payload=False)
                times.append(time.perf_counter() - began)
            medians.append(float(np.median(times)) * 1e6)
        field = collection.info().fields[""]
    return {
        "recall": recall(found, data.truth[:asked], k),
        "microseconds": quartiles(medians),
        "ram_mb": {part: (after[part] - before[part]) / 1024 for part in before},
        "row_bytes": field["row_bytes"],
        "codec": field["codec"],
        "shared": field.get("shared"),
    }


def main(words: list[str]) -> None:
    """One child process: `build` or `ask`, and its answer as the last line."""
    what, dataset, option, asked, k, rounds = words
    data = datasets.load(dataset)
    building = what == "build"
    chosen = json.loads(option)
    told = _build(data, chosen) if building else _ask(data, chosen, int(asked), int(k), int(rounds))
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
