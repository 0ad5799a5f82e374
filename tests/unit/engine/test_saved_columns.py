"""Columns are saved on close and loaded on open; what changed since is found again; damage costs time only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vicinal.matching
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.filter.column_snapshot import encode
from vicinal.maintenance import COLUMNS, save_snapshot
from vicinal.storage.catalog import Catalog

N = 500


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vicinal.matching, "SAVE_FROM", 100)
    return tmp_path / "db"


@pytest.fixture
def ranges_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slots whose payloads were read in ranges, which columns do only for slots they lack."""
    read: list[int] = []
    original = Catalog.payload_range

    def counting(self: Catalog, start: int, stop: int, seq: int) -> list[bytes | None]:
        read.append(stop - start)
        return original(self, start, stop, seq)

    monkeypatch.setattr(Catalog, "payload_range", counting)
    return read


def fill(collection: Collection, first: int = 0, count: int = N) -> None:
    payloads = [
        {"n": i % 5, "t": f"{i % 7}" * 90, "at": {"lon": i % 90, "lat": 1}} for i in range(first, first + count)
    ]
    collection.upsert(np.arange(first, first + count), np.ones((count, 2), np.float32), payloads)
    assert collection.count("n = 1") > 0


def made(folder: Path) -> None:
    with Database(folder) as database:
        fill(database.create_collection("c", dim=2))


def snapshots(folder: Path) -> list[Path]:
    return list(folder.glob("**/+columns@*.snapshot"))


def answers(collection: Collection) -> Any:
    texts = ["n = 2", "n = 9", "not n = 1 and t = '" + "3" * 90 + "'", "geo_radius(at, (5, 1), 300000)", "id in (3, 4)"]
    return [collection.count(text) for text in texts], collection.facet("n"), collection.facet("t")


def test_a_second_opening_reads_no_payloads(folder: Path, ranges_read: list[int]) -> None:
    made(folder)
    assert sum(ranges_read) == N
    (path,) = snapshots(folder)
    assert path.name == f"+columns@{N}.snapshot"
    ranges_read.clear()
    with Database(folder) as database:
        collection = database.collection("c")
        assert answers(collection)[0] == [100, 0, 57, 30, 2]
        assert collection.facet("n", limit=2) == [(0, 100), (1, 100)]
        assert not ranges_read
        fill(collection, N, 100)
        assert sum(ranges_read) == 100
        assert collection.count("n = 2") == 120
    assert [p.name for p in snapshots(folder)] == ["+columns@600.snapshot"]


def test_changes_before_and_after_the_stamp_are_seen(folder: Path, ranges_read: list[int]) -> None:
    made(folder)
    with Database(folder) as database:  # changes that the columns of slots never hold
        collection = database.collection("c")
        collection.set_payload({"n": 9}, ids=[2, 7])
        told = answers(collection)
    ranges_read.clear()
    with Database(folder) as database:
        collection = database.collection("c")
        assert answers(collection) == told
        assert told[0][:2] == [98, 2]
        collection.set_payload({"n": 2, "t": "new" * 40}, ids=[7, 8])
        assert answers(collection)[0][:2] == [100, 1]
        told = answers(collection)
        collection._generation.matcher._saved = (N, collection._view.seq)  # nothing is saved at the end
    with Database(folder) as database:
        collection = database.collection("c")
        assert answers(collection) == told
    assert not ranges_read


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped", "of another commit"])
def test_without_a_usable_file_the_payloads_are_read(folder: Path, ranges_read: list[int], harm: str) -> None:
    made(folder)
    with Database(folder) as database:
        told = answers(database.collection("c"))
    (path,) = snapshots(folder)
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "of another commit":
        with Database(folder) as database:
            columns = database.collection("c")._generation.matcher._attributes._slots.columns
            save_snapshot(
                database.collection("c")._generation.opened, COLUMNS, encode(columns, 10**6, np.zeros(0, np.uint32)), N
            )
    else:
        path.write_bytes(whole[:-50] if harm == "cut" else whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    ranges_read.clear()
    with Database(folder) as database:
        assert answers(database.collection("c")) == told
    assert sum(ranges_read) == N


def test_few_slots_are_not_worth_a_file(tmp_path: Path) -> None:
    made(tmp_path / "db")
    assert not snapshots(tmp_path / "db")


def test_while_running_columns_are_saved_now_and_then(folder: Path) -> None:
    with Database(folder) as database:
        collection = database.create_collection("c", dim=2)
        fill(collection)
        until = time.monotonic() + 20
        while not snapshots(folder) and time.monotonic() < until:
            time.sleep(0.01)
        assert snapshots(folder)
