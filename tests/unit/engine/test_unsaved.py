"""What is derived cannot be saved: nothing stops, nobody is told of an error, and it is saved when there is room."""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

import vicinal.indexer
import vicinal.matching
from vicinal.database import Database
from vicinal.errors import ReadOnly, StorageFull
from vicinal.storage import snapshots
from vicinal.storage.machine import Space


@pytest.mark.parametrize("error", [StorageFull("no space"), ReadOnly("a sync failed")])
def test_snapshots_that_cannot_be_written(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vicinal.indexer, "SNAPSHOT_ROWS", 50)
    monkeypatch.setattr(vicinal.matching, "SAVE_FROM", 50)
    tried: list[Any] = []

    def refused(*_: Any) -> None:
        tried.append(None)
        raise error

    original = snapshots.publish
    monkeypatch.setattr(snapshots, "publish", refused)
    rows = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        for first in range(0, 200, 20):
            collection.upsert(list(range(first, first + 20)), rows[first : first + 20], [{"n": 1}] * 20)
            assert collection.flush(30)
        assert collection.info().tail == 0
        assert 2 <= len(tried) <= 8, "a full disk is not written to after every chunk"
    with Database(tmp_path / "db") as database:  # closing failed to save as well, and gave the lock back
        collection = database.collection("c")
        assert collection.flush(30)
        assert collection.query(rows[7], 1)[0].id == 7
        while not collection.info().columns:  # made when the graphs have everything
            sleep(0.01)
        monkeypatch.setattr(snapshots, "publish", original)
    assert len(list((tmp_path / "db").rglob("*.snapshot"))) == 2


def test_a_snapshot_leaves_the_reserve_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes and checkpoints need it; what is saved saves only time."""
    monkeypatch.setattr(vicinal.indexer, "SNAPSHOT_ROWS", 50)
    spare = 1000
    reserve = Space(1 << 40, 0).reserve
    monkeypatch.setattr("vicinal.maintenance.free_space", lambda _: Space(1 << 40, reserve + spare))
    rows = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(list(range(100)), rows[:100])
        assert collection.flush(30)
    assert not list((tmp_path / "db").rglob("*.snapshot*"))
    spare = 1 << 20
    with Database(tmp_path / "db") as database:
        assert database.collection("c").flush(30)
    assert list((tmp_path / "db").rglob("*.snapshot"))
