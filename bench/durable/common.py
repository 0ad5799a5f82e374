"""What the scripts of `bench.durable` share; imports numpy and nothing of ours, as foreign interpreters run it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BATCH", "Insert", "Store", "measure"]

BATCH = 1000
Insert = Callable[[int, NDArray[np.float32]], None]  # first id, rows: durable when it returns


def _nothing() -> None:
    """Most stores have nothing to wait for, and nothing to close."""


class Store(NamedTuple):
    """How to insert, how to wait for an index that is built behind the insertions, how to close."""

    insert: Insert
    settle: Callable[[], object] = _nothing
    close: Callable[[], None] = _nothing


def measure(mode: str, version: str, start: Callable[[Path, int], Store]) -> None:
    """Insert argv's rows of argv's width below argv's folder and print what it took, as JSON.

    `start` makes an empty store of so many dimensions. Bytes are counted until it is settled and closed.
    """
    folder, count, dim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rows = np.random.default_rng(1).standard_normal((count, dim)).astype(np.float32)
    store = start(folder / "store", dim)
    before = _written()
    began = time.perf_counter()
    for first in range(0, count, BATCH):
        store.insert(first, rows[first : first + BATCH])
    seconds = time.perf_counter() - began
    store.settle()
    settled = time.perf_counter() - began
    store.close()
    written = _written() - before
    disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    told: dict[str, Any] = {"seconds": seconds, "points_per_second": count / seconds, "written_bytes": written}
    told["settled_seconds"] = settled
    print(json.dumps({**told, "disk_bytes": disk, "mode": mode, "version": version}), flush=True)


def _written() -> int:
    """Bytes that this process has caused to be sent to the device."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
