"""Backups: whole, of one commit, verified before anything leads there; and archives that nobody vouches for."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from tests.support.kept import everything, filled

from vicinal.database import Database
from vicinal.errors import AlreadyExists, CorruptData, InvalidArgument, NotFound, ReadOnly, StorageFull, VicinalError
from vicinal.storage import sqlite
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files, OpenFile
from vicinal.storage.sqlite import close, connect
from vicinal.storage.vectors import RowFile

RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A database of two collections with an alias, its backup, and what is in it."""
    folder = tmp_path_factory.mktemp("source")
    with Database(folder / "db") as database:
        one = filled(database, "one")
        two = database.create_collection("two", dim=4, metric="l2")
        two.upsert(range(3000), RNG.standard_normal((3000, 4)), [{"n": i % 5} for i in range(3000)])
        two.delete(range(10))
        database.set_alias("live", "two")
    with Database(folder / "db") as database:  # closing has saved snapshots
        one, two = database.collection("one"), database.collection("two")
        info = database.backup(folder / "b.tar")
        told = {"one": everything(one), "two": everything(two)}
        return folder / "b.tar", told, info


def folders(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "collections").iterdir())


def test_a_backup_comes_back_whole(source: Any, tmp_path: Path) -> None:
    path, told, info = source
    assert info.collections == {"one": len(told["one"]), "two": len(told["two"])}
    assert info.bytes == path.stat().st_size
    assert [p.name for p in path.parent.iterdir() if p.is_file()] == ["b.tar"]
    with Database(tmp_path / "db") as database:
        assert database.restore(path) == ["one", "two"]
        for name in ("one", "two"):
            assert everything(database.collection(name)) == told[name]
        assert everything(database.collection("live")) == told["two"]
        assert all(report.ok for report in database.verify())
        database.collection("two").upsert([1], [[0, 0, 0, 1]])
    with Database(tmp_path / "db") as database:
        assert database.collection("live").count() == len(told["two"]) + 1
        assert len(folders(tmp_path / "db")) == 2


def test_plain_tar_reads_it_and_the_sums_hold(source: Any) -> None:
    with tarfile.open(source[0], "r:") as archive:
        members = archive.getmembers()
        assert [m.name for m in members][-1] == "manifest.json"
        assert all(m.isreg() and m.mode == 0o640 for m in members)
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for member in members[:-1]:
            content = archive.extractfile(member).read()  # type: ignore[union-attr]
            known = manifest["files"][member.name]
            assert known == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert {"0/catalog.db", "0/cosine-1.vec", "0/tokens-1.tok", "0/tokens-1.off", "1/vectors-1.vec"} <= {
        m.name for m in members
    }
    assert any(m.name.endswith(".snapshot") for m in members)


def test_some_of_it_under_other_names(source: Any, tmp_path: Path) -> None:
    path, told, _ = source
    with Database(tmp_path / "db") as database:
        assert database.restore(path, ["two"]) == ["two"]
        assert database.restore(path, {"two": "again", "one": "first"}) == ["again", "first"]
        assert everything(database.collection("again")) == told["two"]
        assert database.list_collections() == ["again", "first", "two"]
        with pytest.raises(NotFound, match="'three'"):
            database.restore(path, ["three"])
        with pytest.raises(InvalidArgument, match="one name"):
            database.restore(path, {"one": "x", "two": "x"})
        with pytest.raises(AlreadyExists, match="'two'"):
            database.restore(path)
        with pytest.raises(InvalidArgument, match="name"):
            database.restore(path, {"one": "../x"})
        database.set_alias("live", "two")
        database.drop_collection("first")
        with pytest.raises(AlreadyExists, match="'live'"):
            database.restore(path, {"one": "live"})
        assert len(folders(tmp_path / "db")) == 2


def test_a_collection_in_memory_can_be_kept(tmp_path: Path) -> None:
    with Database(":memory:") as database:
        collection = filled(database)
        told = everything(collection)
        database.backup(tmp_path / "b.tar")
        with pytest.raises(InvalidArgument, match="memory"):
            database.restore(tmp_path / "b.tar", {"c": "d"})
    with Database(tmp_path / "db") as database:
        database.restore(tmp_path / "b.tar")
        assert everything(database.collection("c")) == told


def test_a_backup_is_of_one_commit_while_it_is_written_to(tmp_path: Path) -> None:
    """A writer moves one point per commit, vector and payload together; a compaction runs as well."""
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=2, metric="l2")
        stop = threading.Event()
        collection.upsert(range(50), [[i, 0] for i in range(50)], [{"v": 0}] * 50)

        def write() -> None:
            version = 0
            while not stop.is_set():
                version += 1
                collection.upsert(range(50), [[i, version] for i in range(50)], [{"v": version}] * 50)
                if version == 20:
                    collection.compact()

        writer = threading.Thread(target=write)
        writer.start()
        for attempt in range(5):
            database.backup(tmp_path / f"{attempt}.tar")
        stop.set()
        writer.join()
        versions = []
        for attempt in range(5):
            database.restore(tmp_path / f"{attempt}.tar", {"c": f"r{attempt}"})
            points, _ = database.collection(f"r{attempt}").scroll(limit=100, with_vectors=True)
            (version,) = {p.payload["v"] for p in points if p.payload}
            assert [p.vector.tolist() for p in points] == [[i, version] for i in range(50)]
            versions.append(version)
        assert versions == sorted(versions)
        assert versions[-1] > versions[0]


def test_what_may_not_be_written_is_refused(source: Any, tmp_path: Path) -> None:
    path = source[0]
    with Database(tmp_path / "db") as database:
        filled(database)
        with pytest.raises(AlreadyExists):
            database.backup(path)
        with pytest.raises(NotFound, match="no folder"):
            database.backup(tmp_path / "nowhere" / "b.tar")
        with pytest.raises(NotFound):
            database.backup(tmp_path / "b.tar", ["d"])
    with Database(tmp_path / "db", read_only=True) as database:
        with pytest.raises(ReadOnly):
            database.restore(path)
        database.backup(tmp_path / "b.tar")  # reading is enough
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "db"]


def test_a_full_disk_leaves_no_half_backup(source: Any, tmp_path: Path, monkeypatch: Any) -> None:
    with Database(tmp_path / "db") as database:
        filled(database)
        writes = [0]
        real = OpenFile.pwrite

        def full(file: OpenFile, data: Any, offset: int) -> None:
            writes[0] += 1
            if writes[0] > 12:
                raise StorageFull("no space left")
            real(file, data, offset)

        for call in (lambda: database.backup(tmp_path / "b.tar"), lambda: database.restore(source[0])):
            writes[0] = 0
            monkeypatch.setattr(OpenFile, "pwrite", full)
            with pytest.raises(StorageFull):
                call()
            monkeypatch.undo()
        assert [p.name for p in tmp_path.iterdir()] == ["db"]
        assert len(folders(tmp_path / "db")) == 1


def test_damaged_rows_are_not_backed_up(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        database.create_collection("c", dim=4).upsert(range(2000), np.ones((2000, 4)))
        (file,) = (tmp_path / "db").rglob("*.vec")
        with file.open("r+b") as opened:
            opened.seek(4096 + 1200 * 16)
            opened.write(b"\x7f")
        with pytest.raises(CorruptData, match="rows 1024 to 1999"):
            database.backup(tmp_path / "b.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["db"]


def test_when_nobody_knows_whether_names_lead_there(source: Any, tmp_path: Path, monkeypatch: Any) -> None:
    real = DatabaseCatalog.create_all

    def failing(names: DatabaseCatalog, *arguments: Any) -> None:
        real(names, *arguments)
        raise ReadOnly("a sync failed")

    with Database(tmp_path / "db") as database:
        monkeypatch.setattr(DatabaseCatalog, "create_all", failing)
        with pytest.raises(ReadOnly):
            database.restore(source[0])
        monkeypatch.undo()
    with Database(tmp_path / "db") as database:
        assert everything(database.collection("one")) == source[1]["one"]


def resealed(path: Path, target: Path, change: Any) -> Path:
    """The archive with changed contents and a manifest that agrees with them."""
    with tarfile.open(path, "r:") as archive:
        contents = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]
    manifest = json.loads(contents.pop("manifest.json"))
    change(contents, manifest)
    manifest["files"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    contents["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target


def _drop(name: str) -> Any:
    return lambda contents, _: contents.pop(name)


def _put(name: str, content: bytes) -> Any:
    return lambda contents, _: contents.update({name: content})


def _flip(name: str, at: int) -> Any:
    def change(contents: Any, _: Any) -> None:
        content = bytearray(contents[name])
        content[at] ^= 1
        contents[name] = bytes(content)

    return change


HOSTILE: dict[str, Any] = {
    "a row file is missing": _drop("1/vectors-1.vec"),
    "a catalogue is missing": _drop("1/catalog.db"),
    "a file more": _put("1/other-1.vec", b"x"),
    "a collection more": _put("2/catalog.db", b"x"),
    "no catalogue": _put("0/catalog.db", b"x" * 8192),
    "an empty catalogue": _put("0/catalog.db", b""),
    "a row changed": _flip("1/vectors-1.vec", 4096 + 1600),
    "a row file cut": lambda c, _: c.update({"1/vectors-1.vec": c["1/vectors-1.vec"][:-1]}),
    "a catalogue page changed": _flip("1/catalog.db", 3 * 4096 + 100),
    "catalogues swapped": lambda c, _: c.update({"0/catalog.db": c["1/catalog.db"], "1/catalog.db": c["0/catalog.db"]}),
    "names no text": lambda _, m: m["collections"][0].update(name=5),
    "names twice": lambda _, m: m["collections"][0].update(name="two"),
    "no names": lambda _, m: m.pop("collections"),
    "names a path": lambda _, m: m["collections"][0].update(name="../../x"),
    "aliases no map": lambda _, m: m.update(aliases=["x"]),
    "a later format": lambda _, m: m.update(format=2),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_that_agrees_with_itself_and_with_nothing_else(source: Any, tmp_path: Path, what: str) -> None:
    path = resealed(source[0], tmp_path / "b.tar", HOSTILE[what])
    with Database(tmp_path / "db") as database:
        with pytest.raises(VicinalError):
            database.restore(path)
        assert not database.list_collections()
        assert not folders(tmp_path / "db")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "db"]


def test_a_lost_snapshot_is_no_reason_to_refuse(source: Any, tmp_path: Path) -> None:
    def drop(contents: Any, _: Any) -> None:
        for name in [name for name in contents if name.endswith(".snapshot")]:
            contents[name] = contents[name][:-1]

    path = resealed(source[0], tmp_path / "b.tar", drop)
    with Database(tmp_path / "db") as database, pytest.raises(CorruptData, match="snapshot"):
        database.restore(path)  # it was archived whole, so whoever changed it changed more, perhaps


def test_files_are_synced_before_their_name_leads_there(source: Any, tmp_path: Path, monkeypatch: Any) -> None:
    events: list[str] = []

    def told(kind: type, name: str, what: Any) -> None:
        real = getattr(kind, name)

        def call(*arguments: Any) -> Any:
            events.append(what(*arguments))
            return real(*arguments)

        monkeypatch.setattr(kind, name, call)

    told(OpenFile, "fdatasync", lambda file: file.path.name)
    told(Files, "sync_dir", lambda _, path: f"dir {path.name[:4]}")
    told(DatabaseCatalog, "create_all", lambda *_: "named")
    with Database(tmp_path / "db") as database:
        events.clear()
        database.restore(source[0])
        folder = database._names.list()["two"][:4]
    assert events.index("vectors-1.vec") < events.index(f"dir {folder}") < events.index("named")


def test_rows_are_frozen_whatever_is_appended(tmp_path: Path) -> None:
    file = RowFile.create(Files(), tmp_path / "v", 8)
    file.append(np.arange(80, dtype=np.uint8).reshape(10, 8))
    sums = file.crcs_since()
    parts = file.frozen(10, sums, 7)
    head = next(parts)
    file.append(np.zeros((5, 8), np.uint8))
    (tmp_path / "w").write_bytes(head + b"".join(parts))
    copy = RowFile.open(Files(), tmp_path / "w", 8, 10, crcs=sums, between=(7, 7))
    np.testing.assert_array_equal(copy.matrix(np.uint8, (8,))[:10].ravel(), np.arange(80))
    for each in (file, copy):
        each.close()


def test_a_catalogue_is_not_read_before_its_tables_are_those_of_its_format(source: Any, tmp_path: Path) -> None:
    """A view in the place of a table may never end; this one does, and says something else than it should."""

    def change(contents: Any, _: Any) -> None:
        path = tmp_path / "catalog.db"
        path.write_bytes(contents["0/catalog.db"])
        connection = connect(Files(), path)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        connection.execute("ALTER TABLE meta RENAME TO other")
        connection.execute("CREATE VIEW meta AS SELECT * FROM other UNION ALL SELECT * FROM other")
        close(connection)
        contents["0/catalog.db"] = path.read_bytes()

    path = resealed(source[0], tmp_path / "b.tar", change)
    with Database(tmp_path / "db") as database:
        with pytest.raises(CorruptData, match="its tables are not those of its format"):
            database.restore(path)
        assert not folders(tmp_path / "db")


FOREIGN = {
    "a payload that is no object": "UPDATE payloads SET payload = CAST('5' AS BLOB)",
    "a payload that is no UTF-8": "UPDATE payloads SET payload = x'7B2261223A22FF227D'",
    "an id that is no UTF-8": "UPDATE points SET id = x'FFFE' WHERE slot = 3",
    "fields below zero": "UPDATE points SET fields = -1 WHERE slot = 3",
    "a file nobody knows": "INSERT INTO files VALUES ('other', 1, 1)",
    "no rows of points": "UPDATE files SET rows = 0",
    "the last commit of all": "UPDATE meta SET seq = 9223372036854775807",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_catalogue_that_no_engine_writes(tmp_path: Path, what: str) -> None:
    """Its pages and sums are right; where it was accepted, the indexer died of it, or readers had untyped errors."""

    def change(contents: Any, _: Any) -> None:
        path = tmp_path / "catalog.db"
        path.write_bytes(contents["0/catalog.db"])
        connection = connect(Files(), path)
        connection.execute(FOREIGN[what])
        close(connection)
        contents["0/catalog.db"] = path.read_bytes()

    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4)
        collection.upsert(range(50), np.ones((50, 4)), [{"n": n} for n in range(50)])
        database.backup(tmp_path / "b.tar")
        archive = resealed(tmp_path / "b.tar", tmp_path / "changed.tar", change)
        with pytest.raises(CorruptData):
            database.restore(archive, {"c": "d"})
        assert len(folders(tmp_path / "db")) == 1


def test_a_copied_catalogue_that_stays_in_its_log_is_no_backup(tmp_path: Path, monkeypatch: Any) -> None:
    """Writes that fail while it is closed leave pages there, of which the archive would know nothing."""

    def kept(connection: Any, **_: Any) -> None:
        sqlite.close(connection, keep_log=True)

    with Database(tmp_path / "db") as database:
        filled(database)
        with monkeypatch.context() as patched:
            patched.setattr("vicinal.storage.catalog.close", kept)
            with pytest.raises(StorageFull, match="written whole"):
                database.backup(tmp_path / "b.tar")
        assert [p.name for p in tmp_path.iterdir()] == ["db"]
        database.backup(tmp_path / "b.tar")
