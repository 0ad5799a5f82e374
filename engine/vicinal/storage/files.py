"""The one seam for all I/O of storage: files, directories, maps and the lock of a data directory.

Nothing else in `vicinal.storage` opens a file, and SQLite's own I/O can be routed through the same
`Observer` (see `vfs`), so a test sees every write, sync, rename, truncation, removal and directory
sync of a run in one order, and can make any of them fail.

Never open a catalogue's files here while SQLite has them open: closing any descriptor of a file drops
this process's POSIX locks on it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import socket
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import Closed, CorruptData, DatabaseLocked, ReadOnly, StorageFull, Unavailable, VicinalError

__all__ = [
    "NO_DESCRIPTORS",
    "Files",
    "IoCall",
    "IoKind",
    "Lock",
    "Observer",
    "OpenFile",
    "descriptors_used_up",
    "told",
]

IoKind = Literal["create", "read", "write", "sync", "truncate", "rename", "remove", "mkdir", "sync_dir"]
NO_DESCRIPTORS: Final = "too many files are open; close some, or raise the limit (ulimit -n)"
_TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)
Buffer = bytes | bytearray | memoryview
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)  # which opening again does not change


class IoCall(NamedTuple):
    """One call about to be made.

    `data` is what a write carries, `size` what a read or truncation asks, `target` where a rename leads.
    """

    kind: IoKind
    path: str
    offset: int = 0
    data: bytes = b""
    size: int = 0
    target: str = ""


class Observer(Protocol):
    """Told of every call before it is made; only tests have one."""

    def before(self, call: IoCall) -> int | None:
        """Raise OSError to make the call fail; return a number to let a write transfer only so many bytes."""


def told(observer: Observer | None, call: IoCall) -> int | None:
    """Tell the observer, if there is one."""
    return None if observer is None else observer.before(call)


def descriptors_used_up() -> bool:
    """Tell whether this process can open no more files now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in _TOO_MANY
    return False


def _read_error(path: Path, error: OSError) -> CorruptData | Unavailable:
    if error.errno in _TOO_MANY:
        return Unavailable(f"{path} cannot be opened now: {NO_DESCRIPTORS}", field=str(path))
    return CorruptData(f"{path} cannot be read: {error.strerror or error}", field=str(path))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A full disk can be mended and the write repeated."""
    try:
        yield
    except OSError as error:
        if error.errno in _TOO_MANY:
            raise Unavailable(f"{path} cannot be opened now: {NO_DESCRIPTORS}", field=str(path)) from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            message = f"no space left to write {path}; free some and write again"
            raise StorageFull(message, field=str(path)) from error
        if error.errno in _REFUSED:
            raise ReadOnly(
                f"{path} may not be written ({error.strerror}); give this process the right to, or open read-only",
                field=str(path),
            ) from error
        raise _failed(path, error) from error


@contextmanager
def _syncing(path: Path) -> Iterator[None]:
    """After a failed sync Linux may have dropped the pages it could not write.

    A second sync would report success for data that is gone: only reopening tells what is there.
    """
    try:
        yield
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> ReadOnly:
    reason = error.strerror or error
    return ReadOnly(f"writing {path} failed ({reason}); the data directory must be reopened", field=str(path))


class OpenFile:
    """A file opened by `Files.open`. Every method names its file when it fails."""

    __slots__ = ("_fd", "_observer", "path")

    def __init__(self, path: Path, fd: int, observer: Observer | None) -> None:
        self.path = path
        self._fd = fd
        self._observer = observer

    def _descriptor(self) -> int:
        if self._fd < 0:
            raise Closed(f"{self.path} was closed", field=str(self.path))
        return self._fd

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        parts = []
        try:
            told(self._observer, IoCall("read", str(self.path), offset, size=length))
            while length > 0 and (part := os.pread(self._descriptor(), length, offset)):
                parts.append(part)
                offset += len(part)
                length -= len(part)
        except OSError as error:
            self._descriptor()  # which may have been closed meanwhile
            raise _read_error(self.path, error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite(self, data: Buffer, offset: int) -> None:
        """Write all of `data` at `offset`, which need not be synced afterwards to be read by this machine."""
        view = memoryview(data).cast("B")
        with _writing(self.path):
            while len(view):
                written = self._transfer(view, offset)
                view, offset = view[written:], offset + written

    def _transfer(self, view: memoryview, offset: int) -> int:
        if self._observer is None:
            return os.pwrite(self._descriptor(), view, offset)
        part = self._observer.before(IoCall("write", str(self.path), offset, bytes(view)))
        return os.pwrite(self._descriptor(), view if part is None else view[:part], offset)

    def fdatasync(self) -> None:
        """Return once data and size of the file are on the device."""
        with _syncing(self.path):
            told(self._observer, IoCall("sync", str(self.path)))
            os.fdatasync(self._descriptor())

    def truncate(self, size: int) -> None:
        """Set the file's size in bytes; new bytes are zero and take no space until written."""
        with _writing(self.path):
            told(self._observer, IoCall("truncate", str(self.path), size=size))
            os.ftruncate(self._descriptor(), size)

    def size(self) -> int:
        """Return the file's size in bytes."""
        return os.fstat(self._descriptor()).st_size

    def disk_bytes(self) -> int:
        """Return the space the file takes on disk, in bytes; holes take none."""
        return os.fstat(self._descriptor()).st_blocks * 512

    def map(self, length: int) -> NDArray[np.uint8]:
        """Return the first `length` bytes as a read-only shared map, (length,) uint8.

        It stays valid after `close`, and shows later writes to the file. The file must not be cut below
        `length` while the array lives: touching a page beyond the end kills the process. MemoryError when the
        process may take no more addresses.
        """
        size = self.size()
        if length > size:
            raise CorruptData(
                f"{self.path} is {size} bytes long, {length} were expected", field=str(self.path), value=size
            )
        try:
            pages = mmap.mmap(self._descriptor(), length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as error:
            if error.errno in {errno.ENOMEM, *_TOO_MANY}:  # a map takes a descriptor too
                raise MemoryError(f"no memory is left to map {self.path}") from error
            raise _read_error(self.path, error) from error
        return np.frombuffer(pages, np.uint8)

    def close(self) -> None:
        """Close the descriptor; maps stay valid. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Lock:
    """A held lock of a data directory; `release` gives it back, and so does the end of the process."""

    __slots__ = ("__weakref__", "_fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Give the lock back, also where a child just forked has the descriptor still. May be called twice."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.leave()

    def leave(self) -> None:
        """Close this process's descriptor; another's that shares it keeps the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _leave_locks() -> None:
    """A forked child has the parent's descriptors: with one of them it would keep a lock that the parent gave back."""
    for lock in list(_held):
        lock.leave()


os.register_at_fork(after_in_child=_leave_locks)


def _holder(path: Path) -> str:
    """Who holds the lock, as its file says."""
    try:
        told_by = json.loads(path.read_bytes()[:1024])
        return f"process {told_by['pid']} on {told_by['host']} since {told_by['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "read-only openers, or a process that has not said its name yet"


class Files:
    """The real file system, with an optional observer of every call."""

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> OpenFile:
        """Open a file for reads and writes at offsets.

        `create` makes a new, empty file and refuses an existing one; its name is durable only after
        `sync_dir` of the parent. A missing file raises CorruptData: the catalogue said that it exists.
        """
        if create:
            with _writing(path):
                told(self.observer, IoCall("create", str(path)))
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            return OpenFile(path, fd, self.observer)
        try:
            fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        except OSError as error:
            raise _read_error(path, error) from error
        return OpenFile(path, fd, self.observer)

    def exists(self, path: Path) -> bool:
        """Tell whether a file or directory of that name exists."""
        return path.exists()

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file, replacing `target`; durable after `sync_dir` of the parent."""
        with _writing(source):
            told(self.observer, IoCall("rename", str(source), target=str(target)))
            source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file, or an empty directory; a missing one is no error."""
        with _writing(path):
            told(self.observer, IoCall("remove", str(path)))
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with its files; a missing one is no error."""
        if not path.is_dir():
            return
        for name in self.listdir(path):
            child = path / name
            if child.is_dir() and not child.is_symlink():
                self.remove_tree(child)
            else:
                self.remove(child)
        self.remove(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory and make its name durable; one that exists is no error."""
        if path.is_dir():
            return
        with _writing(path):
            told(self.observer, IoCall("mkdir", str(path)))
            path.mkdir(mode=0o750)
        self.sync_dir(path.parent)

    def listdir(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(entry.name for entry in path.iterdir())

    def sync_dir(self, path: Path) -> None:
        """Return once the names in a directory are on the device."""
        with _syncing(path):
            told(self.observer, IoCall("sync_dir", str(path)))
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def lock(self, path: Path, *, shared: bool = False) -> Lock:
        """Take the lock file of a data directory, exclusively or `shared` with other readers.

        Raises DatabaseLocked, naming process, host and time of the holder, when it is taken. The holder's
        name is for people only: the lock is flock's, so it ends with its process and never goes stale.
        """
        with _writing(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            holder = _holder(path)
            raise DatabaseLocked(
                f"{path.parent} is in use by {holder}; close it there, or open read-only in all of them",
                field=str(path),
                value=holder,
            ) from error
        held = Lock(path, fd)
        if shared:
            with suppress(OSError):
                os.ftruncate(fd, 0)  # who wrote before has gone
        else:
            who = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            with suppress(OSError):  # the name is for people only: a full disk can still be opened and read
                os.ftruncate(fd, 0)
                os.pwrite(fd, json.dumps(who).encode(), 0)
        return held

    def write_atomic(self, path: Path, chunks: Iterable[Buffer], partial: Path | None = None) -> None:
        """Write a whole file so that, after any crash, `path` holds all of it or what was there before.

        `partial`: beside it, where it is written until it is whole; `path` with ".tmp" by default.
        A failure leaves nothing behind: what was written so far may be all that a full disk lacks.
        """
        partial = path.with_name(path.name + ".tmp") if partial is None else partial
        if partial.exists():
            self.remove(partial)
        try:
            self._write_whole(partial, chunks)
            self.rename(partial, path)
        except BaseException:
            with suppress(VicinalError):
                self.remove(partial)
            raise
        self.sync_dir(path.parent)

    def _write_whole(self, path: Path, chunks: Iterable[Buffer]) -> None:
        file = self.open(path, create=True)
        try:
            offset = 0
            for chunk in chunks:
                file.pwrite(chunk, offset)
                offset += memoryview(chunk).nbytes
            file.fdatasync()
        finally:
            file.close()
