"""Snapshots with right checksums and wrong content: the collection opens, and builds again what it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import vicinal.matching
from vicinal.database import Database
from vicinal.index import coded_snapshot
from vicinal.index.field_index import FieldIndex
from vicinal.index.hnsw import HnswIndex
from vicinal.packing import pack, unpack
from vicinal.storage import snapshots
from vicinal.storage.files import Files
from vicinal.storage.sqlite import close, connect
from vicinal.types import HnswParams, Metric

N = 3000
ROWS = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)


def made(root: Path) -> Path:
    """A collection with a graph of several levels; gives its snapshot."""
    with Database(root) as database:
        collection = database.create_collection("c", dim=8, metric="l2")
        collection.upsert(range(N), ROWS)
        assert collection.flush(60)
    (path,) = root.rglob(f"@{N}.snapshot")
    return path


def put(path: Path, body: bytes) -> None:
    path.unlink()
    snapshots.publish(Files(), path.parent, path.name.removesuffix(".snapshot"), [body])


def finds_all(root: Path) -> None:
    with Database(root) as database:
        collection = database.collection("c")
        for _ in range(2):  # before and after it is built again
            assert [collection.query(ROWS[i], 1)[0].id for i in range(0, N, 100)] == list(range(0, N, 100))
            assert collection.flush(60)
        assert collection.verify().ok


def test_an_upper_link_to_a_copy(tmp_path: Path) -> None:
    path = made(tmp_path / "db")
    body = bytes(snapshots.load(Files(), path))
    index = HnswIndex.decode(body, Metric.L2, 8, HnswParams(), N)
    upper = index.picture().arrays.upper
    row = np.argwhere(upper[:, 0] != 0xFFFFFFFF)[0][0]
    upper[row, 0] |= np.uint32(1 << 31)
    put(path, index.encode())
    unbind(tmp_path / "db")
    finds_all(tmp_path / "db")


def _words(name: str, value: Any) -> Callable[[Any], None]:
    """Change a word of what was fitted."""

    def change(tree: Any) -> None:
        at = tree
        *path, last = name.split(".")
        for part in path:
            at = at[int(part)] if isinstance(at, list) else at[part] if part in at else at["fields"][part]
        fields = at.get("fields", at)
        assert last in fields
        fields[last] = value

    return change


WRONG = {
    "a codec's name": _words("choice.codec.name", "x"),
    "a frame without lengths": _words("choice.frame.whole", None),
    "a margin that is no number": _words("filters.levels.0.by_share.0.margin", float("nan")),
    "a margin that is a text": _words("filters.levels.0.by_share.0.margin", "x"),
    "a quota between numbers": _words("filters.levels.0.by_share.0.quota", 1.5),
    "work that is a text": _words("filters.levels.0.by_share.0.hops", "x"),
}


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that is walked on codes."""
    root = tmp_path_factory.mktemp("coded") / "db"
    with _coded_soon():
        assert made(root).stat().st_size
    return root


def _coded_soon() -> Any:
    wanted = {**(FieldIndex.__init__.__kwdefaults__ or {}), "coded_from": N // 2}
    return mock.patch.object(FieldIndex.__init__, "__kwdefaults__", wanted)


@pytest.mark.parametrize("what", WRONG)
def test_words_of_a_coded_graph_that_cannot_be(coded: Path, tmp_path: Path, what: str) -> None:
    root = tmp_path / "db"
    shutil.copytree(coded, root)
    (path,) = root.rglob("*.snapshot")
    body = bytes(snapshots.load(Files(), path))
    about, arrays = unpack(body, coded_snapshot.MAGIC, coded_snapshot.FORMAT, "x", 64)
    WRONG[what](about["tree"])
    put(path, pack(coded_snapshot.MAGIC, coded_snapshot.FORMAT, about, arrays, 64))
    unbind(root)
    with _coded_soon(), Database(root) as database:
        collection = database.collection("c")
        assert collection._generation.opened.view.fields[""].indexed == 0  # it was not taken
        assert collection.query(ROWS[7], 1, filter="id in (7, 8)")[0].id == 7


def test_whatever_a_decoder_raises_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when half of the index was taken over before."""
    monkeypatch.setattr(vicinal.matching, "SAVE_FROM", 100)
    made(tmp_path / "db")
    assert list((tmp_path / "db").rglob("+columns@*"))
    real = FieldIndex.decode

    def broken(index: FieldIndex, *arguments: Any) -> None:
        real(index, *arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(FieldIndex, "decode", broken)
    monkeypatch.setattr(vicinal.matching, "decode", lambda _: 1 // 0)
    finds_all(tmp_path / "db")


def unbind(root: Path) -> None:
    """Let the catalogue not know the sums of snapshots, as those of earlier versions."""
    (path,) = (root / "collections").rglob("catalog.db")
    connection = connect(Files(), path)
    connection.execute("DELETE FROM blocks WHERE file IN (SELECT name FROM snapshots)")
    close(connection)


def _foreign(root: Path) -> list[Path]:
    """Two collections of as many points, with graphs and columns; gives the directories."""
    rng = np.random.default_rng(1)
    with Database(root) as database:
        for number, name in enumerate(("a", "b")):
            collection = database.create_collection(name, dim=8, metric="l2")
            collection.upsert(range(N), rng.standard_normal((N, 8)), [{"n": (n + number) % 7} for n in range(N)])
            assert collection.flush(60)
            assert collection.count("n = 3") > 0
        homes = database._names.list()
    return [root / "collections" / homes[name] for name in ("a", "b")]


@pytest.mark.parametrize("kind", ["@", "+columns@"])
def test_a_snapshot_of_another_collection(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vicinal.matching, "SAVE_FROM", 100)
    one, other = _foreign(tmp_path / "db")
    name = f"{kind}{N}.snapshot"
    with Database(tmp_path / "db") as database:
        assert database.collection("a")._generation.opened.view.fields[""].indexed == N  # its own is taken
        shutil.copy(other / name, tmp_path / "kept")
        (tmp_path / "kept").replace(one / name)
        (problem,) = database.collection("a").verify().problems
        assert "another collection or another commit" in problem
        database.backup(tmp_path / "b.tar", ["a"])
        database.restore(tmp_path / "b.tar", {"a": "c"})
    with Database(tmp_path / "db") as database:
        for name in ("a", "c"):
            collection = database.collection(name)
            vectors = collection.get(range(0, N, 30), with_vectors=True)
            assert [collection.query(p.vector, 1)[0].id for p in vectors] == list(range(0, N, 30))
            points, _ = collection.scroll("n = 3", limit=N)
            assert [p.id for p in points] == list(range(3, N, 7))
            assert collection.flush(60)
    with Database(tmp_path / "db") as database:  # closing saved what was made again
        assert all(report.ok for report in database.verify())


def test_a_snapshot_without_a_sum_is_taken_as_it_is(tmp_path: Path) -> None:
    made(tmp_path / "db")
    unbind(tmp_path / "db")
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        assert collection._generation.opened.view.fields[""].indexed == N
        assert collection.verify().ok
