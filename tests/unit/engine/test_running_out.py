"""No room on disk or in memory: writes are refused and may go on later; reads never stop."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import ReadOnly, StorageFull, VicinalError
from vicinal.room import Room
from vicinal.schema import Dense
from vicinal.storage.files import Files, IoCall
from vicinal.storage.machine import Space, free_memory, free_space
from vicinal.view import DenseView

MIB = 1 << 20
ROWS = np.random.default_rng(1).standard_normal((30_000, 8)).astype(np.float32)


class Machine:
    """What a machine has left, as a test likes."""

    def __init__(self) -> None:
        self.disk, self.memory = Space(1000 * MIB, 900 * MIB), 900 * MIB

    def room(self, directory: Path | None) -> Room:
        made = Room(directory, lambda _: self.disk, lambda: self.memory)
        made._free = self._unremembered(made, made._free)  # type: ignore[method-assign]
        return made

    def _unremembered(self, room: Room, free: Any) -> Any:
        def asked(nbytes: int) -> Any:
            room._until = 0.0
            return free(nbytes)

        return asked


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr("vicinal.succession.Room", made.room)
    return made


@pytest.fixture
def made(machine: Machine, tmp_path: Path) -> Iterator[Collection]:
    del machine
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=8, metric="l2")
        collection.upsert(range(1000), ROWS[:1000], [{"n": i} for i in range(1000)])
        yield collection


def test_a_disk_near_its_end_takes_deletes_only(made: Collection, machine: Machine) -> None:
    machine.disk = Space(1000 * MIB, 50 * MIB)  # a twentieth is the reserve
    for refused in (
        lambda: made.upsert([1], ROWS[:1]),
        lambda: made.set_payload({"n": 1}, [1]),
        lambda: made.delete_payload(["n"], filter="n = 3"),
        made.compact,
    ):
        with pytest.raises(StorageFull) as refusal:
            refused()
        assert refusal.value.field == "disk"
    assert made.query(ROWS[5], 1)[0].id == 5
    assert made.delete(range(600)) == 600
    machine.disk = Space(1000 * MIB, 51 * MIB)
    made.upsert([1], ROWS[:1])
    assert made.compact() == 600
    assert made.info().points == 401


def test_large_writes_need_more(made: Collection, machine: Machine) -> None:
    machine.disk = Space(10_000 * MIB, 65 * MIB)  # 64 MiB at most are kept
    made.upsert([1], ROWS[:1])
    with pytest.raises(StorageFull, match="KiB of disk"):
        made.upsert(range(20_000), ROWS[:20_000])
    assert made.info().points == 1000


def test_memory_for_the_graph_is_needed_first(made: Collection, machine: Machine) -> None:
    assert made.flush(60)
    machine.memory = 66 * MIB
    made.upsert(range(100), ROWS[:100])  # few rows are inserted into the graph there is
    with pytest.raises(StorageFull, match="MiB of memory") as refusal:
        made.upsert(range(20_000), ROWS[:20_000])
    assert refusal.value.field == "memory"
    assert made.query(ROWS[500], 1)[0].id == 500
    machine.memory = 900 * MIB
    made.upsert(range(20_000), ROWS[:20_000])
    machine.memory = 66 * MIB
    with pytest.raises(StorageFull, match="memory"):
        made.compact()


def test_memory_for_larger_arrays_of_the_graph_is_needed_when_they_are_full(tmp_path: Path, machine: Machine) -> None:
    """A row more than they hold, and all of them are copied."""
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=8, metric="l2")
        collection.upsert(range(12_000), ROWS[:12_000])
        assert collection.flush(60)
        machine.memory = 66 * MIB
        with pytest.raises(StorageFull, match="MiB of memory"):
            collection.upsert([12_000], ROWS[12_000:12_001])
        machine.memory = 80 * MIB
        collection.upsert([12_000], ROWS[12_000:12_001])
        assert collection.flush(60)
        machine.memory = 66 * MIB
        collection.upsert([12_001], ROWS[12_001:12_002])
        assert collection.count() == 12_002


def test_in_memory_only_memory_counts(machine: Machine) -> None:
    machine.disk = Space(100, 0)
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=8)
        collection.upsert([1], ROWS[:1])
        machine.memory = 10 * MIB
        with pytest.raises(StorageFull, match="memory"):
            collection.upsert([1], ROWS[:1])


def test_in_memory_rows_are_copied_to_grow(machine: Machine) -> None:
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=2048)
        rows = np.ones((1500, 2048), np.float32)
        collection.upsert(range(1500), rows)
        field = collection._view.fields[""]
        assert isinstance(field, DenseView)
        assert len(field.rows.vectors) < 1600  # so that it must grow
        machine.memory = 64 * MIB + 30 * MIB  # enough to index all, and not for another 24 MB of rows besides
        with pytest.raises(StorageFull, match="memory"):
            collection.upsert(range(2000, 2100), rows[:100])
        machine.memory = 900 * MIB
        collection.upsert(range(2000, 2100), rows[:100])
        machine.memory = 64 * MIB + 30 * MIB
        collection.upsert(range(3000, 3100), rows[:100])  # for which there is room now


def test_no_memory_for_a_larger_map_refuses_before_anything_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    """Found out after the commit there would be no way back."""
    rows = np.tile(ROWS, 2)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", vectors={"v": Dense(16)})
        collection.upsert(range(1000), {"v": rows[:1000]})
        sizes = [path.stat().st_size for path in (tmp_path / "db").rglob("v-1.vec")]
        with monkeypatch.context() as short:
            refusal = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            short.setattr("vicinal.storage.files.mmap.mmap", lambda *_, **__: (_ for _ in ()).throw(refusal))
            with pytest.raises(StorageFull) as refused:
                collection.upsert(range(1000, 31_000), {"v": rows})
            assert refused.value.field == "memory"
            assert collection.upsert([5], {"v": rows[7:8]})  # fits into what is mapped
        assert [path.stat().st_size for path in (tmp_path / "db").rglob("v-1.vec")] == sizes
        collection.upsert(range(1000, 31_000), {"v": rows})
        assert collection.count() == 31_000
        assert not collection.info().read_only
    with Database(tmp_path / "db") as database:
        assert database.collection("c").count() == 31_000


def test_a_write_that_finds_no_memory_can_be_repeated(tmp_path: Path, monkeypatch: Any) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=8)
        collection.upsert(range(10), ROWS[:10])
        for place in ("vicinal.fields.DenseField._shorten", "vicinal.storage.catalog.Catalog.live_slots"):
            with monkeypatch.context() as short:
                short.setattr(place, lambda *_: (_ for _ in ()).throw(MemoryError()))
                with pytest.raises(StorageFull) as refused:
                    collection.upsert(range(5, 15), ROWS[20:30])
                assert refused.value.field == "memory"
            assert collection.count() == 10
        collection.upsert(range(5, 15), ROWS[20:30])
        assert collection.count() == 15
        assert collection.query(ROWS[21], 1, exact=True)[0].id == 6


def test_what_was_read_is_believed_for_a_moment(tmp_path: Path) -> None:
    asked: list[Path] = []
    view = None
    with Database(":memory:") as database:
        view = database.create_collection("c", dim=8)._view
    room = Room(tmp_path, lambda path: (asked.append(path), Space(1 << 40, 1 << 40))[1], lambda: 1 << 40)  # type: ignore[func-returns-value]
    for _ in range(5):
        room.require(view, 1, 100)
    assert len(asked) == 1
    room.require(view, 1, 9 * MIB)
    assert len(asked) == 2


def test_small_writes_count_with_the_pages_that_they_touch(tmp_path: Path) -> None:
    """Else many of them would take the reserve before free space is read again."""
    asked: list[Path] = []
    with Database(":memory:") as database:
        view = database.create_collection("c", dim=8)._view
    space = Space(1000 * MIB, 50 * MIB + (100 << 10))
    room = Room(tmp_path, lambda path: (asked.append(path), space)[1], lambda: 1 << 40)  # type: ignore[func-returns-value]
    for reads in (1, 1, 1, 2):
        room.require(view, 1, 100)
        assert len(asked) == reads
    space = Space(1000 * MIB, 50 * MIB + (20 << 10))
    room._until = 0.0
    with pytest.raises(StorageFull, match="KiB of disk"):
        room.require(view, 1, 100)


class Failing:
    """An observer whose disk is full, or broken, for some paths while it is told so."""

    def __init__(self) -> None:
        self.error, self.suffix, self.kind = 0, "", "write"

    def before(self, call: IoCall) -> None:
        if self.error and call.kind == self.kind and self.suffix in Path(call.path).name:
            raise OSError(self.error, os.strerror(self.error), call.path)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Failing:
    observer = Failing()
    Database(tmp_path / "other").close()  # so that SQLite's own files are not observed, in no test of this process
    monkeypatch.setattr("vicinal.database.Files", lambda: Files(observer))
    return observer


def test_a_full_disk_under_the_rows(failing: Failing, tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", vectors={"v": Dense(8)})
        collection.upsert(range(1000), {"v": ROWS[:1000]})
        failing.error, failing.suffix = errno.ENOSPC, ".vec"
        for refused in (lambda: collection.upsert(range(2000), {"v": ROWS[:2000]}), collection.compact):
            with pytest.raises(StorageFull):
                refused()
        assert collection.query(ROWS[999], 1)[0].id == 999
        failing.error = 0
        collection.upsert([1], {"v": ROWS[:1]})
        assert not list((tmp_path / "db").rglob("*.tmp"))
        assert len(list((tmp_path / "db" / "collections").iterdir())) == 1


@pytest.mark.parametrize("suffix", ["v-1.vec"])
def test_a_failed_sync_lets_nothing_be_written_until_reopened(failing: Failing, tmp_path: Path, suffix: str) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", vectors={"v": Dense(8)})
        collection.upsert(range(10), {"v": ROWS[:10]})
        failing.kind, failing.suffix, failing.error = "sync", suffix, errno.EIO
        with pytest.raises(ReadOnly):
            collection.upsert([3], {"v": ROWS[20:21]})
        failing.error = 0
        for refused in (
            lambda: collection.upsert([3], {"v": ROWS[:1]}),
            lambda: collection.delete([1]),
            collection.compact,
        ):
            with pytest.raises(ReadOnly):
                refused()
        assert collection.info().read_only
        assert collection.query(ROWS[3], 1)[0].id == 3
    with Database(tmp_path / "db") as database:
        database.collection("c").upsert([3], {"v": ROWS[20:21]})


def test_what_a_machine_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo, own, groups = tmp_path / "meminfo", tmp_path / "own", tmp_path / "groups"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    own.write_text("")
    assert free_memory(meminfo, groups, own) == 8000 * 1024
    own.write_text("1:cpu:/x\n0::/a/b\n")
    inner = groups / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("7000000\n")
    assert free_memory(meminfo, groups, own) == 8000 * 1024
    (groups / "a" / "memory.max").write_text("5000000\n")
    (groups / "a" / "memory.current").write_text("4500000\n")
    (groups / "a" / "memory.stat").write_text("anon 3000000\nfile 1500000\nshmem 200000\n")
    assert free_memory(meminfo, groups, own) == 500_000 + 1_300_000
    own.write_text("4:memory:/c\n")
    (groups / "memory" / "c").mkdir(parents=True)
    (groups / "memory" / "c" / "memory.limit_in_bytes").write_text("1000000\n")
    (groups / "memory" / "c" / "memory.usage_in_bytes").write_text("990000\n")
    (groups / "memory" / "c" / "memory.stat").write_text("cache 1\ntotal_cache 90000\ntotal_shmem 0\n")
    assert free_memory(meminfo, groups, own) == 100_000
    (groups / "memory" / "c" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert free_memory(meminfo, groups, own) == 8000 * 1024
    assert free_memory(tmp_path / "none", groups, tmp_path / "none") > 1 << 50
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (1 << 50 if limit == resource.RLIMIT_AS else -1, -1))
    assert (1 << 50) - (1 << 44) < free_memory(tmp_path / "none", groups, tmp_path / "none") < 1 << 50
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (1 if limit == resource.RLIMIT_DATA else -1, -1))
    assert free_memory() == 0
    monkeypatch.undo()
    assert 0 < free_memory() < 1 << 60
    assert free_space(tmp_path).free <= free_space(tmp_path).total


def test_an_indexer_that_finds_no_memory_tries_again(tmp_path: Path, monkeypatch: Any) -> None:
    from vicinal.index.field_index import FieldIndex

    monkeypatch.setattr("vicinal.indexer.REST_SECONDS", 0.01)
    calls = iter(range(100))
    real = FieldIndex.extend

    def short(index: FieldIndex, *arguments: Any) -> None:
        if next(calls) < 3:
            raise MemoryError
        real(index, *arguments)

    monkeypatch.setattr(FieldIndex, "extend", short)
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=8)
        collection.upsert(range(100), ROWS[:100])
        assert collection.flush(60)
        assert next(calls) > 3


def test_errors_have_the_type_that_the_service_answers_507_to() -> None:
    assert issubclass(StorageFull, VicinalError)
    assert StorageFull.code == "storage_full"
