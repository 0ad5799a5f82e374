"""The catalogue: what is committed is read, at every commit, in every thread; what is not, is not."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.support.crash_images import Recorder
from tests.support.faulty_files import FaultAt

from vicinal.errors import Closed, CorruptData, FormatTooNew, InvalidArgument, ReadOnly, StorageFull
from vicinal.storage import sqlite
from vicinal.storage.catalog import Catalog, Commit, NewPoint
from vicinal.storage.files import Files
from vicinal.storage.machine import Space
from vicinal.storage.sqlite import translated

IDS: list[int | str] = [
    0,
    1,
    7,
    2**63 - 1,
    2**63,
    2**64 - 1,
    "7",
    "0",
    "",
    "é🙂",
    "nul\0nul",
    "nul",
    "a" * 512,
    '"',
    ",",
]


@pytest.fixture(params=["disk", "memory"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    made = Catalog.create(Files(), tmp_path / "catalog.db" if request.param == "disk" else ":memory:", b"config")
    yield made
    made.close()


def _points(ids: list[int | str], first: int = 0, **more: int) -> list[NewPoint]:
    return [NewPoint(first + at, i, b'{"at":%d}' % at, **more) for at, i in enumerate(ids)]


def test_an_empty_catalogue(catalog: Catalog) -> None:
    assert (catalog.config, catalog.last.seq, catalog.last.rows, catalog.last.counts) == (b"config", 0, 0, {})
    assert catalog.live_slots([1, "a"]) == [None, None]
    assert (catalog.disk_bytes == 0) == (catalog.path == ":memory:")
    assert not catalog.live_slots([]) + catalog.slots_at([], 0)
    assert not catalog.payloads([], 0) + catalog.payload_range(0, 0, 0)
    ids, strings, fields, dead = catalog.load_ids()
    assert (len(ids), strings, len(fields), len(dead)) == (0, {}, 0, 0)
    catalog.check(deep=True)


def test_every_kind_of_id_is_its_own_point(catalog: Catalog) -> None:
    catalog.commit(Commit(1, len(IDS), _points(IDS)))
    order = random.Random(0).sample(range(len(IDS)), len(IDS))
    asked = [IDS[at] for at in order]
    assert catalog.live_slots(asked) == catalog.slots_at(asked, 1) == order
    assert catalog.live_slots([2, "1", "NUL", "a" * 511]) == [None] * 4
    ids, strings, fields, dead = catalog.load_ids()
    assert [strings.get(slot, int(ids[slot])) for slot in range(len(IDS))] == IDS
    assert set(strings) == {slot for slot, i in enumerate(IDS) if isinstance(i, str)}
    assert fields.tolist() == [1] * len(IDS)
    assert not dead.any()
    assert catalog.payloads(order, 1) == [b'{"at":%d}' % at for at in order]


def test_readers_see_the_commit_they_hold(catalog: Catalog) -> None:
    catalog.commit(Commit(1, 2, _points([1, "a"])))
    catalog.commit(Commit(2, 3, _points([1], 2), dead=[0], payloads=[(1, b"{}")]))
    catalog.commit(Commit(3, 3, dead=[2]))
    catalog.commit(Commit(4, 4, _points([1], 3), payloads=[(1, None)]))
    assert [catalog.slots_at([1, "a"], seq) for seq in range(5)] == [[None, None], [0, 1], [2, 1], [None, 1], [3, 1]]
    assert [catalog.payloads([1], seq)[0] for seq in range(5)] == [None, b'{"at":1}', b"{}", b"{}", None]
    assert [catalog.payload_range(0, 2, seq)[1] for seq in range(5)] == [None, b'{"at":1}', b"{}", b"{}", None]
    assert catalog.live_slots([1, "a"]) == [3, 1]
    assert catalog.load_ids()[3].tolist() == [True, False, True, False]
    catalog.check(deep=True)


def test_one_id_twice_in_a_group_of_requests(catalog: Catalog) -> None:
    catalog.commit(Commit(1, 1, _points([5])))
    catalog.commit(Commit(2, 4, _points([5, 6, 5], 1), dead=[0, 1]))
    assert catalog.live_slots([5, 6]) == [3, 2]
    assert catalog.slots_at([5], 1) == [0]
    assert catalog.slots_at([5], 2) == [3]


def test_mixed_ids_fields_and_payloads_keep_their_slots(catalog: Catalog) -> None:
    rng = random.Random(3)
    points = []
    for slot in range(5000):
        i: int | str = rng.getrandbits(64) if rng.random() < 0.7 else f"p{slot}"
        payload = None if rng.random() < 0.3 else b'{"s":%d}' % slot
        points.append(NewPoint(slot, i, payload, rng.choice([1, 1, 1, 3, 2**32 - 1])))
    catalog.commit(Commit(1, 5000, points))
    ids, strings, fields, _ = catalog.load_ids()
    assert [strings.get(slot, int(ids[slot])) for slot in range(5000)] == [p.id for p in points]
    assert fields.tolist() == [p.fields for p in points]
    assert catalog.payload_range(0, 5000, 1) == [p.payload for p in points]
    assert catalog.payload_range(100, 103, 1) == [p.payload for p in points[100:103]]
    asked = rng.choices(range(5000), k=4500)
    assert catalog.payloads(asked, 1) == [points[slot].payload for slot in asked]
    assert catalog.live_slots([p.id for p in points]) == list(range(5000))


def test_points_come_in_any_order_of_slots(catalog: Catalog) -> None:
    slots = random.Random(1).sample(range(50), 50)
    catalog.commit(Commit(1, 50, [NewPoint(slot, 1000 + slot, b"%d" % slot) for slot in slots]))
    assert catalog.load_ids()[0].tolist() == list(range(1000, 1050))
    assert catalog.payload_range(0, 50, 1) == [b"%d" % slot for slot in range(50)]


def test_payloads_of_unknown_slots_are_none(catalog: Catalog) -> None:
    catalog.commit(Commit(1, 1, _points([5])))
    assert catalog.payloads([9, 0], 1) == [None, b'{"at":0}']
    assert catalog.payload_range(0, 4, 1) == [b'{"at":0}', None, None, None]


def test_checksums_counts_and_snapshots_are_kept(catalog: Catalog) -> None:
    catalog.commit(
        Commit(1, 1, _points([5]), crcs={"v-0": {0: 2**32 - 1, 1: 4}, "t-0": {0: 9}}, counts={"v-0": 1, "t-0": 40})
    )
    catalog.commit(Commit(2, 1, crcs={"v-0": {1: 5}}, counts={"v-0": 1, "t-0": 40}))
    assert catalog.crcs("v-0") == {0: 2**32 - 1, 1: 5}
    assert catalog.crcs("t-0") == {0: 9}
    assert catalog.crcs("x") == {}
    assert catalog.last.counts == {"v-0": 1, "t-0": 40}
    assert catalog.last.since == {"v-0": 1, "t-0": 0}
    catalog.set_snapshot("graph", 1)
    catalog.set_snapshot("graph", 2)
    catalog.set_snapshot("other", 1)
    catalog.drop_snapshot("other")
    catalog.drop_snapshot("unknown")
    assert catalog.snapshots() == {"graph": 2}
    catalog.set_config(b"new")
    catalog.checkpoint()
    assert catalog.config == b"new"


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    first = Catalog.create(Files(), path, b"config")
    first.commit(Commit(1, len(IDS), _points(IDS), counts={"v-0": 3}, crcs={"v-0": {0: 1}}))
    first.commit(Commit(2, len(IDS), dead=[2]))
    last = first.last
    assert first.disk_bytes > 4096
    first.close()
    first.close()
    for read_only in (False, True):
        again = Catalog.open(Files(), path, read_only)
        assert again.last == last
        assert again.config == b"config"
        assert again.live_slots(IDS[:4]) == [0, 1, None, 3]
        again.check(deep=True)
        again.close()


def test_a_failing_commit_leaves_nothing(catalog: Catalog) -> None:
    catalog.commit(Commit(1, 1, _points([5])))
    bad = [
        Commit(2, 3, _points([6, 5], 1)),  # 5 lives already
        Commit(2, 2, _points([6], 0)),  # slot 0 is taken
        Commit(2, 2, _points([2**64], 1)),
        Commit(2, 2, [NewPoint(1, 6, b'{"a":"\x1e"}')]),
        Commit(3, 2, _points([6], 1)),
        Commit(1, 2, _points([6], 1)),
        Commit(2, 2, [NewPoint(1, "\ud800")]),
    ]
    for commit in bad:
        with pytest.raises((InvalidArgument, ValueError, OverflowError)):
            catalog.commit(commit)
        assert catalog.last.seq == 1
        assert catalog.live_slots([5, 6]) == [0, None]
    catalog.commit(Commit(2, 2, _points([6], 1)))
    catalog.check(deep=True)


def test_use_after_close(catalog: Catalog) -> None:
    catalog.close()
    uses: list[Callable[[], object]] = [
        lambda: catalog.commit(Commit(1, 0)),
        lambda: catalog.live_slots([1]),
        lambda: catalog.payloads([1], 0),
        catalog.load_ids,
        catalog.checkpoint,
    ]
    for use in uses:
        with pytest.raises(Closed):
            use()


def test_read_only_refuses_writes(tmp_path: Path) -> None:
    Catalog.create(Files(), tmp_path / "catalog.db", b"").close()
    catalog = Catalog.open(Files(), tmp_path / "catalog.db", read_only=True)
    writes: list[Callable[[], object]] = [
        lambda: catalog.commit(Commit(1, 0)),
        lambda: catalog.set_snapshot("a", 1),
        catalog.checkpoint,
    ]
    for write in writes:
        with pytest.raises(ReadOnly, match="opened read-only"):
            write()
    catalog.close()


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match=r"gone\.db cannot be opened"):
        Catalog.open(Files(), tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE t(x)")
    other.close()
    with pytest.raises(CorruptData, match="not a catalogue"):
        Catalog.open(Files(), tmp_path / "other.db")
    (tmp_path / "text.db").write_text("not a database at all, only a text of some length" * 100)
    with pytest.raises(CorruptData, match=r"text\.db is damaged"):
        Catalog.open(Files(), tmp_path / "text.db")


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    Catalog.create(Files(), tmp_path / "catalog.db", b"").close()
    raw = sqlite.connect(Files(), tmp_path / "catalog.db")
    raw.pragma("user_version", 2)
    raw.close()
    with pytest.raises(FormatTooNew, match="format 2"):
        Catalog.open(Files(), tmp_path / "catalog.db")


def _changed(path: Path, statement: str) -> None:
    raw = sqlite.connect(Files(), path)
    raw.execute(statement)
    raw.close()


def test_a_catalogue_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    catalog = Catalog.create(Files(), path, b"")
    catalog.commit(Commit(1, 9, _points(list(range(9)))))
    catalog.close()
    _changed(path, "DELETE FROM points WHERE slot = 4")
    catalog = Catalog.open(Files(), path)
    with pytest.raises(CorruptData, match="8 points where the commit row says 9"):
        catalog.check()
    with pytest.raises(CorruptData, match="slots 0 to 8 are not all there"):
        catalog.load_ids()
    catalog.close()
    _changed(path, "DELETE FROM meta")
    with pytest.raises(CorruptData, match="commit row is missing"):
        Catalog.open(Files(), path)


def test_any_number_of_readers_at_once(tmp_path: Path) -> None:
    catalog = Catalog.create(Files(), tmp_path / "catalog.db", b"")
    catalog.commit(Commit(1, 1, _points([5])))
    with ExitStack() as held:
        readers = [held.enter_context(catalog._reader()) for _ in range(20)]
        assert len({id(reader) for reader in readers}) == 20
        assert catalog.live_slots([5]) == catalog.slots_at([5], 1) == [0]
        catalog.close()
    assert catalog._readers is not None
    assert not catalog._readers._idle
    with pytest.raises(Closed), catalog._reader():
        pass


def test_the_file_is_hardened(tmp_path: Path) -> None:
    catalog = Catalog.create(Files(), tmp_path / "catalog.db", b"")
    raw = catalog._writer
    assert raw.reserve_bytes("main") == 8
    assert raw.pragma("journal_mode") == "wal"
    assert raw.pragma("synchronous") == 2
    assert raw.pragma("mmap_size") == 0
    assert raw.pragma("trusted_schema") == 0
    assert raw.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
    assert raw.open_vfs == "cksmvfs"
    assert sqlite.one(raw, "PRAGMA checksum_verification") == "1"
    assert raw.limit(apsw.SQLITE_LIMIT_ATTACHED) == 0
    catalog.close()


def test_other_users_of_sqlite_keep_their_default(tmp_path: Path) -> None:
    Catalog.create(Files(), tmp_path / "catalog.db", b"").close()
    other = apsw.Connection(str(tmp_path / "other.db"))
    assert other.open_vfs != "cksmvfs"
    other.close()


def test_readers_in_many_threads_while_the_writer_commits(catalog: Catalog) -> None:
    """Each reader holds a commit; what it reads is of that commit, and never waits for a writer's end."""
    catalog.commit(Commit(1, 20, _points(list(range(20)))))
    failures: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seq = catalog.last.seq
                assert catalog.payloads([3], seq) == [b'{"at":3}' if seq == 1 else b'{"seq":%d}' % seq]
                slots = catalog.slots_at([5], seq)
                assert slots == [5 if seq == 1 else 18 + seq]
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for seq in range(2, 60):
        slot = 18 + seq
        dead = [5 if seq == 2 else slot - 1]
        catalog.commit(Commit(seq, slot + 1, _points([5], slot), dead, payloads=[(3, b'{"seq":%d}' % seq)]))
        if seq % 20 == 0:
            catalog.checkpoint()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    catalog.check(deep=True)


def test_the_wal_does_not_grow_without_bound(tmp_path: Path) -> None:
    catalog = Catalog.create(Files(), tmp_path / "catalog.db", b"")
    body = b'{"x":"%s"}' % (b"y" * 2000)
    for seq in range(1, 40):
        first = (seq - 1) * 500
        catalog.commit(Commit(seq, first + 500, [NewPoint(first + at, first + at, body) for at in range(500)]))
    assert (tmp_path / "catalog.db-wal").stat().st_size < 24 << 20
    catalog.close()
    assert not (tmp_path / "catalog.db-wal").exists()


def test_on_a_small_disk_the_reserve_has_room_for_the_wal_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Space(64 << 20, 64 << 20)
    monkeypatch.setattr("vicinal.storage.catalog.free_space", lambda _: space)
    catalog = Catalog.create(Files(), tmp_path / "catalog.db", b"")
    for seq in range(1, 300):
        catalog.commit(Commit(seq, seq, [NewPoint(seq - 1, seq, b'{"x":"%s"}' % (b"y" * 2000))]))
    assert (tmp_path / "catalog.db-wal").stat().st_size < space.reserve * 0.6  # a commit may exceed the half
    catalog.close()


def test_observer_without_recording_vfs_changes_nothing(tmp_path: Path) -> None:
    """An observer that comes after SQLite was bound sees the row files only; SQLite works on."""
    catalog = Catalog.create(Files(FaultAt(10**9, "EIO")), tmp_path / "catalog.db", b"")
    catalog.commit(Commit(1, 1, _points([5])))
    catalog.close()


def test_the_name_of_a_new_catalogue_is_durable(tmp_path: Path) -> None:
    recorder = Recorder()
    Catalog.create(Files(recorder), tmp_path / "catalog.db", b"").close()
    assert ("sync_dir", str(tmp_path)) in [(call.kind, call.path) for call in recorder.calls]


def test_ids_load_as_arrays(catalog: Catalog) -> None:
    catalog.commit(Commit(1, 2, _points([2**64 - 1, "x"])))
    ids, _, fields, dead = catalog.load_ids()
    assert [array.dtype.str for array in (ids, fields, dead)] == ["<u8", "<u4", "|b1"]
    assert ids.tolist() == [2**64 - 1, 0]


def test_no_room_for_what_readers_share_is_no_reason_to_reopen() -> None:
    error: Any = apsw.IOError("disk I/O error")
    error.extendedresult = apsw.SQLITE_IOERR_SHMSIZE
    with pytest.raises(StorageFull, match="free 64 KiB"), translated("catalog.db"):
        raise error


def test_more_dead_slots_than_a_statement_may_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sqlite._LIMITS, apsw.SQLITE_LIMIT_LENGTH, 30_000)
    monkeypatch.setattr("vicinal.storage.catalog._LOAD", 1000)
    path, n = tmp_path / "catalog.db", 8000
    catalog = Catalog.create(Files(), path, b"config")
    for seq, first in enumerate(range(0, n, 1000), 1):
        catalog.commit(Commit(seq, first + 1000, [NewPoint(slot, slot) for slot in range(first, first + 1000)]))
    catalog.commit(Commit(9, n, dead=range(1, n)))
    catalog.close()
    with ExitStack() as opened:
        catalog = Catalog.open(Files(), path)
        opened.callback(catalog.close)
        dead = catalog.load_ids()[3]
        assert not dead[0]
        assert dead[1:].all()
