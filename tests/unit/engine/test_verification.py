"""verify: what is whole is said to be, what is not is named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.kept import filled

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import Closed, CorruptData, VicinalError
from vicinal.index.coded_arrays import SENTINEL
from vicinal.index.index_check import coded_problems
from vicinal.schema import Dense
from vicinal.storage.files import Files
from vicinal.storage.sqlite import close, connect
from vicinal.types import Metric

RNG = np.random.default_rng(3)


def test_every_kind_of_field_is_whole(tmp_path: Path) -> None:
    for where in (tmp_path / "db", ":memory:"):
        with Database(where) as database:
            report = filled(database).verify()
            assert (report.ok, report.problems, report.name) == (True, (), "c")
            assert (report.points, report.slots) == (database.collection("c").info().points, 62)
            assert report.bytes > 62 * 40
            assert database.verify() == [report]


@pytest.mark.parametrize("layout", ["graph", "cells"])
def test_a_large_field_is_whole_while_it_changes(layout: str) -> None:
    with Database(":memory:") as database:
        fields = {"v": Dense(16, Metric.L2, layout=layout)}  # type: ignore[arg-type]
        collection = database.create_collection("c", vectors=fields)
        rows = RNG.standard_normal((12_000, 16)).astype(np.float32)
        collection.upsert(range(11_000), {"v": rows[:11_000]})
        assert collection.flush(300)
        collection.upsert(range(11_000, 12_000), {"v": rows[11_000:]})
        collection.delete(range(0, 2000, 2))
        assert collection.verify().ok
        assert collection.flush(300)
        assert collection._generation.indexer.wait_retired(300)
        assert collection.info().fields["v"]["layout"]["chosen"] == layout
        assert collection.verify().ok


def made(path: Path) -> None:
    with Database(path) as database:
        collection = database.create_collection("c", vectors={"v": Dense(4, Metric.L2)})
        collection.upsert(range(1500), {"v": RNG.standard_normal((1500, 4))}, [{"n": i} for i in range(1500)])
        assert collection.flush(60)


def flipped(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 4]))


@pytest.mark.parametrize(
    ("pattern", "at", "said"),
    [("*.vec", 4096 + 1100 * 16, "rows 1024 to 1499"), ("*.snapshot", 100, "made again by itself")],
)
def test_damage_under_an_open_collection_is_named(tmp_path: Path, pattern: str, at: int, said: str) -> None:
    made(tmp_path / "db")
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        assert collection.verify().ok
        (path,) = (tmp_path / "db").rglob(pattern)
        flipped(path, at)
        (problem,) = collection.verify().problems
        assert said in problem


def test_what_cannot_be_opened_is_reported_too(tmp_path: Path) -> None:
    made(tmp_path / "db")
    with Database(tmp_path / "db") as database:
        database.create_collection("whole", dim=2).upsert([1], [[1, 2]])
    (path,) = (path for path in (tmp_path / "db").rglob("v-1.vec"))
    flipped(path, 4096)
    with Database(tmp_path / "db", read_only=True) as database:
        broken, whole = database.verify()
        assert (broken.name, broken.points, whole.ok) == ("c", 0, True)
        assert "rows 0 to 1023" in broken.problems[0]


DOCTORED: list[tuple[str, str]] = [
    ("UPDATE points SET died = 0 WHERE slot = 7", "died before"),
    ("INSERT INTO payloads VALUES (9999, 1, CAST('{}' AS BLOB))", "belongs to no point"),
    ("UPDATE payloads SET payload = CAST('{' AS BLOB) WHERE slot = 3", "not JSON"),
    ("UPDATE payloads SET payload = CAST('5' AS BLOB) WHERE slot = 3", "no object, at slot 3"),
    ("UPDATE payloads SET payload = x'7B2261223A22FF227D' WHERE slot = 3", "not JSON"),
    ("UPDATE payloads SET payload = x'7B7D001E41' WHERE slot = 3", "not JSON"),
    ("UPDATE points SET id = x'FFFE' WHERE slot = 3", "the id at slot 3 is no text"),
    ("UPDATE points SET fields = -1 WHERE slot = 3", "out of its range"),
    ("UPDATE points SET fields = 1 << 40 WHERE slot = 3", "out of its range"),
    ("INSERT INTO snapshots VALUES ('v@/../1', 1)", "no file name"),
    ("UPDATE files SET rows = 1000", "counts 1000 rows of 'v-1.vec', where there are 1500 slots"),
    ("INSERT INTO files VALUES ('other', 5, 1)", "'other', which is no file"),
    ("UPDATE points SET seq = 99 WHERE slot = 3", "later than the last"),
    ("UPDATE points SET id = 1.5 WHERE slot = 3", "neither a number nor a text"),
    ("CREATE TRIGGER t AFTER INSERT ON points BEGIN DELETE FROM payloads; END", "not those of its format"),
    ("DELETE FROM blocks WHERE block = 0", "do not match"),
    ("UPDATE points SET died = 1 WHERE slot = 3", "1500 points are found where the catalogue has 1499"),
]


@pytest.mark.parametrize(("statement", "said"), DOCTORED, ids=[said for _, said in DOCTORED])
def test_a_catalogue_that_contradicts_itself(tmp_path: Path, statement: str, said: str) -> None:
    made(tmp_path / "db")
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        collection._generation.opened.catalog._writer.execute(statement)
        assert said in " ".join(collection.verify().problems)


def test_the_names_are_checked_first(tmp_path: Path) -> None:
    made(tmp_path / "db")
    with sqlite3.connect(tmp_path / "db" / "database.db") as raw:
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
    flipped(tmp_path / "db" / "database.db", (pages - 1) * 4096 + 4000)
    with pytest.raises(VicinalError), Database(tmp_path / "db", read_only=True) as database:
        database.verify()


def spoiled_graph(change: Callable[[Any], None]) -> list[str]:
    links = np.full((50, 32), SENTINEL, np.uint32)
    links[:, 0] = (np.arange(50) + 1) % 50
    links[:, 1] = (np.arange(50) + 7) % 50
    change(links)
    return coded_problems(links, np.array([3]), np.zeros(50, np.bool_))


def test_links_that_cannot_be_walked() -> None:
    def put(at: tuple[int, int], value: int) -> Callable[[Any], None]:
        return lambda links: links.__setitem__(at, value)

    assert spoiled_graph(lambda _: None) == []
    assert spoiled_graph(put((4, 1), 50)) == ["slot 4 links beyond the 50 slots"]
    assert spoiled_graph(put((4, 1), 4)) == ["slot 4 links to itself"]
    assert spoiled_graph(put((4, 0), int(SENTINEL))) == ["slot 4 has a link after its end"]
    assert "cannot be reached" in spoiled_graph(lambda links: links.__setitem__(links == 9, 10))[0]
    links = np.full((3, 32), SENTINEL, np.uint32)
    links[:, 0] = 1, 0, 0
    removed = np.array([False, False, True])
    assert coded_problems(links, np.array([0]), removed) == ["a link leads from or to a removed slot"]
    links[2] = SENTINEL
    assert coded_problems(links, np.array([0]), removed) == []


def test_one_slot_of_thousands_out_of_reach_is_reported() -> None:
    links = np.full((3000, 32), SENTINEL, np.uint32)
    links[:, 0] = (np.arange(3000) + 1) % 3000
    links[8, 0] = 10
    told = coded_problems(links, np.array([3]), np.zeros(3000, np.bool_))
    assert told == ["1 slots cannot be reached from the entries, the first is 9"]


def test_verifying_a_closed_collection(tmp_path: Path) -> None:
    made(tmp_path / "db")
    database = Database(tmp_path / "db")
    collection: Collection = database.collection("c")
    database.close()
    with pytest.raises(VicinalError):
        database.verify()
    with pytest.raises(Closed):
        collection.verify()


def test_commits_between_the_statements_of_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared must be read of one commit: writers do not wait for a check."""

    class Interrupted:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def execute(self, *arguments: Any) -> Any:
            rows = self._connection.execute(*arguments).fetchall()
            collection.upsert([collection.count()], {"v": RNG.standard_normal((1, 4))}, [{"n": 1}])
            collection.delete([0])
            collection.upsert([0], {"v": RNG.standard_normal((1, 4))})
            return _Fetched(rows)

    class _Fetched(list[Any]):
        def fetchall(self) -> list[Any]:
            return self

    made(tmp_path / "db")
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        catalog = collection._generation.opened.catalog
        lend = catalog._reader

        @contextmanager
        def interrupted() -> Iterator[Any]:
            monkeypatch.setattr(catalog, "_reader", lend)
            with lend() as connection:
                yield Interrupted(connection)

        before = collection.count()
        monkeypatch.setattr(catalog, "_reader", interrupted)
        catalog.check(deep=True)
        assert collection.count() > before


UNREADABLE = [
    "UPDATE files SET rows = 0",
    "UPDATE files SET rows = -1024",
    "INSERT INTO files VALUES ('other', 5, 1)",
    "UPDATE meta SET seq = 9223372036854775807",
    "UPDATE meta SET seq = -5",
    "UPDATE meta SET rows = 1 << 40",
    "UPDATE points SET fields = -1 WHERE slot = 3",
    "UPDATE points SET fields = 1 << 40 WHERE slot = 3",
    "UPDATE points SET id = x'FFFE' WHERE slot = 3",
    "UPDATE points SET slot = -1 WHERE slot = 3",
]


@pytest.mark.parametrize("statement", UNREADABLE)
def test_numbers_and_texts_that_cannot_be_are_refused_on_opening(tmp_path: Path, statement: str) -> None:
    made(tmp_path / "db")
    (path,) = (tmp_path / "db" / "collections").rglob("catalog.db")
    connection = connect(Files(), path)
    connection.execute(statement)
    connection.execute("DELETE FROM blocks" if "files" in statement else "SELECT 1")
    close(connection)
    with Database(tmp_path / "db") as database, pytest.raises(CorruptData, match=r"catalog\.db"):
        database.collection("c")
