"""A data directory: lock, names, dropping, read-only opening, what a crash may leave."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vicinal
from vicinal import planner
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import (
    AlreadyExists,
    Closed,
    DatabaseLocked,
    InvalidArgument,
    NotFound,
    ReadOnly,
    StorageFull,
    VicinalError,
)
from vicinal.storage.catalog import Catalog
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files
from vicinal.storage.sqlite import connect


def _filled(directory: Path, n: int = 20) -> None:
    with Database(directory) as database:
        made = database.create_collection("c", dim=3, metric="l2")
        made.upsert(range(n), np.arange(3 * n, dtype=np.float32).reshape(n, 3), [{"i": i} for i in range(n)])
        assert made.flush(60)


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    _filled(tmp_path / "db")
    with vicinal.connect(tmp_path / "db") as database:
        again = database.collection("c")
        assert len(again) == 20
        assert again.query([3.1, 4, 5], 1)[0].id == 1


def test_one_writer_per_directory_and_its_name_is_told(tmp_path: Path) -> None:
    with Database(tmp_path / "db"), pytest.raises(DatabaseLocked, match=str(os.getpid())):
        Database(tmp_path / "db")
    Database(tmp_path / "db").close()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = f"import vicinal, os; vicinal.connect({str(tmp_path / 'db')!r}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    Database(tmp_path / "db").close()


def test_readers_share_and_may_not_write(tmp_path: Path) -> None:
    _filled(tmp_path / "db")
    with Database(tmp_path / "db", read_only=True) as one, Database(tmp_path / "db", read_only=True) as two:
        assert one.collection("c").query([0, 1, 2], 1)[0].id == two.collection("c").query([0, 1, 2], 1)[0].id == 0
        assert one.collection("c").info().read_only
        for refused in (
            lambda: one.create_collection("d", dim=2),
            lambda: one.drop_collection("c"),
            lambda: one.set_alias("a", "c"),
            lambda: one.collection("c").upsert([1], [[1, 2, 3]]),
            lambda: one.collection("c").delete([1]),
        ):
            with pytest.raises(ReadOnly):
                refused()
        with pytest.raises(DatabaseLocked):
            Database(tmp_path / "db")


def test_reading_what_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Database(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_a_directory_of_a_newer_format(tmp_path: Path) -> None:
    _filled(tmp_path / "db")
    connection = connect(Files(), next((tmp_path / "db" / "collections").iterdir()) / "catalog.db")
    connection.pragma("user_version", 99)
    connection.close()
    with Database(tmp_path / "db") as database, pytest.raises(vicinal.errors.FormatTooNew):
        database.collection("c")


@pytest.mark.parametrize("target", [":memory:", "disk"])
def test_names(tmp_path: Path, target: str) -> None:
    with Database(target if target == ":memory:" else tmp_path / "db") as database:
        made = database.create_collection("b", dim=2)
        database.create_collection("a", vectors={"x": vicinal.Dense(2), "y": {"kind": "multi", "dim": 4}})
        assert database.list_collections() == ["a", "b"]
        assert database.collection("b") is made
        with pytest.raises(AlreadyExists, match="already exists!"):
            database.create_collection("b", dim=3)
        database.set_alias("now", "b")
        assert database.collection("now") is made
        database.drop_collection("b")
        for gone in ("b", "now", "never"):
            with pytest.raises(NotFound):
                database.collection(gone)
        with pytest.raises(NotFound):
            database.drop_collection("b")
        with pytest.raises(Closed):
            made.upsert([1], [[1, 2]])
        database.create_collection("b", dim=5)
    with pytest.raises(Closed):
        database.list_collections()
    database.close()


def test_bad_arguments_make_nothing(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        wrong: list[dict[str, Any]] = [
            {},
            {"dim": 2, "vectors": {"a": vicinal.Dense(2)}},
            {"dim": 2, "metric": "manhattan"},
            {"dim": 2, "colour": 1},
            {"vectors": {}},
            {"vectors": {"a": 5}},
            {"vectors": {"a b": vicinal.Dense(2)}},
            {"vectors": {"a": vicinal.Dense(2)}, "M": 5},
        ]
        for arguments in wrong:
            with pytest.raises(VicinalError):
                database.create_collection("c", **arguments)
        for name in ("", "../up", "a/b", "x" * 65):
            with pytest.raises(InvalidArgument):
                database.create_collection(name, dim=2)
        assert database.list_collections() == []
        assert list((tmp_path / "db" / "collections").iterdir()) == []


def test_a_directory_without_a_name_is_removed_on_open(tmp_path: Path) -> None:
    _filled(tmp_path / "db")
    orphan = tmp_path / "db" / "collections" / "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    orphan.mkdir()
    (orphan / "vectors-1.vec").write_bytes(b"half")
    with Database(tmp_path / "db") as database:
        assert not orphan.exists()
        assert len(database.collection("c")) == 20


def test_a_lost_graph_snapshot_costs_nothing_but_time(tmp_path: Path) -> None:
    _filled(tmp_path / "db", 3000)
    snapshots = list((tmp_path / "db").rglob("*.snapshot"))
    assert snapshots
    snapshots[0].write_bytes(b"damaged")
    with Database(tmp_path / "db") as database:
        again = database.collection("c")
        assert again.query([3.1, 4, 5], 1)[0].id == 1
        assert again.flush(60)
        assert again.query([3.1, 4, 5], 1, explain=True).explain["plan"] == "sweep"  # type: ignore[index]


def _recall(collection: Collection, rows: NDArray[np.float32]) -> float:
    """Of the ten nearest of some rows that a narrow beam finds."""
    found = 0
    for row in rows[::15]:
        best = collection.query(row + 0.1, 10, exact=True).scores[-1]
        hits = collection.query(row + 0.1, 10, ef=16, explain=True)
        assert hits.explain is not None
        assert hits.explain["plan"] == "sweep"
        found += int((hits.scores <= best * (1 + 1e-5)).sum())
    return found / (10 * len(rows[::15]))


def test_a_graph_that_is_built_again_finds_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "SWEEP_COST", 0)
    rows = np.random.default_rng(5).standard_normal((3000, 16)).astype(np.float32)
    with Database(tmp_path / "db") as database:
        made = database.create_collection("c", dim=16, metric="l2", M=8)
        made.upsert(range(3000), rows)
        made.delete(range(0, 3000, 10))
        assert made.flush(60)
        before = _recall(made, rows)
    assert 0.5 < before < 0.999  # a beam so narrow tells graphs apart
    (snapshot,) = (path for path in (tmp_path / "db").rglob("*.snapshot") if path.name.startswith("@"))
    snapshot.write_bytes(b"damaged")
    with Database(tmp_path / "db") as database:
        again = database.collection("c")
        assert again.flush(60)
        assert _recall(again, rows) >= before - 0.005


def _left(directory: Path) -> tuple[int, int]:
    """Directories of collections, and descriptors of this process."""
    return len(list((directory / "collections").iterdir())), len(list(Path("/proc/self/fd").iterdir()))


def test_a_collection_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _filled(tmp_path / "db")
    with Database(tmp_path / "db") as database:
        database.set_alias("now", "c")
        before = _left(tmp_path / "db")
        with pytest.raises(AlreadyExists, match="'now'"):
            database.create_collection("now", dim=2)
        assert _left(tmp_path / "db") == before

        def full(*_: Any) -> None:
            raise StorageFull("no space left")

        for owner, name in ((Catalog, "create"), (DatabaseCatalog, "create")):
            monkeypatch.setattr(owner, name, full)
            with pytest.raises(StorageFull):
                database.create_collection("d", dim=2)
            monkeypatch.undo()
            assert _left(tmp_path / "db") == before
        assert database.create_collection("d", dim=2).count() == 0


def test_what_no_collection_is_called_like_is_left_alone(tmp_path: Path) -> None:
    _filled(tmp_path / "db")
    kept = tmp_path / "db" / "collections" / "copy of c"
    kept.mkdir()
    (kept / "important").write_text("x")
    Database(tmp_path / "db").close()
    assert (kept / "important").read_text() == "x"


def test_a_lock_is_taken_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder's name is for people only."""
    _filled(tmp_path / "db")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("vicinal.storage.files.os.pwrite", full)
    lock = Files().lock(tmp_path / "db" / "LOCK")
    monkeypatch.undo()
    lock.release()
    Database(tmp_path / "db").close()


def test_a_writer_that_ended_is_not_named_as_the_holder(tmp_path: Path) -> None:
    _filled(tmp_path / "db")
    with (
        Database(tmp_path / "db", read_only=True),
        pytest.raises(DatabaseLocked, match="in use by read-only openers"),
    ):
        Database(tmp_path / "db")


def test_what_may_not_be_written_is_not_to_be_reopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("vicinal.storage.files.os.open", refused)
    with pytest.raises(ReadOnly, match="give this process the right to"):
        Files().open(tmp_path / "v", create=True)
