"""Payloads that are changed often: every version but the newest is passed over, and goes in time."""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np
import pytest

from vicinal.database import Database
from vicinal.storage import sqlite

N, TIMES = 100, 10
PAD = "x" * 5000


def test_more_versions_than_a_statement_may_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sqlite._LIMITS, apsw.SQLITE_LIMIT_LENGTH, 1 << 20)  # all versions have five times as much
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(N), np.ones((N, 4)), [{"k": k, "pad": PAD} for k in range(N)])
        for turn in range(TIMES):
            collection.set_payload({"t": turn}, range(N))
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        assert collection.count(f"t = {TIMES - 1}") == N
        assert collection.count("t = 3") == 0
        assert len(collection.query(np.ones(4), 9, filter="k < 5")) == 5
        assert collection.flush(60)
