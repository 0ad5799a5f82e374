"""Minutes of replacing, deleting and asking: memory and descriptors stay where they are."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from tests.support.own_process import run_alone

from vicinal.collection import Collection
from vicinal.database import Database

DIM = 32
POINTS = 4000
SLOPE_MAX = 1 << 20  # bytes a minute
WINDOW = 20.0  # seconds, in which memory rises with dead slots and falls when they go, some times


def _anonymous() -> int:
    """Bytes of this process that no file holds."""
    _, resident, shared = Path("/proc/self/statm").read_text().split()[:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _write(collection: Collection, rows: np.ndarray, stop: threading.Event) -> None:
    rng = random.Random(0)
    while not stop.is_set():
        ids = rng.sample(range(POINTS), 100)
        if rng.random() < 0.2:
            collection.delete(ids)
        collection.upsert(ids, rows[ids], [{"n": rng.randrange(50)} for _ in ids])
        sleep(0.01)


def _read(collection: Collection, rows: np.ndarray, stop: threading.Event) -> None:
    rng = random.Random(1)
    while not stop.is_set():
        collection.query(rows[rng.randrange(POINTS)], 10)
        collection.query(rows[rng.randrange(POINTS)], 10, filter=f"n = {rng.randrange(50)}")
        collection.get([rng.randrange(POINTS)], with_vectors=True)
        sleep(0.001)


def soak(folder: str, seconds: int, warm: int) -> None:
    """Sample memory and descriptors; the slope is that of a line through the least of each window after `warm`."""
    rows = np.random.default_rng(0).standard_normal((POINTS, DIM)).astype(np.float32)
    stop = threading.Event()
    samples: list[tuple[float, int, int]] = []
    with Database(Path(folder) / "db") as database:
        collection = database.create_collection("c", dim=DIM, metric="l2")
        collection.upsert(list(range(POINTS)), rows)
        threads = [threading.Thread(target=f, args=(collection, rows, stop)) for f in (_write, _read, _read)]
        for thread in threads:
            thread.start()
        began = monotonic()
        while (now := monotonic() - began) < seconds:
            if now > warm:
                samples.append((now, _anonymous(), len(list(Path("/proc/self/fd").iterdir()))))
            assert all(thread.is_alive() for thread in threads)
            sleep(1)
        stop.set()
        for thread in threads:
            thread.join()
        assert collection.count() == POINTS
        assert collection.flush(60)
        assert collection.verify().problems == ()
        print(collection.info())
    times, used, descriptors = np.array(samples, np.float64).T
    parts = (times - warm) // WINDOW
    least = np.array([[kind[parts == part].min() for kind in (used, descriptors)] for part in np.unique(parts)])
    slope = float(np.polyfit(np.arange(len(least)) * WINDOW / 60, least[:, 0], 1)[0])
    print(f"least of each window, MiB: {(least[:, 0] / (1 << 20)).round(1)}, descriptors: {least[:, 1]}")
    print(f"{slope / (1 << 20):.3f} MiB a minute, {used.max() / (1 << 20):.0f} MiB and {descriptors.max():.0f} at most")
    assert slope < SLOPE_MAX
    assert np.ptp(least[:, 1]) <= 4, least[:, 1]
    assert descriptors.max() <= 64  # two generations, and readers of both


@pytest.mark.full
@pytest.mark.timeout(500)
def test_five_minutes(tmp_path: Path) -> None:
    print(run_alone(soak, str(tmp_path), 300, 100))
