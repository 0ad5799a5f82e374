"""Compaction: another generation with the same points, while reads and writes go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.kept import everything, filled, vectors_of

from vicinal import generation, limits, succession
from vicinal.collection import Collection
from vicinal.copying import Copy
from vicinal.database import Database
from vicinal.errors import Closed, CorruptData, ReadOnly, StorageFull
from vicinal.schema import Dense, Multi
from vicinal.storage.database_catalog import DatabaseCatalog

RNG = np.random.default_rng(5)


@pytest.fixture(params=["disk", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "db" if request.param == "disk" else ":memory:") as opened:
        yield opened


def test_every_kind_of_field_is_copied_as_it_is_stored(database: Database) -> None:
    collection = filled(database)
    before, state = everything(collection), collection.info()
    assert collection.compact() == 6
    after = collection.info()
    assert everything(collection) == before
    assert (after.points, after.slots, after.seq) == (state.points, state.points, state.seq)
    assert collection.verify().ok
    collection.upsert([1000], {"tokens": vectors_of("tokens", 1, RNG)})
    assert collection.info().seq == state.seq + 1
    assert collection.count("late = true") == 2


def test_the_same_answers_before_after_and_on_reopening(tmp_path: Path) -> None:
    rows = RNG.standard_normal((3000, 8)).astype(np.float32)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=8, metric="l2")
        collection.upsert(range(3000), rows, [{"n": i % 7} for i in range(3000)])
        collection.delete(range(0, 3000, 5))
        queries = rows[:20] + 0.01

        def answers(searched: Collection) -> Any:
            return [
                [(h.id, h.payload) for h in searched.query(q, 10, filter=f, exact=True)]
                for q in queries
                for f in (None, "n = 3")
            ]

        told = answers(collection)
        (old,) = (tmp_path / "db" / "collections").iterdir()
        assert collection.compact() == 600
        assert answers(collection) == told
        (new,) = (tmp_path / "db" / "collections").iterdir()
        assert new != old
        assert collection.info().tail == 0
        assert database.collection("c") is collection
    with Database(tmp_path / "db") as database:
        again = database.collection("c")
        assert again.info().tail == 0  # its graph was saved
        assert answers(again) == told
        assert again.compact() == 0


def test_a_quarter_of_dead_slots_is_enough(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        rows = RNG.standard_normal((8000, 4)).astype(np.float32)
        collection.upsert(range(8000), rows)
        collection.delete(range(2000))
        assert collection.flush(60)
        time.sleep(0.3)
        assert collection.info().slots == 8000  # a quarter is not more than a quarter
        used = collection.info().disk_bytes
        collection.delete(range(2000, 3000))
        until = time.monotonic() + 60
        while collection.info().slots != 5000:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert collection.info().disk_bytes < used
        assert collection.query(rows[4000], 1)[0].id == 4000
        assert limits.COMPACT_SHARE == 0.25


def held_copy(monkeypatch: pytest.MonkeyPatch, when: Callable[[Copy], None]) -> None:
    """Run `when` after the first copy of a compaction."""
    index = Copy.index

    def indexed(copy: Copy) -> None:
        index(copy)
        when(copy)

    monkeypatch.setattr(Copy, "index", indexed)


def test_many_dead_slots_on_opening_are_enough(tmp_path: Path, monkeypatch: Any) -> None:
    """The indexer of the first generation asks for a compaction before there is one."""
    with monkeypatch.context() as never, Database(tmp_path / "db") as database:
        never.setattr(limits, "COMPACT_SHARE", 1.0)
        collection = database.create_collection("c", dim=2)
        collection.upsert(range(3000), np.ones((3000, 2)))
        assert collection.delete(range(2000)) == 2000
    real = generation.Generation

    def slow(opened: Any, watch: Any, **options: Any) -> Any:
        made = real(opened, watch, **options)
        watch(made.view)
        time.sleep(0.3)
        return made

    monkeypatch.setattr(succession, "Generation", slow)
    with Database(tmp_path / "db") as database:
        collection = database.collection("c")
        until = time.monotonic() + 120
        while collection.info().slots > 1000 and time.monotonic() < until:
            time.sleep(0.01)
        assert collection.info().slots == len(collection) == 1000


def test_writes_during_a_compaction_are_in_both_generations(database: Database, monkeypatch: Any) -> None:
    collection = database.create_collection("c", vectors={"a": Dense(4), "t": Multi(4)})
    n = 3000
    rows, tokens = RNG.standard_normal((n, 4)), [RNG.standard_normal((2, 4)) for _ in range(n)]
    collection.upsert(range(n), {"a": rows, "t": tokens}, [{"n": i} for i in range(n)])
    collection.delete(range(0, n, 2))
    expected: list[Any] = []
    calls = iter(range(100))

    def meanwhile(_: Copy) -> None:
        call = next(calls)
        if call < 3:  # new points, old ones replaced, deleted, deleted and back, changed, changed twice
            collection.upsert([n + call, 11], {"a": rows[:2]}, [{"new": call}, None])
            collection.upsert([13], {"t": tokens[5:6]})
            collection.delete([15 + 2 * call, 101])
            collection.upsert([101], {"a": rows[7:8], "t": tokens[7:8]}, [{"back": call}])
            collection.set_payload({"n": -call}, [1, 5, 101])
            collection.set_payload({"m": call}, [1])
            if call == 1:  # so many that another round follows
                collection.upsert(range(5000, 6500), {"a": RNG.standard_normal((1500, 4))})
        expected[:] = everything(collection)

    held_copy(monkeypatch, meanwhile)
    collection.compact()
    assert next(calls) >= 1
    assert everything(collection) == expected
    assert collection.count("m >= 0") == 1
    assert collection.count("n <= 0") == collection.count("n < 0") + collection.count("n = 0")
    assert [h.id for h in collection.query(rows[7], 2, using="a", exact=True)] == [7, 101]
    assert everything(collection) == expected


def test_readers_and_writers_go_on(tmp_path: Path) -> None:
    rows = RNG.standard_normal((4000, 4)).astype(np.float32)
    stop, failures, written = threading.Event(), [], [0]
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(4000), rows, [{"n": i} for i in range(4000)])
        collection.delete(range(0, 4000, 3))

        def read() -> None:
            i = int(np.random.default_rng().integers(0, 1333)) * 3 + 1
            hit = collection.query(rows[i], 1, filter=f"n = {i}")[0]
            assert (hit.id, hit.payload) == (i, {"n": i})
            (point,) = collection.get([i], with_vectors=True)
            np.testing.assert_array_equal(point.vector, rows[i])

        def write() -> None:
            collection.upsert([10_000 + written[0]], rows[:1])
            written[0] += 1
            assert collection.get([10_000 + written[0] - 1])

        def again(call: Callable[[], None]) -> None:
            try:
                while not stop.is_set():
                    call()
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=again, args=(call,)) for call in (read, read, read, write)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            collection.compact()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(collection) == 2666 + written[0] > 2670
        assert len(list((tmp_path / "db" / "collections").iterdir())) == 1
    with Database(tmp_path / "db") as database:
        assert len(database.collection("c")) == 2666 + written[0]


def test_a_call_that_goes_on_keeps_the_old_files(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=2, metric="l2")
        collection.upsert(range(10), np.ones((10, 2)), [{"n": i} for i in range(10)])
        collection.delete([3])
        reader = collection._generation
        view = reader.view
        collection.compact()
        collection.upsert([5], [[9, 9]], [{"n": 99}])
        assert len(list((tmp_path / "db" / "collections").iterdir())) == 2
        points = reader.points(view, np.arange(10), True, True)
        assert [p.payload["n"] for p in points if p.payload] == list(range(10))
        del reader
        collection.compact()
        assert len(list((tmp_path / "db" / "collections").iterdir())) == 1


def test_no_room_leaves_everything_as_it_was(database: Database, monkeypatch: Any) -> None:
    collection = database.create_collection("c", dim=2, metric="l2")
    collection.upsert(range(10), np.ones((10, 2)))
    collection.delete([3])

    def full(*_: Any) -> None:
        raise StorageFull("no room")

    for target, name in ((Copy, "follow"), (DatabaseCatalog, "switch")):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, full)
            with pytest.raises(StorageFull):
                collection.compact()
        collection.upsert([4], [[2, 2]])
        assert len(collection) == 9
        assert collection.info().slots > 10
    directory = database._directory
    assert directory is None or len(list((directory / "collections").iterdir())) == 1
    collection.compact()
    assert collection.info().slots == 9


def test_when_nobody_knows_which_generation_counts_nothing_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    for reached in (False, True):
        with Database(tmp_path / str(reached)) as database:
            collection = database.create_collection("c", dim=2, metric="l2")
            collection.upsert(range(10), np.ones((10, 2)))
            collection.delete([3])
            real = DatabaseCatalog.switch

            def failing(names: DatabaseCatalog, name: str, uid: str, reached: bool = reached, real: Any = real) -> str:
                if reached:
                    real(names, name, uid)
                raise ReadOnly("a sync failed")

            monkeypatch.setattr(DatabaseCatalog, "switch", failing)
            with pytest.raises(ReadOnly):
                collection.compact()
            monkeypatch.undo()
            assert len(collection.query([1, 1], 20)) == 9
            for refused in (lambda c: c.upsert([4], [[2, 2]]), lambda c: c.compact()):
                with pytest.raises(ReadOnly):
                    refused(collection)
        with Database(tmp_path / str(reached)) as database:
            assert database.collection("c").info().slots == (9 if reached else 10)
            assert len(list((tmp_path / str(reached) / "collections").iterdir())) == 1
            database.collection("c").upsert([4], [[2, 2]])


def test_damaged_rows_are_not_copied(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=4, metric="l2")
        collection.upsert(range(3000), np.ones((3000, 4)))
        collection.delete([0])
        (file,) = (tmp_path / "db").rglob("*.vec")
        with file.open("r+b") as opened:
            opened.seek(4096 + 1500 * 16)
            opened.write(b"\x7f")
        with pytest.raises(CorruptData, match="rows 1024 to 2047"):
            collection.compact()
        assert collection.info().slots == 3000


def test_closing_breaks_a_compaction_off(tmp_path: Path, monkeypatch: Any) -> None:
    database = Database(tmp_path / "db")
    collection = database.create_collection("c", dim=4, metric="l2")
    collection.upsert(range(100), np.ones((100, 4)))
    collection.delete([1])
    begun = threading.Event()
    ended: list[BaseException] = []

    def slow(copy: Copy) -> None:
        begun.set()
        while not copy._cancel():
            time.sleep(0.001)
        copy.follow(collection._view)

    held_copy(monkeypatch, slow)

    def compact() -> None:
        try:
            collection.compact()
        except BaseException as error:  # noqa: BLE001
            ended.append(error)

    thread = threading.Thread(target=compact)
    thread.start()
    assert begun.wait(30)
    database.close()
    thread.join()
    monkeypatch.undo()
    if ended:
        assert isinstance(ended[0], Closed)
    with Database(tmp_path / "db") as again:
        assert len(again.collection("c")) == 99
        assert len(list((tmp_path / "db" / "collections").iterdir())) == 1


def test_a_read_only_collection_is_not_compacted(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        database.create_collection("c", dim=2).upsert([1], [[1, 1]])
    with Database(tmp_path / "db", read_only=True) as database, pytest.raises(ReadOnly):
        database.collection("c").compact()


def test_dropping_and_aliases_follow_the_new_generation(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        database.create_collection("c", dim=2).upsert([1, 2], [[1, 1], [2, 2]])
        database.set_alias("live", "c")
        database.collection("live").delete([1])
        assert database.collection("live").compact() == 1
        assert len(database.collection("live")) == 1
        database.drop_collection("c")
        assert not list((tmp_path / "db" / "collections").iterdir())
