"""No memory and no descriptors: said to be that, nothing is taken for damaged, and later calls succeed."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from vicinal.database import Database
from vicinal.errors import CorruptData, ReadOnly, StorageFull, Unavailable
from vicinal.storage import sqlite
from vicinal.storage.catalog import Catalog
from vicinal.storage.files import Files
from vicinal.storage.vectors import RowFile

ROWS = np.random.default_rng(3).random((10_000, 64)).astype(np.float32)


@contextmanager
def little_memory(nbytes: int) -> Iterator[None]:
    """So much more than now for SQLite, which stands for a process at its limit."""
    gc.collect()
    used, since = apsw.memory_used(), time.monotonic()
    while time.monotonic() < since + 0.2:  # until nobody in the background takes and gives
        if apsw.memory_used() != used:
            used, since = apsw.memory_used(), time.monotonic()
        time.sleep(0.005)
    apsw.hard_heap_limit(used + nbytes)
    try:
        yield
    finally:
        apsw.hard_heap_limit(0)


@contextmanager
def no_descriptors() -> Iterator[None]:
    gc.collect()  # of earlier tests, which would free some meanwhile
    kept = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 8, hard))
    try:
        while True:
            try:
                kept.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for fd in kept:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_memory_in_sqlite_refuses_the_call_and_nothing_else(tmp_path: Path) -> None:
    rows = ROWS[:, :4]
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(3000), rows[:3000], [{"a": "y" * 2000}] * 3000)
        assert collection.flush(60)
        for refused in (
            lambda: collection.upsert(range(3000, 6000), rows[:3000], [{"a": "x" * 2000}] * 3000),
            lambda: collection.get(range(2000)),
        ):
            with little_memory(150_000), pytest.raises(StorageFull):
                refused()
        assert not collection.info().read_only
        assert len(collection.get(range(2000))) == 2000
        collection.upsert([5000], rows[:1])
        assert collection.count() == 3001
    with Database(tmp_path / "db") as database:
        assert database.collection("c").count() == 3001
        assert database.collection("c").verify().ok


def test_no_memory_in_the_middle_of_a_commit_is_another_thing() -> None:
    """Nobody knows what is in the log then."""

    class Short:
        in_transaction = False

        def execute(self, statement: str) -> None:
            if statement == "COMMIT":
                raise apsw.NoMemError("out of memory")

    with pytest.raises(ReadOnly, match="reopen"), sqlite.translated("x"), sqlite.transaction(Short()):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("extended", [apsw.SQLITE_IOERR_NOMEM, apsw.SQLITE_NOMEM])
def test_what_no_memory_is_called(extended: int) -> None:
    error: Any = apsw.IOError("io") if extended == apsw.SQLITE_IOERR_NOMEM else apsw.NoMemError("no memory")
    error.extendedresult = extended
    with pytest.raises(StorageFull, match="memory"), sqlite.translated("x"):
        raise error


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    catalog = Catalog.create(Files(), tmp_path / "c.db", b"")
    rows = RowFile.create(Files(), tmp_path / "v.vec", 256)
    rows.append(ROWS[:10].view(np.uint8))
    with no_descriptors():
        for refused in (
            lambda: catalog.payloads([0], 0),
            lambda: Catalog.create(Files(), tmp_path / "x.db", b""),
            lambda: Files().open(tmp_path / "v.vec"),
            lambda: Files().open(tmp_path / "new", create=True),
        ):
            with pytest.raises(Unavailable, match="ulimit"):
                refused()
        with pytest.raises(StorageFull):
            rows.append(ROWS.view(np.uint8))  # for which the map must grow
    assert catalog.payloads([0], 0) == [None]
    rows.append(ROWS.view(np.uint8))
    rows.sync(0)
    assert rows.rows == 10_010
    rows.close()
    catalog.close()
    with pytest.raises(CorruptData):
        Files().open(tmp_path / "nothing")


def test_a_write_that_finds_no_descriptor_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise Unavailable("too many files are open")

    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=64, metric="l2")
        collection.upsert([1], ROWS[:1])
        for place in ("live_slots", "commit"):
            with monkeypatch.context() as short:
                short.setattr(Catalog, place, refused)
                with pytest.raises(Unavailable):
                    collection.upsert([2, 3], ROWS[:2])
        collection.upsert([4], ROWS[4:5])
        assert not collection.info().read_only
        assert collection.query(ROWS[4], 1)[0].id == 4
        assert collection.count() == 2
