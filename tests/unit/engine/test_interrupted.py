"""Creating, restoring and closing that are interrupted or refused: no name without files, no file or lock left over."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.kept import everything, filled
from tests.support.own_process import run_alone, scratch_folder

from vicinal.database import Database
from vicinal.errors import AlreadyExists, Closed, StorageFull
from vicinal.fields import DenseField
from vicinal.filter.columns import Columns
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files

ROWS = np.random.default_rng(1).standard_normal((200, 4)).astype(np.float32)


def left(root: Path) -> tuple[int, int]:
    """Open descriptors of this process, and directories of collections."""
    return len(list(Path("/proc/self/fd").iterdir())), len(list((root / "collections").iterdir()))


def test_a_collection_under_a_name_that_is_taken_leaves_nothing(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        database.create_collection("c", dim=4)
        database.set_alias("a", "c")
        before = left(tmp_path / "db")
        for name in ("a", "c") * 3:
            with pytest.raises(AlreadyExists):
                database.create_collection(name, dim=4)
        assert left(tmp_path / "db") == before


def test_a_collection_whose_name_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageFull("no space")

    with Database(tmp_path / "db") as database:
        before = left(tmp_path / "db")
        monkeypatch.setattr(DatabaseCatalog, "create", full)
        with pytest.raises(StorageFull):
            database.create_collection("c", dim=4)
        assert left(tmp_path / "db") == before


@pytest.mark.parametrize("reached", [False, True])
def test_a_collection_whose_creation_is_interrupted(
    reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files stay if its name may lead to them, and go with the next opening if it does not."""
    real = DatabaseCatalog.create

    def interrupted(names: DatabaseCatalog, name: str, uid: str) -> None:
        if reached:
            real(names, name, uid)
        raise KeyboardInterrupt

    with Database(tmp_path / "db") as database:
        before = left(tmp_path / "db")
        with monkeypatch.context() as patched:
            patched.setattr(DatabaseCatalog, "create", interrupted)
            with pytest.raises(KeyboardInterrupt):
                database.create_collection("c", dim=4)
        assert left(tmp_path / "db")[0] == before[0]
        if reached:
            database.collection("c").upsert([1], ROWS[:1])
        else:
            database.create_collection("c", dim=4).upsert([1], ROWS[:1])
    with Database(tmp_path / "db") as database:
        assert database.collection("c").count() == 1
        assert left(tmp_path / "db")[1] == 1


def test_a_restore_interrupted_after_its_names_were_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Files.write_atomic

    def interrupted(files: Files, path: Path, chunks: Any) -> None:
        if path.suffix == ".seen":
            raise KeyboardInterrupt
        real(files, path, chunks)

    with Database(tmp_path / "db") as database:
        expected = everything(filled(database))
        database.backup(tmp_path / "b.tar")
        with monkeypatch.context() as patched:
            patched.setattr(Files, "write_atomic", interrupted)
            with pytest.raises(KeyboardInterrupt):
                database.restore(tmp_path / "b.tar", {"c": "r"})
        for name in database.list_collections():
            assert everything(database.collection(name)) == expected
    with Database(tmp_path / "db") as database:
        assert database.list_collections() == ["c", "r"]
        assert everything(database.collection("r")) == expected


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_closing_that_fails_to_save_gives_the_lock_back(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Any) -> Any:
        raise error

    database = Database(tmp_path / "db")
    for name in ("c", "d"):
        collection = database.create_collection(name, dim=4, metric="l2")
        collection.upsert(range(200), ROWS)
        assert collection.flush(60)
    with monkeypatch.context() as patched:
        patched.setattr(DenseField, "snapshot", failing)
        with pytest.raises(error):
            database.close()
    database.close()
    with Database(tmp_path / "db") as again:
        for name in ("c", "d"):
            assert again.collection(name).count() == 200


def test_no_memory_for_columns_stops_the_indexer_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicinal.indexer.REST_SECONDS", 0.01)
    real, tried = Columns.extend, []

    def short(columns: Columns, payloads: Any) -> Any:
        tried.append(1)
        if len(tried) < 3:
            raise MemoryError
        return real(columns, payloads)

    monkeypatch.setattr(Columns, "extend", short)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(100), ROWS[:100], [{"a": 1}] * 100)
        until = time.monotonic() + 60
        while len(tried) < 3:
            assert time.monotonic() < until
            time.sleep(0.005)
        collection.upsert(range(100, 200), ROWS[100:], [{"a": 1}] * 100)
        assert collection.flush(60)
        assert collection.count("a = 1") == 200


def test_a_dropped_collection_is_closed_to_those_who_hold_it(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        collection = filled(database)
        generation = collection._generation
        database.drop_collection("c")
        rows = next(iter(generation.opened.fields["cosine"].files.values()))
        for refused in (collection.info, lambda: collection.get([5]), lambda: rows.verify({0: 0}, 5)):
            with pytest.raises(Closed):
                refused()


def forked() -> None:
    """The parent gives its lock back while a child that it forked lives on."""
    with scratch_folder() as scratch:
        database = Database(Path(scratch) / "db")
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(told, 1)
            os._exit(0)
        try:
            database.close()
            Database(Path(scratch) / "db").close()
        finally:
            os.write(tell, b"x")
            os.waitpid(child, 0)


def test_a_forked_child_does_not_keep_a_lock_that_was_given_back() -> None:
    run_alone(forked)
