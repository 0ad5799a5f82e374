"""A VFS that shows SQLite's I/O to the same observer as `files`.

Only a run that asks for an observer registers it, before the first catalogue of its process is opened:
the checksum VFS then loads on top of it and stays bound to it. It costs Python calls per page, so no
production run has it. Shared memory is passed through unseen: it holds nothing that outlives a crash.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Final

import apsw

from vicinal.storage.files import IoCall, Observer, told

__all__ = ["observe", "register"]

_NAME: Final = "vicinal-recording"
_JOURNALS: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_registered: list[apsw.VFS] = []  # APSW drops a VFS whose object is gone
_observer: Observer | None = None


def register() -> None:
    """Register the recording VFS as SQLite's default, once."""
    if not _registered:
        _registered.append(_RecordingVfs())


def observe(observer: Observer | None) -> None:
    """Send what the recording VFS sees to `observer` from now on."""
    global _observer  # noqa: PLW0603 - SQLite knows one VFS of a name per process
    _observer = observer


def _tell(call: IoCall, result: int) -> int | None:
    """Tell the observer; its OSError becomes the SQLite error of that call."""
    try:
        return told(_observer, call)
    except OSError as error:
        full = error.errno == errno.ENOSPC and call.kind == "write"  # as SQLite's own VFS does
        raise _failure(apsw.SQLITE_FULL if full else result, error) from error


def _failure(result: int, error: OSError) -> Exception:
    failure = apsw.exception_for(result)
    failure.args = (str(error),)
    return failure


class _RecordingVfs(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(_NAME, "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _RecordingFile(name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        _tell(IoCall("remove", filename), apsw.SQLITE_IOERR_DELETE)
        super().xDelete(filename, syncdir)
        if syncdir:
            _tell(IoCall("sync_dir", str(Path(filename).parent)), apsw.SQLITE_IOERR_DIR_FSYNC)


class _RecordingFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int]) -> None:
        self._path = "" if name is None else name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        created = bool(flags[0] & apsw.SQLITE_OPEN_CREATE) and not Path(self._path).exists()
        if created:
            _tell(IoCall("create", self._path), apsw.SQLITE_CANTOPEN)
        super().__init__("unix", name, flags)
        # SQLite's own VFS syncs the directory with the first sync of a new journal
        self._name_unsynced = created and bool(flags[0] & _JOURNALS)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        _tell(IoCall("read", self._path, offset, size=amount), apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        part = _tell(IoCall("write", self._path, offset, bytes(data)), apsw.SQLITE_IOERR_WRITE)
        if part is None:
            super().xWrite(data, offset)
            return
        super().xWrite(data[:part], offset)
        raise _failure(apsw.SQLITE_IOERR_WRITE, OSError(errno.EIO, "short write"))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        _tell(IoCall("truncate", self._path, size=newsize), apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        _tell(IoCall("sync", self._path), apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        if self._name_unsynced:
            _tell(IoCall("sync_dir", str(Path(self._path).parent)), apsw.SQLITE_IOERR_DIR_FSYNC)
            self._name_unsynced = False
