"""Derived structures on disk: written whole, checksummed, replaced atomically, opaque to storage.

A snapshot's file is its bytes followed by a footer, little-endian:

    u64 length of the bytes · u32 CRC32C of bytes, length, version · u32 format version · 8 bytes magic

Losing one costs time, never an answer: it is rebuilt from rows and catalogue. So `load` refuses anything
it cannot prove whole, and the caller goes on without. The catalogue keeps the CRC32C of each, so that one of another
collection or another commit, which is as whole, is not taken for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import crc32c
import numpy as np
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.storage.files import Files, OpenFile

__all__ = ["load", "publish", "remove_old", "sum_of"]

_MAGIC: Final = b"vicinalS"
_VERSION: Final = 1
_SUMMED: Final = struct.Struct("<QI")  # length, version
_FOOTER: Final = struct.Struct("<QII8s")
_SUFFIX: Final = ".snapshot"
_PART: Final = 16 << 20  # bytes written and summed at a time: bounds what a sync has to wait for


def publish(
    files: Files, directory: Path, name: str, chunks: Iterable[bytes | bytearray | memoryview | NDArray[np.generic]]
) -> Path:
    """Write the chunks as `<directory>/<name>.snapshot`; durable and whole, or absent, whatever happens.

    Returns its path. `name` is a file name without a suffix.
    """
    path = directory / (name + _SUFFIX)
    files.write_atomic(path, _with_footer(chunks))
    return path


def _with_footer(
    chunks: Iterable[bytes | bytearray | memoryview | NDArray[np.generic]],
) -> Iterator[memoryview]:
    length, crc = 0, 0
    for chunk in chunks:
        whole = np.ascontiguousarray(chunk).data if isinstance(chunk, np.ndarray) else memoryview(chunk)
        view = whole.cast("B") if whole.nbytes else memoryview(b"")
        for start in range(0, len(view), _PART):
            part = view[start : start + _PART]
            length, crc = length + len(part), crc32c.crc32c(part, crc)
            yield part
    crc = crc32c.crc32c(_SUMMED.pack(length, _VERSION), crc)
    yield memoryview(_FOOTER.pack(length, crc, _VERSION, _MAGIC))


def sum_of(file: OpenFile) -> int:
    """The CRC32C in a snapshot's footer; CorruptData, FormatTooNew when there is none."""
    return _footer(file)[1]


def _footer(file: OpenFile) -> tuple[int, int, int]:
    size = file.size()
    return _check_footer(file.path, size, file.pread(_FOOTER.size, max(0, size - _FOOTER.size)))


def load(files: Files, path: Path, expected: int | None = None) -> memoryview:
    """Return the bytes of a snapshot, read-only, on a map that lives as long as they do.

    `expected`: the CRC32C that it has, where that is known. Raises CorruptData when the file is missing, damaged, cut,
    grown or another's; FormatTooNew for a later format.
    """
    file = files.open(path, read_only=True)
    try:
        size = file.size()
        length, crc, version = _footer(file)
        if expected not in (None, crc):
            raise CorruptData(f"{path} is of another collection or another commit", field=str(path), value=crc)
        body = file.map(size).data[:length]
    finally:
        file.close()
    if crc32c.crc32c(_SUMMED.pack(length, version), crc32c.crc32c(body)) != crc:
        raise CorruptData(f"{path}: its {length} bytes do not match their checksum", field=str(path))
    return body


def _check_footer(path: Path, size: int, footer: bytes) -> tuple[int, int, int]:
    if len(footer) != _FOOTER.size or not footer.endswith(_MAGIC):
        raise CorruptData(f"{path}: no snapshot ends at byte {size}", field=str(path), value=size)
    length, crc, version, _ = _FOOTER.unpack(footer)
    if version > _VERSION:
        raise FormatTooNew(f"{path} has format {version}, this version reads {_VERSION}", value=version)
    if length != size - _FOOTER.size:
        raise CorruptData(f"{path}: holds {size - _FOOTER.size} bytes, {length} were written", field=str(path))
    return length, crc, version


def remove_old(files: Files, directory: Path, keep: Iterable[str]) -> list[str]:
    """Remove every snapshot but those named in `keep`, and what an interrupted `publish` left.

    Returns the names removed. Readers of a removed one keep their map.
    """
    kept = {name + _SUFFIX for name in keep}
    removed = []
    for name in files.listdir(directory):
        if name.endswith((_SUFFIX, _SUFFIX + ".tmp")) and name not in kept:
            files.remove(directory / name)
            removed.append(name)
    return removed
