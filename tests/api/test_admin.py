"""Compaction, verification and backups over HTTP; 507 when there is no room."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.fake_database import FakeDatabase
from tests.support.served import Served, serve

import vicinal
from vicinal.errors import StorageFull
from vicinal_server.app import create_app
from vicinal_server.settings import load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with vicinal.connect(tmp_path / "db") as database:
        for name in ("one", "two"):
            collection = database.create_collection(name, dim=4, metric="l2")
            collection.upsert(range(100), np.arange(400).reshape(100, 4))
            collection.delete(range(10))
    return tmp_path / "db"


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    with (
        vicinal.connect(folder) as database,
        serve(create_app(load_settings(dir=str(folder)), database)) as client,
    ):
        yield client


def tree(response: Any, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def test_compaction_and_verification(served: Served, folder: Path) -> None:
    assert tree(served.post("/v1/collections/one/compact", {})) == {"freed": 10}
    info = tree(served.get("/v1/collections/one"))
    assert (info["points"], info["slots"]) == (90, 90)
    report = tree(served.post("/v1/collections/one/verify", {}))
    assert report.items() >= {"name": "one", "problems": [], "points": 90, "slots": 90}.items()
    assert [each["name"] for each in tree(served.post("/v1/verify", {}))["reports"]] == ["one", "two"]
    assert len(tree(served.post("/v1/verify", {"collections": ["two"]}))["reports"]) == 1
    (file,) = (path for path in folder.rglob("*.vec") if path.parent.name in _uid(folder, "two"))
    with file.open("r+b") as opened:
        opened.seek(5000)
        opened.write(b"\x01\x02\x03")
    assert "rows 0 to 99" in tree(served.post("/v1/collections/two/verify", {}))["problems"][0]


def _uid(folder: Path, name: str) -> str:
    import apsw

    connection = apsw.Connection(str(folder / "database.db"), flags=apsw.SQLITE_OPEN_READONLY)
    ((uid,),) = connection.execute("SELECT uuid FROM collections WHERE name = ?", (name,)).fetchall()
    connection.close()
    return str(uid)


def test_a_backup_made_listed_restored_and_removed(served: Served, folder: Path) -> None:
    assert tree(served.get("/v1/backups")) == {"backups": []}
    told = tree(served.put("/v1/backups/monday", {}), 201)
    assert told["collections"] == {"one": 90, "two": 90}
    size = (folder / "backups" / "monday.tar").stat().st_size
    assert tree(served.get("/v1/backups")) == {"backups": [{"name": "monday", "bytes": size}]}
    assert told["bytes"] == size
    assert tree(served.put("/v1/backups/monday", {}), 409)["error"]["code"] == "already_exists"
    assert tree(served.post("/v1/backups/monday/restore", {}), 409)["error"]["field"] == "name"
    names = {"collections": {"one": "again"}}
    assert tree(served.post("/v1/backups/monday/restore", names)) == {"restored": ["again"]}
    assert tree(served.get("/v1/collections/again"))["points"] == 90
    served.delete("/v1/collections/two")
    assert tree(served.post("/v1/backups/monday/restore", {"collections": ["two"]})) == {"restored": ["two"]}
    assert tree(served.delete("/v1/backups/monday")) == {"removed": "monday"}
    assert tree(served.delete("/v1/backups/monday"), 404)["error"]["code"] == "not_found"
    assert tree(served.post("/v1/backups/monday/restore", {}), 404)


def test_no_request_names_a_path(served: Served, folder: Path) -> None:
    (folder.parent / "x.tar").write_bytes(b"x")
    for name in ("..%2Fx", "%2e%2e%2fx", "..", "a.b", "x" * 65, "%00", "a%20b"):
        for response in (
            served.put(f"/v1/backups/{name}", {}),
            served.delete(f"/v1/backups/{name}"),
            served.post(f"/v1/backups/{name}/restore", {}),
        ):
            assert response.status_code in {400, 404, 405}, (name, response.text)
    assert (folder.parent / "x.tar").exists()
    assert sorted(path.name for path in folder.iterdir() if "db" not in path.name) == [
        "LOCK",
        "collections",
        "database.seen",
    ]


def test_an_archive_that_cannot_be_trusted_is_the_senders_fault(served: Served, folder: Path) -> None:
    (folder / "backups").mkdir()
    (folder / "backups" / "bad.tar").write_bytes(b"x" * 5000)
    error = tree(served.post("/v1/backups/bad/restore", {}), 400)["error"]
    assert error["field"] == "backup"
    assert str(folder) not in error["message"]


@pytest.mark.parametrize("verb", ["insert", "set_payload", "compact"])
def test_no_room_is_507(scripted: Served, database: FakeDatabase, verb: str) -> None:
    collection = database.collection("c")
    collection.failure = StorageFull("3 KiB of disk are needed", field="disk", value=3, limit=0)
    bodies: dict[str, Any] = {
        "insert": {"ids": [1], "vectors": [[1, 2]]},
        "set_payload": {"payload": {"a": 1}, "ids": [1]},
        "compact": {},
    }
    error = tree(scripted.post(f"/v1/collections/c/{verb}", bodies[verb]), 507)["error"]
    assert (error["code"], error["field"]) == ("storage_full", "disk")
    collection.failure = None
    assert scripted.post(f"/v1/collections/c/{verb}", bodies[verb]).status_code == 200


def test_no_room_for_the_folder_of_backups(served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left", str(path))

    monkeypatch.setattr(Path, "mkdir", full)
    error = tree(served.put("/v1/backups/monday", {}), 507)["error"]
    assert error["code"] == "storage_full"
    assert str(folder) not in error["message"]


def test_what_is_damaged_is_named_where_it_is_not_copied(served: Served, folder: Path) -> None:
    (file,) = (path for path in folder.rglob("*.vec") if path.parent.name in _uid(folder, "two"))
    tree(served.get("/v1/collections/two"))
    with file.open("r+b") as opened:
        opened.seek(5000)
        opened.write(b"\x01\x02\x03")
    error = tree(served.post("/v1/collections/two/compact", {}), 500)["error"]
    assert (error["code"], error["field"], error["value"]) == ("corrupt_data", "collection", "'two'")
    error = tree(served.put("/v1/backups/monday", {}), 500)["error"]
    assert (error["code"], error["field"]) == ("corrupt_data", "collections")
    assert "/v1/verify" in error["message"]
    tree(served.put("/v1/backups/one", {"collections": ["one"]}), 201)
    error = tree(served.put("/v1/backups/one", {"collections": ["one"]}), 409)["error"]
    assert (error["field"], error["value"]) == ("name", "'one'")
    assert str(folder) not in str(error)


def test_a_relative_folder_is_not_told_either(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left", str(path))

    monkeypatch.chdir(folder.parent)
    with serve(create_app(load_settings(dir="db"))) as client:
        assert client.ready().status_code == 200
        monkeypatch.setattr(Path, "mkdir", full)
        for response in (client.put("/v1/backups/monday", {}), client.put("/v1/collections/new", {"dim": 3})):
            error = tree(response, 507)["error"]
            assert "a file of the data directory" in error["message"]
            assert "db/" not in error["message"]
        monkeypatch.undo()
