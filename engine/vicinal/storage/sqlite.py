"""SQLite as this engine uses it: through APSW, with checksummed pages, WAL and typed errors.

Everything that catalogues share is here: how a connection is opened and hardened, how readers share
connections, how SQLite's errors become ours, and how a whole result comes back from one step (`one`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw
import apsw.sqlite_extra

from vicinal.errors import (
    Closed,
    CorruptData,
    FormatTooNew,
    InvalidArgument,
    ReadOnly,
    StorageFull,
    Unavailable,
    VicinalError,
)
from vicinal.storage import vfs
from vicinal.storage.files import NO_DESCRIPTORS, Files, descriptors_used_up

__all__ = ["MEMORY", "Readers", "check_format", "close", "connect", "copy", "one", "transaction", "translated"]

MEMORY: Final = ":memory:"
_CHECKSUM_BYTES: Final = 8  # reserved at the end of each page: what the checksum VFS asks for
_PAGE_BYTES: Final = 4096  # with random ids each commit rewrites about one page per id, so small ones
_BUSY_MS: Final = 10_000  # a reader meets the writer only while a WAL is being recovered or removed
_CACHE_KIB: Final = 32 * 1024  # a page read again is summed again
_READER_CACHE_KIB: Final = 4 * 1024  # there may be many
_IDLE_READERS: Final = 16
_COPIED_PAGES: Final = 1024  # at a time: 4 MiB
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
    """Return the name of the checksum VFS, registering it on first use.

    It goes above SQLite's own VFS, or above the recording one where `files` has an observer, and stays
    bound to what it was put on for the life of the process.
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


# The first row whose class matches says what an error becomes; `{error}` is SQLite's own text
_TYPED: Final[tuple[tuple[tuple[type[apsw.Error], ...], type[VicinalError], str], ...]] = (
    (
        (apsw.CorruptError, apsw.NotADBError, apsw.FormatError),
        CorruptData,
        "is damaged ({error}); restore it from a backup",
    ),
    ((apsw.FullError,), StorageFull, "cannot grow, no space is left; free some and write again"),
    ((apsw.NoMemError,), StorageFull, "finds no memory; free some and try again"),
    ((apsw.BusyError, apsw.LockedError), Unavailable, "is locked by another process"),
    ((apsw.CantOpenError,), CorruptData, "cannot be opened ({error})"),
    ((apsw.ConnectionClosedError, apsw.CursorClosedError), Closed, "was closed"),
    ((apsw.ReadOnlyError, apsw.PermissionsError), ReadOnly, "was opened read-only or may not be written"),
    ((apsw.ConstraintError,), InvalidArgument, "refuses a slot or a live id that is taken ({error})"),
    ((apsw.IOError,), ReadOnly, "failed to be read or written ({error}); reopen the data directory"),
    ((apsw.Error,), CorruptData, "does not hold what it should ({error})"),
)
_DAMAGED: Final = (apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_SHORT_READ)


def _typed(path: str, error: apsw.Error) -> VicinalError:
    extended = getattr(error, "extendedresult", 0)
    if extended in _DAMAGED:
        return CorruptData(f"{path}: a page does not match its checksum; restore it from a backup", field=path)
    if extended == apsw.SQLITE_IOERR_NOMEM:
        return StorageFull(f"{path} finds no memory; free some and try again", field="memory")
    if isinstance(error, apsw.CantOpenError) and descriptors_used_up():
        return Unavailable(f"{path} cannot be opened now: {NO_DESCRIPTORS}", field=path)
    if extended == apsw.SQLITE_IOERR_READ:
        return CorruptData(f"{path} cannot be read ({error})", field=path)
    if extended == apsw.SQLITE_IOERR_SHMSIZE:  # its -shm file, 32 KiB beside each catalogue, even of readers
        return StorageFull(f"no space is left to open {path}: free 64 KiB and try again", field=path)
    kind, text = next((kind, text) for classes, kind, text in _TYPED if isinstance(error, classes))
    return kind(f"{path} {text.format(error=error)}", field=path)


def connect(files: Files, path: Path | str, *, create: bool = False, read_only: bool = False) -> apsw.Connection:
    """Open a hardened connection: WAL, `synchronous=FULL`, checksummed pages, no memory map.

    `create` makes the file where there is none; otherwise a missing one raises CorruptData. The
    connection never checkpoints by itself: that is the writer's to decide. One thread at a time may use it.
    """
    if path == MEMORY:
        connection = apsw.Connection(MEMORY)
    else:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        if create:
            flags |= apsw.SQLITE_OPEN_CREATE
        connection = apsw.Connection(str(path), flags=flags, vfs=_checksum_vfs(files))
    try:
        _harden(connection, create=create)
        connection.pragma("cache_size", -(_READER_CACHE_KIB if read_only else _CACHE_KIB))
    except BaseException:
        close(connection)
        raise
    return connection


def close(connection: apsw.Connection, *, keep_log: bool = False) -> None:
    """Close a connection. What could not be moved out of the WAL is still in it, so no error matters.

    `keep_log` leaves the WAL as it is: where it may be damaged it is all that there is to mend.
    """
    with suppress(apsw.Error):
        if keep_log:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close()


def _harden(connection: apsw.Connection, *, create: bool) -> None:
    for limit, value in _LIMITS.items():
        connection.limit(limit, value)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.set_busy_timeout(_BUSY_MS)
    if create:
        connection.reserve_bytes("main", _CHECKSUM_BYTES)
        connection.pragma("page_size", _PAGE_BYTES)
        connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 2)
    connection.pragma("mmap_size", 0)
    connection.pragma("temp_store", 2)
    connection.wal_autocheckpoint(0)


def check_format(connection: apsw.Connection, path: Path | str, application: int, newest: int) -> None:
    """Raise CorruptData unless the file is `application`'s, FormatTooNew when its format is above `newest`."""
    _check_length(path)
    if connection.pragma("application_id") != application:
        raise CorruptData(f"{path} is not a catalogue of the kind expected", field=str(path))
    version = connection.pragma("user_version")
    if not isinstance(version, int) or version > newest:
        raise FormatTooNew(
            f"{path} has format {version}, this version reads {newest}; upgrade the engine",
            field=str(path),
            value=version,
            limit=newest,
        )


def _check_length(path: Path | str) -> None:
    """Refuse a file that ends inside a page, which SQLite would fill with zeros and not check.

    A crash can leave one, but then the WAL still holds that page.
    """
    wal = Path(f"{path}-wal")
    if path == MEMORY or (wal.exists() and wal.stat().st_size):
        return
    size = Path(path).stat().st_size
    if size % _PAGE_BYTES:
        raise CorruptData(f"{path} was cut: it ends inside a page, at byte {size}", field=str(path), value=size)


def copy(files: Files, source: apsw.Connection, path: Path) -> None:
    """Write all that `source` sees now, one commit, into the new file `path`; it may be written to meanwhile."""
    if files.exists(path):
        files.remove(path)
    target = connect(files, path, create=True)
    try:
        source.execute("BEGIN")
        try:
            one(source, "SELECT count(*) FROM sqlite_schema")  # from here on it sees one commit
            with target.backup("main", source, "main") as pages:
                while not pages.done:
                    pages.step(_COPIED_PAGES)
        finally:
            source.execute("ROLLBACK")
    finally:
        close(target)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Commit what the body does, durably, or leave nothing of it.

    ReadOnly when memory runs out while it is committed: only reopening tells whether it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        try:
            connection.execute("COMMIT")
        except (apsw.NoMemError, MemoryError) as error:
            raise ReadOnly("no memory was left to commit; the data directory must be reopened") from error
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def one(connection: apsw.Connection, sql: str, bindings: tuple[Any, ...] = ()) -> Any:
    """Return the first value of the first row, None without a row.

    Results of many rows are aggregated inside SQLite and fetched by one call of this: APSW gives the GIL
    up and takes it back at every row, which under contention costs a switch interval each.
    """
    for row in connection.execute(sql, bindings):
        return row[0]
    return None


class Readers:
    """Connections for readers of one file, each lent to one thread at a time, for one short transaction.

    A longer one would keep the WAL from being reset.
    """

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._path = path
        self._idle: list[apsw.Connection] = []
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[apsw.Connection]:
        """Lend a connection; one whose use raised is closed, not kept."""
        if self._closed:
            raise Closed(f"{self._path} was closed", field=str(self._path))
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._files, self._path, read_only=True)
        try:
            yield connection
        except BaseException:
            close(connection)
            raise
        if self._closed or len(self._idle) >= _IDLE_READERS:
            close(connection)
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections; one that is lent is closed when it comes back."""
        self._closed = True
        while self._idle:
            close(self._idle.pop())
