"""The catalogue of a data directory: which names lead to which collection directories.

A collection that no name leads to is what a crash left, and is removed. So an older copy of the catalogue put back
would cost the collections made since: `database.seen` beside it holds the number of changes that were made for certain,
and a catalogue that knows of fewer is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw
from crc32c import crc32c

from vicinal.errors import AlreadyExists, Closed, CorruptData, NotFound, ReadOnly, StorageFull
from vicinal.storage.files import Files
from vicinal.storage.sqlite import check_format, close, connect, one, transaction, translated

__all__ = ["DatabaseCatalog"]

_APPLICATION_ID: Final = 0x76696364  # "vicd"
_FORMAT: Final = 1
_TABLES: Final = """
CREATE TABLE collections(name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE) STRICT, WITHOUT ROWID;
CREATE TABLE aliases(alias TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_CHANGES: Final = """
CREATE TABLE IF NOT EXISTS changes(one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL) STRICT;
INSERT INTO changes VALUES (1, 1) ON CONFLICT DO UPDATE SET count = count + 1;
"""
_SEEN: Final = ".seen"
_FIND: Final = """
SELECT name, uuid FROM collections WHERE name = ?1
UNION ALL SELECT name, uuid FROM aliases JOIN collections USING (name) WHERE alias = ?1"""


class DatabaseCatalog:
    """Names and aliases of a data directory. A change is durable when its method returns; any thread may call.

    A name is either a collection's or an alias, never both. Dropping a collection drops its aliases.
    """

    def __init__(self, files: Files, path: Path | str, connection: apsw.Connection, *, read_only: bool) -> None:
        self.path = path
        self._files = files
        self._connection = connection
        self._read_only = read_only
        self._lock = threading.Lock()
        self._closed = False
        self._failed = False

    @classmethod
    def open(cls, files: Files, path: Path | str, read_only: bool = False, *, create: bool = True) -> DatabaseCatalog:
        """Open the catalogue; ":memory:" is a path. CorruptData, FormatTooNew.

        `create` makes it where there is none, or an empty file; else that is CorruptData.
        """
        with translated(path):
            connection = connect(files, path, create=create and not read_only, read_only=read_only)
            try:
                # an empty file is what a crash in the middle of the first open leaves
                if create and not read_only and not one(connection, "SELECT count(*) FROM sqlite_schema"):
                    _make_tables(connection)
                    if isinstance(path, Path):
                        files.sync_dir(path.parent)
                check_format(connection, path, _APPLICATION_ID, _FORMAT)
                _check_pages(connection, path)
                _check_seen(files, connection, path)
            except BaseException:
                close(connection, keep_log=True)
                raise
        return cls(files, path, connection, read_only=read_only)

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        with self._lock:
            if self._closed:
                raise Closed(f"{self.path} was closed", field=str(self.path))
            with translated(self.path):
                yield self._connection

    @contextmanager
    def _changing(self) -> Iterator[apsw.Connection]:
        if self._read_only or self._failed:
            why = "was opened read-only" if self._read_only else "failed to be written; reopen the data directory"
            raise ReadOnly(f"{self.path} {why}", field=str(self.path))
        try:
            with self._reading() as connection:
                with transaction(connection):
                    yield connection
                    connection.execute(_CHANGES)
                self._note_seen(connection)
        except (ReadOnly, CorruptData):  # what a later opening finds is unknown
            self._failed = True
            raise

    def _note_seen(self, connection: apsw.Connection) -> None:
        """Let the last change be missed if an older copy is put back; without it only that is not noticed."""
        if isinstance(self.path, Path):
            count = str(_changes(connection)).encode()
            with suppress(StorageFull, ReadOnly):
                self._files.write_atomic(self.path.with_suffix(_SEEN), [b"%b %d\n" % (count, crc32c(count))])

    def create(self, name: str, uuid: str) -> None:
        """Let `name` lead to collection directory `uuid`. AlreadyExists when a collection or alias has it."""
        with self._changing() as connection:
            _require_free(connection, name)
            connection.execute("INSERT INTO collections VALUES (?, ?)", (name, uuid))

    def create_all(self, uuids: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        """Let several names and aliases lead where they are to, in one step. AlreadyExists when one is taken."""
        with self._changing() as connection:
            for name in (*uuids, *aliases):
                _require_free(connection, name)
            connection.executemany("INSERT INTO collections VALUES (?, ?)", list(uuids.items()))
            connection.executemany("INSERT INTO aliases VALUES (?, ?)", list(aliases.items()))

    def drop(self, name: str) -> str:
        """Forget a collection and its aliases; return its uuid. NotFound for an unknown name or an alias."""
        with self._changing() as connection:
            uuid = self._collection(connection, name)
            connection.execute("DELETE FROM aliases WHERE name = ?", (name,))
            connection.execute("DELETE FROM collections WHERE name = ?", (name,))
        return uuid

    def switch(self, name: str, uuid: str) -> str:
        """Let `name` lead to another directory, as compaction and restore end; return the old uuid."""
        with self._changing() as connection:
            old = self._collection(connection, name)
            connection.execute("UPDATE collections SET uuid = ? WHERE name = ?", (uuid, name))
        return old

    def set_alias(self, alias: str, name: str) -> None:
        """Let `alias` lead to collection `name`, also when it led elsewhere before, in one step."""
        with self._changing() as connection:
            self._collection(connection, name)
            if one(connection, "SELECT 1 FROM collections WHERE name = ?", (alias,)):
                raise AlreadyExists(f"{alias!r} is a collection, not an alias", field="alias", value=alias)
            connection.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (alias, name))

    def drop_alias(self, alias: str) -> None:
        """Forget an alias. NotFound for an unknown one."""
        with self._changing() as connection:
            connection.execute("DELETE FROM aliases WHERE alias = ?", (alias,))
            if connection.changes() == 0:
                raise NotFound(f"no alias {alias!r}", field="alias", value=alias)

    def list(self) -> dict[str, str]:
        """Return name → uuid of every collection, by name."""
        with self._reading() as connection:
            rows: Any = connection.execute("SELECT name, uuid FROM collections ORDER BY name")
            return dict(rows)

    def aliases(self) -> dict[str, str]:
        """Return alias → collection name, by alias."""
        with self._reading() as connection:
            rows: Any = connection.execute("SELECT alias, name FROM aliases ORDER BY alias")
            return dict(rows)

    def resolve(self, name: str) -> tuple[str, str]:
        """Return name and uuid of the collection that a name or an alias leads to. NotFound."""
        with self._reading() as connection:
            found: Any = connection.execute(_FIND, (name,)).fetchall()
        if not found:
            raise NotFound(f"no collection {name!r}", field="name", value=name)
        own, uuid = found[0]
        return own, uuid

    def check(self) -> None:
        """Read all of it, which compares every page with its checksum. Raises CorruptData."""
        with self._reading() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
            if problems != ["ok"]:
                raise CorruptData(f"{self.path} is damaged: {problems[0]}", field=str(self.path))

    def close(self) -> None:
        """Close the connection. May be called twice."""
        with self._lock:
            self._closed = True
            close(self._connection)

    @staticmethod
    def _collection(connection: apsw.Connection, name: str) -> str:
        uuid = one(connection, "SELECT uuid FROM collections WHERE name = ?", (name,))
        if uuid is None:
            raise NotFound(f"no collection {name!r}", field="name", value=name)
        return str(uuid)


def _require_free(connection: apsw.Connection, name: str) -> None:
    if one(connection, _FIND, (name,)) is not None:
        raise AlreadyExists(f"{name!r} exists; drop it first or choose another name", field="name", value=name)


def _changes(connection: apsw.Connection) -> int:
    """How often the names were changed."""
    if not one(connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'changes'"):
        return 0  # none yet, or by a version that did not count
    return int(one(connection, "SELECT count FROM changes"))


def _check_seen(files: Files, connection: apsw.Connection, path: Path | str) -> None:
    """Raise CorruptData when the file beside tells of changes that the catalogue does not know."""
    if not isinstance(path, Path) or not files.exists(path.with_suffix(_SEEN)):
        return
    file = files.open(path.with_suffix(_SEEN), read_only=True)
    try:
        count, _, crc = file.pread(64, 0).strip().partition(b" ")
    finally:
        file.close()
    if not (count.isdigit() and crc.isdigit() and crc32c(count) == int(crc)):
        return  # a damaged witness says nothing
    known = _changes(connection)
    if known < int(count):
        raise CorruptData(
            f"{path} knows of {known} changes of {int(count)}: an older copy of it was put back; restore the newest, "
            f"or remove {path.with_suffix(_SEEN).name} and with it the collections that it does not name",
            field=str(path),
            value=known,
        )


def _check_pages(connection: apsw.Connection, path: Path | str) -> None:
    """Read all of the file: it has few pages, and a name lost is a collection lost."""
    problem = one(connection, "PRAGMA quick_check(1)")
    if problem != "ok":
        raise CorruptData(f"{path} is damaged: {problem}", field=str(path))


def _make_tables(connection: apsw.Connection) -> None:
    with transaction(connection):
        connection.execute(_TABLES)
        connection.pragma("application_id", _APPLICATION_ID)
        connection.pragma("user_version", _FORMAT)
