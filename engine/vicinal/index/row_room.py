"""Where an index keeps rows of its own: in memory, or in an unlinked temporary file mapped into it.

A search on codes reads few stored rows or none, so large indexes keep them in a file: its pages leave memory when
others need it, and are read again when touched. The file is in the folder that TMPDIR names, or in /var/tmp where that
one lies in memory itself; it has no name, so it ends with the process. Its blocks are reserved before they are written,
so that a full disk is an error here and not a signal at some later store.

After a fork both processes see one file. The parent only writes rows that the child's index does not have; a child that
adds writes to a file of its own.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vicinal.errors import StorageFull
from vicinal.index.mapped import is_mapped, let_go

__all__ = ["FILE_FROM_BYTES", "KEEP", "RowRoom", "copy_of_file", "longer"]

KEEP: Final = ("auto", "memory", "file")
FILE_FROM_BYTES: Final = 64 << 20  # below, memory costs little, and a file's pages are found more slowly
_COPIED_BYTES: Final = 8 << 20  # at a time
_VOLATILE: Final = ("tmpfs", "ramfs")
Stored = NDArray[Any]
Scalar = TypeVar("Scalar", bound=np.generic)


def longer(array: NDArray[Scalar], rows: int, used: int) -> NDArray[Scalar]:
    """The array if it holds so many rows, else a copy of its used part that does; readers keep the old one."""
    if rows <= len(array):
        return array
    wider = np.empty((rows, *array.shape[1:]), array.dtype)
    wider[:used] = array[:used]
    return wider


def _device_kinds() -> dict[str, str]:
    """The kind of file system by device, as far as the system tells."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return {}
    halves = [line.partition(" - ") for line in lines]
    return {before.split()[2]: after.split()[0] for before, _, after in halves}


def _folders() -> list[Path]:
    """Where temporary files go, without what lies in memory."""
    try:
        names = [tempfile.gettempdir(), "/var/tmp"]  # noqa: S108 - a folder to ask, no name to guess
    except FileNotFoundError:
        return []
    kinds, found = _device_kinds(), []
    for name in dict.fromkeys(names):
        folder = Path(name)
        if folder.is_dir() and os.access(folder, os.W_OK):
            device = folder.stat().st_dev
            if kinds.get(f"{os.major(device)}:{os.minor(device)}") not in _VOLATILE:
                found.append(folder)
    return found


class _NamelessFile:
    """A temporary file without a name, mapped shared; OSError when there is no room for it."""

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="vicinal-", dir=folder)  # noqa: SIM115 - open as long as this
        weakref.finalize(self, self._file.close)
        self._owner = os.getpid()

    @property
    def shared(self) -> bool:
        """Whether another process made it, of which this one is a fork."""
        return self._owner != os.getpid()

    def mapped(self, size: int) -> mmap.mmap:
        """The file's first `size` bytes, reserved; earlier maps stay and show the same bytes."""
        if not hasattr(os, "posix_fallocate"):
            raise OSError("this system does not reserve a file's blocks")
        os.posix_fallocate(self._file.fileno(), 0, size)
        return mmap.mmap(self._file.fileno(), size)

    def fill(self, source: int, size: int) -> None:
        """Copy a file's bytes to the start of this one."""
        at = 0
        while part := os.pread(source, min(_COPIED_BYTES, size - at), at):
            at += os.pwrite(self._file.fileno(), part, at)


def _nameless(size: int) -> tuple[_NamelessFile, mmap.mmap] | None:
    """A new file of so many bytes and its map; None where no folder takes it."""
    for folder in _folders():
        try:
            file = _NamelessFile(folder)
            return file, file.mapped(size)
        except OSError:
            continue
    return None


def _none_takes(size: int) -> StorageFull:
    return StorageFull(
        f"no folder of temporary files that lies on a disk takes {size} bytes of vectors: "
        "let TMPDIR name one, or pass vectors='memory'",
        field="vectors",
        value=size,
    )


class RowRoom:
    """Makes and lengthens the array (n, dim) of an index's rows.

    keep: `memory`; `file`, StorageFull where no folder takes one; or `auto`, a file for large arrays, where that works.
    file_from: bytes that are large; FILE_FROM_BYTES unless given.
    """

    def __init__(self, dim: int, keep: str, dtype: DTypeLike = np.float32, *, file_from: int | None = None) -> None:
        self._dim, self.keep, self._dtype, self._file_from = dim, keep, np.dtype(dtype), file_from
        self._file: _NamelessFile | None = None

    def in_file(self, rows: int) -> bool:
        """Whether so many rows should be in a file."""
        return self.keep == "file" or (self.keep == "auto" and self._bytes(rows) >= self._large)

    @property
    def shared(self) -> bool:
        """Whether the rows lie in the file of another process, so that writing takes another array."""
        return self._file is not None and self._file.shared

    @property
    def _large(self) -> int:
        return FILE_FROM_BYTES if self._file_from is None else self._file_from

    def _bytes(self, rows: int) -> int:
        return self._dtype.itemsize * self._dim * max(rows, 1)

    def longer(self, array: Stored, rows: int, used: int) -> Stored:
        """The array if it holds so many rows and may be written, else one that does; readers keep the old one."""
        if rows <= len(array) and not self.shared:
            return array
        if self._file is not None and not self._file.shared:
            try:
                return self._view(self._file.mapped(self._bytes(rows)), rows)
            except OSError as error:  # the disk is full: memory takes the rows, and this file ends with its readers
                if self.keep == "file":
                    raise _none_takes(self._bytes(rows)) from error
                self._file = None
                return longer(array, rows, used)
        made = self._made(rows)
        if made is None:
            self._file = None
            return longer(array, rows, used) if rows > len(array) else array.copy()
        _copy(made, array[:used])
        return made

    def taken(self, array: Stored, slots: NDArray[np.int64] | None = None) -> Stored:
        """Some rows of an array, None for all, as an array to keep: a file for what belongs in one."""
        if slots is None and is_mapped(array):
            return array
        made = self._made(len(array) if slots is None else len(slots))
        if made is None:
            return array if slots is None else array[slots]
        _copy(made, array, slots)
        return made

    def _made(self, rows: int) -> Stored | None:
        """A new array in a file if that is where so many rows go."""
        if not self.in_file(rows):
            return None
        found = _nameless(self._bytes(rows))
        if found is None:
            if self.keep == "file":
                raise _none_takes(self._bytes(rows))
            return None
        self._file, pages = found
        return self._view(pages, rows)

    def _view(self, pages: mmap.mmap, rows: int) -> Stored:
        return np.frombuffer(pages, self._dtype, rows * self._dim).reshape(rows, self._dim)


def _copy(target: Stored, source: Stored, slots: NDArray[np.int64] | None = None) -> None:
    """Copy rows piece by piece, so that no second array of all of them is needed."""
    count = len(source) if slots is None else len(slots)
    step = max(1, _COPIED_BYTES // max(1, source[:1].nbytes))
    for start in range(0, count, step):
        piece = slice(start, min(start + step, count))
        target[piece] = source[piece] if slots is None else source[slots[piece]]
    let_go(target)


def copy_of_file(path: Path) -> memoryview | None:
    """A map of a nameless copy of a file; None where no folder takes one."""
    with path.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        found = _nameless(size) if size else None
        if found is None:
            return None
        file, pages = found
        try:
            file.fill(source.fileno(), size)
        except OSError:
            return None
        return memoryview(pages)
