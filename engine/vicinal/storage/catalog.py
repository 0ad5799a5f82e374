"""A collection's catalogue: ids, payloads, checksums and the commit row, in one SQLite file.

`Catalog.commit` is the engine's one commit point: what it holds happened, what it does not hold did not.
Vector files are synced before it; everything else is derived from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw
import numpy as np
from numpy.typing import NDArray

from vicinal.errors import Closed, CorruptData, FormatTooNew, ReadOnly, StorageFull
from vicinal.storage import catalog_schema as sql
from vicinal.storage.files import Files
from vicinal.storage.sqlite import MEMORY, connect, one, translated

__all__ = ["Catalog", "Commit", "CommitRow", "NewPoint"]

_BIAS: Final = 1 << 63  # SQLite's integers are signed; ids are not
_CHECKPOINT_PAGES: Final = 4000  # 16 MiB of WAL: rare enough to amortise, small enough to replay at once
_IDLE_READERS: Final = 16
_CHUNK: Final = 1 << 15  # slots per statement of a bulk load


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A point that takes a new slot. `payload` is JSON; `fields` has bit f set where vector field f is present."""

    slot: int
    id: int | str
    payload: bytes | None = None
    fields: int = 1


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit changes.

    `rows` is the number of slots afterwards, `dead` the slots that die now (also new ones replaced within
    the same commit), `payloads` new payloads of existing slots, `counts` the rows of each row file, `crcs`
    the changed blocks of those that grew. A file that grew was synced with `previous_seq` = seq - 1.
    """

    seq: int
    rows: int
    points: Sequence[NewPoint] = ()
    dead: Sequence[int] = ()
    crcs: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    payloads: Sequence[tuple[int, bytes | None]] = ()


@dataclass(frozen=True, slots=True)
class CommitRow:
    """The last commit. `since` bounds each row file's head seq from below, for `RowFile.open(between=...)`."""

    seq: int
    rows: int
    counts: dict[str, int]
    time: float
    since: dict[str, int]


class Catalog:
    """One collection's catalogue. One thread commits; any number read at once, each on its own connection."""

    def __init__(self, files: Files, path: Path | str, writer: apsw.Connection, *, read_only: bool) -> None:
        self.path = path
        self._files = files
        self._writer = writer
        self._read_only = read_only
        self._failed = False
        self._closed = False
        self._lock = threading.RLock()  # one thread at a time on the writer's connection
        self._idle: list[apsw.Connection] = []
        if not read_only:
            writer.wal_autocheckpoint(_CHECKPOINT_PAGES)
        self.config, self.last = self._load()

    @classmethod
    def create(cls, files: Files, path: Path | str, config: bytes) -> Catalog:
        """Make an empty catalogue at seq 0 that keeps `config`, which is opaque here. ":memory:" is a path."""
        with translated(path):
            writer = connect(files, path, create=True)
            writer.execute("BEGIN IMMEDIATE")
            writer.execute(sql.TABLES)
            writer.pragma("application_id", sql.APPLICATION_ID)
            writer.pragma("user_version", sql.FORMAT)
            writer.execute("INSERT INTO meta VALUES (1, ?, 0, 0, ?)", (config, time.time()))
            writer.execute("COMMIT")
        if isinstance(path, Path):
            files.sync_dir(path.parent)
        return cls(files, path, writer, read_only=False)

    @classmethod
    def open(cls, files: Files, path: Path, read_only: bool = False) -> Catalog:
        """Open an existing catalogue; a WAL left by a crash is replayed. CorruptData, FormatTooNew."""
        with translated(path):
            writer = connect(files, path, read_only=read_only)
            try:
                _check_format(writer, path)
                return cls(files, path, writer, read_only=read_only)
            except BaseException:
                writer.close()
                raise

    def _load(self) -> tuple[bytes, CommitRow]:
        rows = self._writer.execute("SELECT config, seq, rows, time FROM meta").fetchall()
        if len(rows) != 1:
            raise CorruptData(f"{self.path}: the commit row is missing", field=str(self.path))
        config, seq, count, when = rows[0]
        listed = self._writer.execute("SELECT name, rows, seq FROM files").fetchall()
        counts = {name: number for name, number, _ in listed}
        since = {name: changed - 1 for name, _, changed in listed}
        return config, CommitRow(seq, count, counts, when, since)

    # Writing

    def commit(self, c: Commit) -> None:
        """Apply `c` in one transaction; it is durable when this returns.

        Raises StorageFull when nothing was written and a later commit may succeed. After any other failure
        it is unknown whether the commit will be there when the catalogue is reopened, and every later one
        is refused with ReadOnly.
        """
        with self._writing():
            if c.seq != self.last.seq + 1:
                raise ValueError(f"commit {c.seq} does not follow {self.last.seq}")
            when = time.time()
            changed = {name: n for name, n in c.counts.items() if n != self.last.counts.get(name) or c.crcs.get(name)}
            with self._transaction():
                self._apply(c, changed, when)
            since = dict.fromkeys(changed, c.seq - 1)
            self.last = CommitRow(c.seq, c.rows, {**self.last.counts, **changed}, when, {**self.last.since, **since})

    def _apply(self, c: Commit, changed: Mapping[str, int], when: float) -> None:
        run = self._writer.execute
        if c.dead:
            run(sql.MARK_DEAD, (apsw.carray(np.asarray(c.dead, np.int64)), c.seq))
        self._insert(c)
        if c.payloads:
            self._writer.executemany(sql.UPDATE_PAYLOAD, [(slot, c.seq, body) for slot, body in c.payloads])
        blocks = [(name, block, crc) for name, crcs in c.crcs.items() for block, crc in crcs.items()]
        self._writer.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", blocks)
        counts = [(name, count, c.seq) for name, count in changed.items()]
        self._writer.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", counts)
        run("UPDATE meta SET seq = ?, rows = ?, time = ?", (c.seq, c.rows, when))

    def _insert(self, c: Commit) -> None:
        dead = set(c.dead)
        for first, stop in _runs(c.points, dead):
            points = c.points[first:stop]
            start = points[0].slot
            died = c.seq if start in dead else None
            ids = _id_array([p.id for p in points])
            self._writer.execute(sql.INSERT_POINTS, (start, ids, points[0].fields, c.seq, died))
            bodies = tuple([p.payload or b"" for p in points])
            if any(bodies):
                self._writer.execute(sql.INSERT_PAYLOADS, (start, apsw.carray(bodies), c.seq))

    def live_slots(self, ids: Sequence[int | str]) -> list[int | None]:
        """Return the current slot of each id, None where there is none. For the writer's thread."""
        with self._lock, translated(self.path):
            return _look_up(self._own(), sql.LIVE_SLOTS, ids, ())

    def set_snapshot(self, name: str, seq: int) -> None:
        """Record that a durable snapshot `name` of commit `seq` exists."""
        with self._writing(), self._transaction():
            self._writer.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (name, seq))

    def drop_snapshot(self, name: str) -> None:
        """Forget a snapshot; an unknown one is no error."""
        with self._writing(), self._transaction():
            self._writer.execute("DELETE FROM snapshots WHERE name = ?", (name,))

    def set_config(self, config: bytes) -> None:
        """Replace the collection's configuration, durably."""
        with self._writing():
            with self._transaction():
                self._writer.execute("UPDATE meta SET config = ?", (config,))
            self.config = config

    def checkpoint(self) -> None:
        """Move what the WAL holds into the main file, as far as readers allow."""
        if self.path != MEMORY:
            with self._writing():
                self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    # Reading

    def slots_at(self, ids: Sequence[int | str], seq: int) -> list[int | None]:
        """Return the slot of each id that was visible at commit `seq`, None where there was none."""
        with self._reader() as connection:
            return _look_up(connection, sql.SLOTS_AT, ids, (seq,))

    def payloads(self, slots: Sequence[int], seq: int) -> list[bytes | None]:
        """Return the newest payload of each slot at commit `seq`, in the order asked, None where there is none."""
        if not len(slots):
            return []
        with self._reader() as connection:
            joined = one(connection, sql.PAYLOADS, (apsw.carray(np.asarray(slots, np.int64)), seq))
        return [item or None for item in joined.split(sql.SEPARATOR)]

    def payload_range(self, start: int, stop: int, seq: int) -> list[bytes | None]:
        """Return the newest payload at commit `seq` of each slot from `start` to `stop - 1`."""
        found: list[bytes | None] = [None] * max(0, stop - start)
        with self._reader() as connection:
            for first in range(start, stop, 1024):
                bounds = (first, min(stop, first + 1024), seq)
                for slots, joined in connection.execute(sql.PAYLOAD_RANGE, bounds):
                    if slots is not None:
                        for slot, item in zip(slots.split(","), joined.split(sql.SEPARATOR), strict=True):
                            found[int(slot) - start] = item or None
        return found

    def load_ids(self) -> tuple[NDArray[np.uint64], dict[int, str], NDArray[np.uint32], NDArray[np.bool_]]:
        """Return what a View needs of all slots: (ids (rows,) uint64, string ids by slot, fields (rows,) uint32,
        dead (rows,) bool). The integer id of a slot with a string id is 0.
        """
        rows = self.last.rows
        ids, fields = np.zeros(rows, np.uint64), np.zeros(rows, np.uint32)
        strings: dict[int, str] = {}
        with self._reader() as connection:
            for start in range(0, rows, _CHUNK):
                stop = min(rows, start + _CHUNK)
                packed = np.frombuffer(one(connection, sql.IDS, (start, stop)) or b"", ">u8,>u4")
                if len(packed) != stop - start:
                    raise CorruptData(
                        f"{self.path}: slots {start} to {stop - 1} are not all there", field=str(self.path)
                    )
                ids[start:stop] = packed["f0"] + np.uint64(_BIAS)
                fields[start:stop] = packed["f1"]
                found = connection.execute(sql.STRINGS, (start, stop)).fetchall()
                strings.update(found)
            dead = np.zeros(rows, np.bool_)
            gone = one(connection, sql.DEAD)
        if gone is not None:
            dead[np.array(gone.split(","), np.int64)] = True
        ids[list(strings)] = 0
        return ids, strings, fields, dead

    def crcs(self, file: str) -> dict[int, int]:
        """Return block number → CRC32C of one row file."""
        with self._reader() as connection:
            return dict(connection.execute("SELECT block, crc FROM blocks WHERE file = ?", (file,)).fetchall())

    def snapshots(self) -> dict[str, int]:
        """Return the seq of the newest durable snapshot of each name."""
        with self._reader() as connection:
            return dict(connection.execute("SELECT name, seq FROM snapshots").fetchall())

    def check(self, deep: bool = False) -> None:
        """Read the whole catalogue, so that every page's checksum is compared; `deep` also compares its indexes
        with its tables. Raises CorruptData.
        """
        pragma = "integrity_check" if deep else "quick_check"
        with self._reader() as connection:
            problems = [row[0] for row in connection.execute(f"PRAGMA {pragma}(10)")]
            if problems != ["ok"]:
                raise CorruptData(f"{self.path} is damaged: {problems[0]}", field=str(self.path))
            count, top = connection.execute("SELECT count(*), max(slot) FROM points").fetchall()[0]
            rows = one(connection, "SELECT rows FROM meta")
        if count != rows or (top is not None and top != rows - 1):
            raise CorruptData(f"{self.path}: {count} points where the commit row says {rows}", field=str(self.path))

    @property
    def disk_bytes(self) -> int:
        """Size of the catalogue with its WAL in bytes; 0 in memory."""
        if not isinstance(self.path, Path):
            return 0
        names = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(name.stat().st_size for name in names if name.exists())

    def close(self) -> None:
        """Close every connection; the last one moves the WAL into the main file. May be called twice."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            self._writer.close()

    # Connections

    def _own(self) -> apsw.Connection:
        if self._closed:
            raise Closed(f"{self.path} was closed", field=str(self.path))
        return self._writer

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            self._own()
            if self._read_only or self._failed:
                why = "was opened read-only" if self._read_only else "failed to write before; reopen the data directory"
                raise ReadOnly(f"{self.path} {why}", field=str(self.path))
            try:
                with translated(self.path):
                    yield
            except StorageFull:
                raise
            except (ReadOnly, CorruptData):
                self._failed = True
                raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    @contextmanager
    def _reader(self) -> Iterator[apsw.Connection]:
        if self.path == MEMORY:
            with self._lock, translated(self.path):
                yield self._own()
            return
        self._own()
        with translated(self.path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect(self._files, self.path, read_only=True)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            if self._closed or len(self._idle) >= _IDLE_READERS:
                connection.close()
            else:
                self._idle.append(connection)


def _check_format(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("application_id") != sql.APPLICATION_ID:
        raise CorruptData(f"{path} is not a catalogue of this engine", field=str(path))
    version = connection.pragma("user_version")
    if version > sql.FORMAT:
        raise FormatTooNew(
            f"{path} has format {version}, this version reads {sql.FORMAT}; upgrade the engine",
            field=str(path),
            value=version,
            limit=sql.FORMAT,
        )


def _runs(points: Sequence[NewPoint], dead: set[int]) -> Iterator[tuple[int, int]]:
    """Cut `points` where slots do not follow each other, or kind of id, fields or death differ."""
    if not points:
        return
    first = 0
    kinds = [(p.slot - at, type(p.id), p.fields, p.slot in dead) for at, p in enumerate(points)]
    for at in range(1, len(points)):
        if kinds[at] != kinds[at - 1]:
            yield first, at
            first = at
    yield first, len(points)


def _id_array(ids: list[int | str]) -> Any:
    """Bind ids of one kind: integers biased into SQLite's range, strings as they are."""
    if isinstance(ids[0], str):
        return apsw.carray(tuple(ids))  # type: ignore[arg-type]
    biased = np.array(ids, np.uint64) ^ np.uint64(_BIAS)
    return apsw.carray(biased.view(np.int64))


def _look_up(
    connection: apsw.Connection, statement: str, ids: Sequence[int | str], rest: tuple[int, ...]
) -> list[int | None]:
    """Run a statement that gives one slot, or -1, per id; kinds of id are asked apart."""
    found: list[int | None] = [None] * len(ids)
    for kind in (int, str):
        places = [at for at, id in enumerate(ids) if isinstance(id, kind)]
        if places:
            slots = one(connection, statement, (_id_array([ids[at] for at in places]), *rest))
            for at, slot in zip(places, slots.split(","), strict=True):
                found[at] = None if slot == "-1" else int(slot)
    return found
