"""Where the bytes of a row file are: in a file, or in memory for ":memory:"."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.storage.files import OpenFile

__all__ = ["HEAD_BYTES", "Backing", "InMemory", "OnDisk"]

HEAD_BYTES: Final = 4096  # one page, so that mapped rows start aligned


class Backing(Protocol):
    """Where the bytes are: a file, or memory for ":memory:"."""

    size: int  # bytes that may be written and mapped

    def write(self, data: memoryview, offset: int) -> None:
        """Write at an offset."""

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from an offset."""

    def grow(self, size: int) -> None:
        """Set the size."""

    def map(self) -> NDArray[np.uint8]:
        """All of it, (size,) uint8, read-only."""

    def sync(self) -> None:
        """Return once it is on the device."""

    def disk_bytes(self) -> int:
        """Space taken on disk."""

    def close(self) -> None:
        """Give the file back; arrays handed out stay valid."""


class OnDisk:
    """A file, mapped as a whole."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self.size = file.size()

    def write(self, data: memoryview, offset: int) -> None:
        """Write at an offset."""
        self._file.pwrite(data, offset)

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from an offset."""
        return self._file.pread(length, offset)

    def grow(self, size: int) -> None:
        """Set the size."""
        self._file.truncate(size)
        self.size = size

    def map(self) -> NDArray[np.uint8]:
        """All of it, (size,) uint8, read-only."""
        return self._file.map(self.size)

    def sync(self) -> None:
        """Return once it is on the device."""
        self._file.fdatasync()

    def disk_bytes(self) -> int:
        """Space taken on disk."""
        return self._file.disk_bytes()

    def close(self) -> None:
        """Give the file back; arrays handed out stay valid."""
        self._file.close()


class InMemory:
    """Growth makes a new array and copies; arrays handed out before keep the rows their readers know."""

    def __init__(self) -> None:
        self.size = HEAD_BYTES
        self._bytes = np.zeros(HEAD_BYTES, np.uint8)

    def write(self, data: memoryview, offset: int) -> None:
        """Write at an offset."""
        self._bytes[offset : offset + len(data)] = data

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from an offset."""
        return self._bytes[offset : offset + length].tobytes()

    def grow(self, size: int) -> None:
        """Set the size."""
        grown = np.zeros(size, np.uint8)
        kept = min(size, self.size)
        grown[:kept] = self._bytes[:kept]
        self._bytes, self.size = grown, size

    def map(self) -> NDArray[np.uint8]:
        """All of it, (size,) uint8, read-only."""
        view = self._bytes.view()
        view.flags.writeable = False
        return view

    def sync(self) -> None:
        """Nothing to do: memory is as durable as it gets."""

    def disk_bytes(self) -> int:
        """Space taken on disk."""
        return 0

    def close(self) -> None:
        """Nothing to do: arrays handed out keep their memory."""
