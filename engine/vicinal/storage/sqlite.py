"""SQLite as this engine uses it: through APSW, with checksummed pages, WAL and typed errors.

Everything that catalogues share is here: how a connection is opened and hardened, how its errors become
ours, and how a whole result comes back from one `step` (see `one`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import apsw.sqlite_extra

from vicinal.errors import Closed, CorruptData, ReadOnly, StorageFull, Unavailable, VicinalError
from vicinal.storage import vfs
from vicinal.storage.files import Files

__all__ = ["CHECKSUM_BYTES", "MEMORY", "connect", "one", "translated"]

MEMORY: Final = ":memory:"
CHECKSUM_BYTES: Final = 8  # reserved at the end of each page: what the checksum VFS asks for
_PAGE_BYTES: Final = 4096  # with random ids each commit rewrites one page per id, so small ones
_BUSY_MS: Final = 10_000  # a reader meets the writer only while a WAL is being recovered or removed
_CACHE_KIB: Final = 32 * 1024  # a page read again is summed again
_VFS: Final = "cksmvfs"
_loading = threading.Lock()

# SQLite's own bounds, far below its defaults: a damaged schema must not make it allocate or loop
_LIMITS: Final = {
    apsw.SQLITE_LIMIT_LENGTH: 256 * 1024 * 1024,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 64 * 1024,
    apsw.SQLITE_LIMIT_COLUMN: 64,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 32,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 8,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 64,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}


def _checksum_vfs(files: Files) -> str:
    """Return the name of the checksum VFS, registered on first use above SQLite's own, or above the
    recording one where `files` has an observer. It binds to what lies below once per process.
    """
    with _loading:
        if _VFS not in apsw.vfs_names():
            if files.observer is not None:
                vfs.register()
            default = apsw.vfs_names()[0]
            apsw.sqlite_extra.load(apsw.Connection(MEMORY), "cksumvfs")
            apsw.set_default_vfs(default)  # other users of SQLite in this process keep theirs
    vfs.observe(files.observer)
    return _VFS


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming the file."""
    try:
        yield
    except apsw.Error as error:
        raise _typed(str(path), error) from error


def _typed(path: str, error: apsw.Error) -> VicinalError:
    extended = getattr(error, "extendedresult", 0)
    damaged = (apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_SHORT_READ)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError) or extended in damaged:
        return CorruptData(f"{path} is damaged ({error}); restore the collection from a backup", field=path)
    if isinstance(error, apsw.FullError):
        return StorageFull(f"no space left to write {path}; free some and write again", field=path)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Unavailable(f"{path} is locked by another process", field=path)
    if isinstance(error, apsw.CantOpenError):
        return CorruptData(f"{path} cannot be opened ({error})", field=path)
    if isinstance(error, apsw.ConnectionClosedError | apsw.CursorClosedError):
        return Closed(f"{path} was closed", field=path)
    if isinstance(error, apsw.ReadOnlyError):
        return ReadOnly(f"{path} was opened read-only", field=path)
    if isinstance(error, apsw.IOError):
        return ReadOnly(f"input or output of {path} failed ({error}); reopen the data directory", field=path)
    return CorruptData(f"{path}: {type(error).__name__}: {error}", field=path)


def connect(files: Files, path: Path | str, *, create: bool = False, read_only: bool = False) -> apsw.Connection:
    """Open a hardened connection: WAL, `synchronous=FULL`, checksummed pages, no memory map.

    `create` makes the file where there is none; otherwise a missing one raises CorruptData. A new
    connection never checkpoints by itself; the writer's catalogue says when.
    """
    if path == MEMORY:
        connection = apsw.Connection(MEMORY)
    else:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        if create:
            flags |= apsw.SQLITE_OPEN_CREATE
        connection = apsw.Connection(str(path), flags=flags | apsw.SQLITE_OPEN_NOMUTEX, vfs=_checksum_vfs(files))
    try:
        _harden(connection, create=create)
    except BaseException:
        connection.close()
        raise
    return connection


def _harden(connection: apsw.Connection, *, create: bool) -> None:
    for limit, value in _LIMITS.items():
        connection.limit(limit, value)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.set_busy_timeout(_BUSY_MS)
    if create:
        connection.reserve_bytes("main", CHECKSUM_BYTES)
        connection.pragma("page_size", _PAGE_BYTES)
        connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 2)
    connection.pragma("mmap_size", 0)
    connection.pragma("cache_size", -_CACHE_KIB)
    connection.pragma("temp_store", 2)
    connection.wal_autocheckpoint(0)


def one(connection: apsw.Connection, sql: str, bindings: tuple[Any, ...] = ()) -> Any:
    """Return the first value of the first row, None without a row.

    Results of many rows are aggregated inside SQLite and fetched by one call of this: APSW gives the GIL
    up and takes it back at every row, which under contention costs a switch interval each.
    """
    for row in connection.execute(sql, bindings):
        return row[0]
    return None
