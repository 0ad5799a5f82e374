"""A collection's catalogue: ids, payloads, checksums and the commit row, in one SQLite file.

`Catalog.commit` is the engine's one commit point: what it holds happened, what it does not hold did not.
Vector files are synced before it; everything else is derived from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import numpy as np
from numpy.typing import NDArray

from vicinal.errors import Closed, CorruptData, ReadOnly, StorageFull
from vicinal.limits import SLOTS_MAX
from vicinal.storage import catalog_schema as sql
from vicinal.storage.deep_checks import check_contents, check_tables
from vicinal.storage.files import Files
from vicinal.storage.log import check_log, open_log
from vicinal.storage.machine import free_space
from vicinal.storage.points import (
    CHUNK,
    ID_BIAS,
    Commit,
    CommitRow,
    NewPoint,
    bind_ids,
    bind_payloads,
    look_up,
    runs,
    split_payloads,
)
from vicinal.storage.sqlite import MEMORY, Readers, check_format, close, connect, copy, one, transaction, translated

__all__ = ["Catalog", "Commit", "CommitRow", "NewPoint"]

_CHECKPOINT_PAGES: Final = 4000  # 16 MiB of WAL: rare enough to amortise, small enough to replay at once
_PAGE_BYTES: Final = 4096
_LOAD: Final = 1 << 15  # slots per statement of a bulk load


class Catalog:
    """One collection's catalogue. One thread commits; any number read at once, each on its own connection."""

    def __init__(self, files: Files, path: Path | str, writer: apsw.Connection, *, read_only: bool) -> None:
        self.path = path
        self._writer = writer
        self._read_only = read_only
        self._failed = False
        self._closed = False
        self._lock = threading.RLock()  # one thread at a time on the writer's connection
        self._readers = Readers(files, path) if isinstance(path, Path) else None
        if not read_only:
            writer.wal_autocheckpoint(_checkpoint_pages(path))
        self.config, self.last = self._load()

    @classmethod
    def create(cls, files: Files, path: Path | str, config: bytes) -> Catalog:
        """Make an empty catalogue at seq 0 that keeps `config`, which is opaque here. ":memory:" is a path."""
        with translated(path):
            writer = connect(files, path, create=True)
            with transaction(writer):
                writer.execute(sql.TABLES)
                writer.pragma("application_id", sql.APPLICATION_ID)
                writer.pragma("user_version", sql.FORMAT)
                writer.execute("INSERT INTO meta VALUES (1, ?, 0, 0, ?)", (config, time.time()))
        if isinstance(path, Path):
            files.sync_dir(path.parent)
        return cls(files, path, writer, read_only=False)

    @classmethod
    def open(cls, files: Files, path: Path, read_only: bool = False) -> Catalog:
        """Open an existing catalogue; a WAL left by a crash is replayed. CorruptData, FormatTooNew."""
        with translated(path):
            log = open_log(files, path)
            writer = connect(files, path, read_only=read_only)
            try:
                check_format(writer, path, sql.APPLICATION_ID, sql.FORMAT)
                check_log(writer, path, log)
                check_tables(writer, path)  # before anything is read: a view may never end
                return cls(files, path, writer, read_only=read_only)
            except BaseException:
                close(writer, keep_log=True)
                raise

    def _load(self) -> tuple[bytes, CommitRow]:
        rows: list[Any] = self._writer.execute("SELECT config, seq, rows, time FROM meta").fetchall()
        if len(rows) != 1:
            raise CorruptData(f"{self.path}: the commit row is missing", field=str(self.path))
        config, seq, count, when = rows[0]
        listed: list[Any] = self._writer.execute("SELECT name, rows, seq FROM files").fetchall()
        counts = {name: number for name, number, _ in listed}
        if not (0 <= seq <= sql.SEQ_MAX and 0 <= count <= SLOTS_MAX and min(counts.values(), default=0) >= 0):
            raise CorruptData(f"{self.path}: commit {seq} of {count} rows cannot be", field=str(self.path), value=seq)
        since = {name: changed - 1 for name, _, changed in listed}
        return config, CommitRow(seq, count, counts, when, since)

    # Writing

    def commit(self, c: Commit) -> None:
        """Apply `c` in one transaction; it is durable when this returns.

        Raises StorageFull when nothing was written and a later commit may succeed. After any other failure
        it is unknown whether the commit will be there when the catalogue is reopened, and every later one
        is refused with ReadOnly.
        """
        if c.seq != self.last.seq + 1:
            raise ValueError(f"commit {c.seq} does not follow {self.last.seq}")
        self._take(c)

    def fill(self, c: Commit) -> None:
        """Apply `c` as a part of commit `c.seq`, which may be any from the last on.

        This is how a copy of a collection is made that nobody reads yet: several parts make up one commit.
        Row files may be synced later, before anybody is told of the copy.
        """
        if c.seq < self.last.seq:
            raise ValueError(f"commit {c.seq} is before {self.last.seq}")
        self._take(c)

    def _take(self, c: Commit) -> None:
        with self._writing():
            when = time.time()
            changed = {name: n for name, n in c.counts.items() if n != self.last.counts.get(name) or c.crcs.get(name)}
            with transaction(self._writer):
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
        for first, stop in runs(c.points, dead):
            points = c.points[first:stop]
            start = points[0].slot
            died = c.seq if start in dead else None
            ids = bind_ids([p.id for p in points])
            self._writer.execute(sql.INSERT_POINTS, (start, ids, points[0].fields, c.seq, died))
            bodies = bind_payloads(points)
            if bodies is not None:
                self._writer.execute(sql.INSERT_PAYLOADS, (start, bodies, c.seq))

    def live_slots(self, ids: Sequence[int | str]) -> list[int | None]:
        """Return the current slot of each id, None where there is none. For the writer's thread."""
        with self._lock, translated(self.path):
            return look_up(self._own(), sql.LIVE_SLOTS, ids, ())

    def set_snapshot(self, name: str, seq: int, crc: int | None = None) -> None:
        """Record that a durable snapshot `name` of commit `seq` exists, and its CRC32C."""
        with self._writing(), transaction(self._writer):
            self._writer.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (name, seq))
            self._writer.execute("DELETE FROM blocks WHERE file = ?", (name,))
            if crc is not None:
                self._writer.execute("INSERT INTO blocks VALUES (?, 0, ?)", (name, crc))

    def drop_snapshot(self, name: str) -> None:
        """Forget a snapshot; an unknown one is no error."""
        with self._writing(), transaction(self._writer):
            self._writer.execute("DELETE FROM snapshots WHERE name = ?", (name,))
            self._writer.execute("DELETE FROM blocks WHERE file = ?", (name,))

    def set_config(self, config: bytes) -> None:
        """Replace the collection's configuration, durably."""
        with self._writing():
            with transaction(self._writer):
                self._writer.execute("UPDATE meta SET config = ?", (config,))
            self.config = config

    def checkpoint(self) -> None:
        """Move what the WAL holds into the main file, as far as readers allow."""
        with self._writing():
            if self.path != MEMORY:
                self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    # Reading

    def slots_at(self, ids: Sequence[int | str], seq: int) -> list[int | None]:
        """Return the slot of each id that was visible at commit `seq`, None where there was none."""
        with self._reader() as connection:
            return look_up(connection, sql.SLOTS_AT, ids, (seq,))

    def payloads(self, slots: Sequence[int], seq: int) -> list[bytes | None]:
        """Return the newest payload of each slot at commit `seq`, in the order asked, None where there is none."""
        wanted = np.asarray(slots, np.int64)
        found: list[bytes | None] = []
        with self._reader() as connection:
            for first in range(0, len(wanted), CHUNK):
                piece = apsw.carray(wanted[first : first + CHUNK])
                found += split_payloads(one(connection, sql.PAYLOADS, (piece, seq)))
        return found

    def payload_range(self, start: int, stop: int, seq: int) -> list[bytes | None]:
        """Return the newest payload at commit `seq` of each slot from `start` to `stop - 1`."""
        found: list[bytes | None] = [None] * max(0, stop - start)
        with self._reader() as connection:
            for first in range(start, stop, CHUNK):
                bounds = (first, min(stop, first + CHUNK), seq)
                rows: list[Any] = connection.execute(sql.PAYLOAD_RANGE, bounds).fetchall()
                for slots, joined in rows if rows[0][0] is not None else []:
                    for slot, item in zip(slots.split(","), split_payloads(joined), strict=True):
                        found[int(slot) - start] = item
        return found

    def changed_slots(self, below: int, since: int) -> NDArray[np.uint32]:
        """Return the slots under `below` whose payload was written by a commit after `since`, ascending.

        Reads every payload's key unless there was no commit since.
        """
        if since >= self.last.seq:
            return np.zeros(0, np.uint32)
        with self._reader() as connection:
            rows: Any = connection.execute(sql.CHANGED_SLOTS, (below, since)).fetchall()
        return np.array([slot for (slot,) in rows], np.uint32)

    def load_ids(self) -> tuple[NDArray[np.uint64], dict[int, str], NDArray[np.uint32], NDArray[np.bool_]]:
        """Return what a View needs of all slots at the last commit.

        That is (ids (rows,) uint64, string ids by slot, fields (rows,) uint32, dead (rows,) bool); the
        integer id of a slot with a string id is 0.
        """
        rows = self.last.rows
        ids, fields, dead = np.zeros(rows, np.uint64), np.zeros(rows, np.uint32), np.zeros(rows, np.bool_)
        strings: dict[int, str] = {}
        with self._reader() as connection:
            for start in range(0, rows, _LOAD):
                stop = min(rows, start + _LOAD)
                try:
                    packed = np.frombuffer(one(connection, sql.IDS, (start, stop)) or b"", ">u8,>u4")
                    strings.update(_strings(connection, start, stop))
                except ValueError as error:  # fields of more bits, or a text that is no UTF-8
                    message = f"{self.path}: ids or fields of slots {start} to {stop - 1} cannot be"
                    raise CorruptData(message, field=str(self.path)) from error
                if len(packed) != stop - start:
                    raise CorruptData(
                        f"{self.path}: slots {start} to {stop - 1} are not all there", field=str(self.path)
                    )
                ids[start:stop] = packed["f0"] + np.uint64(ID_BIAS)
                fields[start:stop] = packed["f1"]
                gone = one(connection, sql.DEAD, (start, stop))
                if gone is not None:
                    dead[np.array(gone.split(","), np.int64)] = True
        ids[list(strings)] = 0
        return ids, strings, fields, dead

    def crcs(self, file: str) -> dict[int, int]:
        """Return block number → CRC32C of one row file."""
        with self._reader() as connection:
            rows: Any = connection.execute("SELECT block, crc FROM blocks WHERE file = ?", (file,))
            return dict(rows)

    def row_sums(self) -> dict[str, tuple[int, dict[int, int]]]:
        """Return, of one commit, the rows of each row file and its checksums: block number → CRC32C."""
        found: dict[str, tuple[int, dict[int, int]]] = {}
        with self._reader() as connection:
            listed: Any = connection.execute(sql.ROW_SUMS)  # one statement, so of one commit
            for name, rows, block, crc in listed:
                sums = found.setdefault(name, (rows, {}))[1]
                if block is not None:
                    sums[block] = crc
        return found

    def snapshots(self) -> dict[str, int]:
        """Return the seq of the newest durable snapshot of each name."""
        with self._reader() as connection:
            rows: Any = connection.execute("SELECT name, seq FROM snapshots")
            return dict(rows)

    def snapshot_sums(self) -> dict[str, int | None]:
        """Return the CRC32C of each durable snapshot by name; None of one by a version that did not keep it."""
        with self._reader() as connection:
            rows: Any = connection.execute(sql.SNAPSHOT_SUMS)
            return dict(rows)

    def check(self, deep: bool = False) -> None:
        """Read the whole catalogue, which compares every page with its checksum. Raises CorruptData.

        `deep` also compares its indexes with its tables, these with those of its format, and rows with each other.
        """
        pragma = "integrity_check" if deep else "quick_check"
        with self._reader() as connection:
            problems = [row[0] for row in connection.execute(f"PRAGMA {pragma}(10)")]
            if problems != ["ok"]:
                raise CorruptData(f"{self.path} is damaged: {problems[0]}", field=str(self.path))
            if deep:
                check_tables(connection, self.path)
            counted = "SELECT count(*), max(slot), (SELECT rows FROM meta) FROM points"  # in one: commits go on
            found: list[Any] = connection.execute(counted).fetchall()
            count, top, rows = found[0]
            if count != rows or (top is not None and top != rows - 1):
                raise CorruptData(f"{self.path}: {count} points where the commit row says {rows}", field=str(self.path))
            if deep:
                check_contents(connection, self.path)

    def living(self, seq: int) -> int:
        """Return how many points were alive at commit `seq`."""
        with self._reader() as connection:
            return int(one(connection, sql.LIVING, (seq,)))

    def copy_to(self, files: Files, path: Path) -> None:
        """Write a new catalogue file that holds the last commit, while commits go on; durable with its directory."""
        with self._reader() as connection:
            copy(files, connection, path)

    @property
    def disk_bytes(self) -> int:
        """Size of the catalogue with its WAL in bytes; 0 in memory."""
        if not isinstance(self.path, Path):
            return 0
        names = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(name.stat().st_size for name in names if name.exists())

    def close(self, *, keep_log: bool = False) -> None:
        """Close every connection; the last one moves the WAL into the main file, unless it is to be kept as it is.

        May be called twice.
        """
        with self._lock:
            self._closed = True
            if self._readers is not None:
                self._readers.close()
            close(self._writer, keep_log=keep_log)

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
    def _reader(self) -> Iterator[apsw.Connection]:
        if self._readers is None:
            with self._lock, translated(self.path):
                yield self._own()
            return
        with translated(self.path), self._readers.lend() as connection:
            yield connection


def _checkpoint_pages(path: Path | str) -> int:
    """Pages of WAL after which they are moved: on a small disk so few that the reserve has room for them twice."""
    if not isinstance(path, Path):
        return _CHECKPOINT_PAGES
    return max(1, min(_CHECKPOINT_PAGES, free_space(path.parent).reserve // (2 * _PAGE_BYTES)))


def _strings(connection: apsw.Connection, start: int, stop: int) -> Iterator[tuple[int, str]]:
    """Yield (slot, id) of the string ids among some slots."""
    rows: list[Any] = connection.execute(sql.STRINGS, (start, stop)).fetchall()
    for slots, texts in rows if rows[0][0] is not None else []:
        for slot, text in zip(slots.split(","), texts.split(","), strict=True):
            yield int(slot), bytes.fromhex(text).decode()
