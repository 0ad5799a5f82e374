"""Payloads that are changed often: every version but the newest is passed over, and goes in time."""

from __future__ import annotations

import time
from pathlib import Path

import apsw
import numpy as np
import pytest

from vicinal import limits
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


def test_replaced_payloads_go_by_themselves_when_they_are_as_many_as_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPACT_ROWS_MIN", N // 2)

    def versions() -> int:
        with collection._generation.opened.catalog._reader() as connection:
            return int(sqlite.one(connection, "SELECT count(*) FROM payloads"))

    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(N), np.ones((N, 4)), [{"k": k} for k in range(N)])
        collection.set_payload({"t": 0}, range(N - 1))
        assert collection.flush(60)
        assert collection._generation.indexer.wait_retired(60)
        assert versions() == 2 * N - 1  # few enough
        collection.set_payload({"t": 1}, range(N))
        for _ in range(600):
            if versions() == N:
                break
            time.sleep(0.05)
        assert versions() == N
        assert collection.count("t = 1") == N
