"""Points that are replaced all the time: the indexer never rests, and still the space of dead slots comes back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from vicinal import succession
from vicinal.database import Database
from vicinal.indexer import Indexer

ROWS = np.random.default_rng(3).standard_normal((500, 4)).astype(np.float32)


def test_a_collection_is_compacted_although_there_is_always_something_to_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Indexer._step

    def always_busy(self: Indexer) -> bool:
        step(self)
        return True

    monkeypatch.setattr(Indexer, "_step", always_busy)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        for _ in range(8):
            collection.upsert(range(500), ROWS)
        until = time.monotonic() + 30
        while collection.info().slots > 1900 and time.monotonic() < until:  # 1,024 dead slots are left alone
            time.sleep(0.01)
        assert collection.info().slots <= 1900
        assert collection.count() == 500


def test_compactions_take_turns_with_the_rest_of_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "_REST_SHARE", 1e6)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        for _ in range(8):
            collection.upsert(range(500), ROWS)
        while collection.info().slots > 1900:
            time.sleep(0.01)
        for _ in range(8):
            collection.upsert(range(500), ROWS)
            assert collection.flush(30)
        assert collection.info().slots >= 8 * 500
