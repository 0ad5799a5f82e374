"""A full disk: writes are refused and say so, reads go on, writes resume without reopening, nothing is damaged."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from tests.support.engine_script import observed
from tests.support.own_process import run_alone
from tests.support.small_disk import Quota, launcher

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import StorageFull
from vicinal.storage import vfs

DIM = 96


def _vectors(first: int, count: int) -> np.ndarray:
    numbers = np.arange(first, first + count, dtype=np.float32)[:, None]
    return np.cos(numbers * np.arange(1, DIM + 1, dtype=np.float32))


def _upsert(collection: Collection, first: int, count: int, text: str) -> None:
    ids = list(range(first, first + count))
    collection.upsert(ids, _vectors(first, count), [{"n": i, "text": text} for i in ids])


def _fill(collection: Collection, first: int, rng: random.Random, most: int = 300) -> int:
    """Upsert until the disk is full; returns the first id of the batch that was refused."""
    while True:
        count = rng.randint(1, most)
        try:
            _upsert(collection, first, count, "x" * rng.randint(0, 900))
        except StorageFull:
            return first
        first += count


def _check(collection: Collection, points: int) -> None:
    """All that was acknowledged is there, and nothing else."""
    assert collection.count() == points
    assert not collection.info().read_only
    for i in (0, points // 2, points - 1):
        hit = collection.query(_vectors(i, 1)[0], 1, exact=True)[0]
        assert hit.id == i
        assert hit.payload is not None
        assert hit.payload["n"] == i
    assert collection.get([points]) == []
    assert collection.count(f"n < {points}") == points


def fill_again_and_again(folder: str, size: int, times: int) -> None:
    """Fill a disk, free a little, go on; every time it is full somewhere else."""
    where = Path(folder)
    real = os.path.ismount(where)
    print("a tmpfs of its own" if real else "no mount allowed: an observer that counts bytes")
    if not real:
        vfs.register()
    rng = random.Random(size)
    ballast = where / "ballast"
    with observed(None if real else Quota(where, size), often=500), Database(where / "db") as database:
        collection = database.create_collection("c", dim=DIM, metric="l2")
        ballast.write_bytes(bytes(size // 3 // 4096 * 4096))
        left = ballast.stat().st_size
        points = 0
        for _ in range(times):
            points = _fill(collection, points, rng)
            _check(collection, points)
            points = _fill(collection, points, random.Random(0), most=10)  # small batches may fit, but not for ever
            _check(collection, points)
            left -= left // (times + 1)
            os.truncate(ballast, left)
            _upsert(collection, points, 1, "")
            points += 1
    ballast.unlink()
    with Database(where / "db") as database:
        _check_ids(database.collection("c"), points)


def _check_ids(collection: Collection, points: int) -> None:
    seen, offset = 0, None
    while True:
        page, offset = collection.scroll(limit=5000, offset=offset, with_vectors=True)
        for p in page:
            assert isinstance(p.id, int)
            np.testing.assert_array_equal(p.vector, _vectors(p.id, 1)[0])
        seen += len(page)
        if offset is None:
            break
    assert seen == points
    assert collection.flush(60)
    assert collection.verify().problems == ()


def test_a_full_disk_of_eight_mebibytes(tmp_path: Path) -> None:
    size = 8 << 20
    print(run_alone(fill_again_and_again, str(tmp_path), size, 4, launcher=launcher(tmp_path, size)))


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_full_disk_of_sixty_four_mebibytes(tmp_path: Path) -> None:
    size = 64 << 20
    print(run_alone(fill_again_and_again, str(tmp_path), size, 40, timeout=850, launcher=launcher(tmp_path, size)))
