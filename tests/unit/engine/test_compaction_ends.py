"""How compactions end: in a crash, an interruption, or without a thread; and when the old files go."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.kept import everything

from vicinal import limits
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import ReadOnly
from vicinal.schema import Dense, Multi
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.types import Metric
from vicinal.writer import Writer

ROWS = np.random.default_rng(7).standard_normal((4000, 4)).astype(np.float32)


def folders(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "collections").iterdir())


def until(ready: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < limit
        time.sleep(0.01)


def all_deleted(database: Database) -> Collection:
    collection = database.create_collection("c", dim=4, metric="l2")
    collection.upsert(range(20), ROWS[:20])
    collection.delete(range(20))
    return collection


def one_field_used(database: Database) -> Collection:
    """A field of single vectors, and fields of tokens that no point has."""
    fields = {"v": Dense(4, Metric.L2), "t": Multi(4), "kept": Multi(4, pooling=2, originals=True)}
    collection = database.create_collection("c", vectors=fields)
    collection.upsert(range(20), {"v": ROWS[:20]})
    collection.delete([0])
    return collection


def last_of_a_field_deleted(database: Database) -> Collection:
    collection = database.create_collection("c", vectors={"v": Dense(4, Metric.L2), "t": Multi(4)})
    collection.upsert(range(20), {"v": ROWS[:20]})
    collection.upsert([50], {"t": [ROWS[:3]]})
    collection.delete([50])
    return collection


def nothing(_: Collection) -> None:
    """No write follows."""


def more(collection: Collection) -> None:
    collection.upsert([5, 6], {"v": ROWS[:2]} if "v" in collection.schema.fields else ROWS[:2], [{"n": 1}, None])
    collection.set_payload({"m": 1}, [5])


@pytest.mark.parametrize("write", [nothing, more])
@pytest.mark.parametrize("filled", [all_deleted, one_field_used, last_of_a_field_deleted])
def test_a_crash_after_a_compaction(filled: Any, write: Any, tmp_path: Path) -> None:
    """Some row files of the new generation hold nothing: they belong to it all the same."""
    with Database(tmp_path / "db") as database:
        collection = filled(database)
        assert collection.compact() > 0
        write(collection)
        expected, seq = everything(collection), collection.info().seq
        shutil.copytree(tmp_path / "db", tmp_path / "crashed")  # what kill -9 would leave
    with Database(tmp_path / "crashed") as database:
        again = database.collection("c")
        assert everything(again) == expected
        assert again.info().seq == seq
        assert again.verify().ok
        more(again)
        assert len(again.get([5, 6])) == 2


@pytest.mark.parametrize("where", [(Writer, "leave"), (DatabaseCatalog, "_note_seen")])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_after_the_name_leads_to_the_new_generation(
    where: tuple[Any, str], error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise error

    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(100), ROWS[:100])
        collection.delete(range(50))
        expected = everything(collection)
        with monkeypatch.context() as patched:
            patched.setattr(*where, interrupted)
            with pytest.raises(error):
                collection.compact()
        assert database._names.list()["c"] in folders(tmp_path / "db")
        assert everything(collection) == expected
        try:
            collection.upsert([1000], ROWS[:1])
        except ReadOnly:
            assert collection.info().read_only
        else:
            expected = everything(collection)
    with Database(tmp_path / "db") as database:
        assert everything(database.collection("c")) == expected
        assert len(folders(tmp_path / "db")) == 1
        database.collection("c").upsert([1001], ROWS[:1])


def test_no_thread_for_a_compaction_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start
    tried = []

    def start(thread: threading.Thread) -> None:
        if thread.name == "vicinal-compaction":
            tried.append(thread)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(limits, "COMPACT_ROWS_MIN", 10)
    database = Database(tmp_path / "db")
    collection = database.create_collection("c", dim=4, metric="l2")
    collection.upsert(range(100), ROWS[:100])
    collection.delete(range(50))
    until(lambda: bool(tried))
    assert collection.flush(60)
    collection.upsert(range(100, 200), ROWS[:100])
    assert collection.flush(60)  # the indexer goes on
    assert collection.compact() == 50
    closing = threading.Thread(target=database.close, daemon=True)
    real(closing)
    closing.join(60)
    assert not closing.is_alive()
    Database(tmp_path / "db").close()


def test_the_old_files_go_when_the_last_call_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicinal.succession._LET_GO_SECONDS", 0.01)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(100), ROWS[:100])
        for i in range(2):
            collection.delete([i])
            call = collection._generation
            collection.compact()
            assert len(folders(tmp_path / "db")) == 2
            assert len(call.points(call.view, np.arange(99 - i), True, True)) == 99 - i
            del call
            gc.collect()
            until(lambda: len(folders(tmp_path / "db")) == 1)
        calls = []
        for i in range(2, 5):
            calls.append(collection._generation)
            collection.delete([i])
            collection.compact()
        assert len(folders(tmp_path / "db")) == 4
        del calls[1]
        until(lambda: len(folders(tmp_path / "db")) == 3)
        calls.clear()
        until(lambda: len(folders(tmp_path / "db")) == 1)
        calls.append(collection._generation)
        collection.compact()
    assert len(folders(tmp_path / "db")) == 2  # of a call that goes on still
    Database(tmp_path / "db").close()
    assert len(folders(tmp_path / "db")) == 1
