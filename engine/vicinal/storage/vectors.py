"""Append-only files of fixed-size rows: the vectors of a field by slot, or its tokens.

Layout, little-endian, all of it written with pwrite and read through a shared map (coherent on Linux):

    0      magic, format version, row bytes, 16 random bytes, CRC32C of these
    512    head slot 0: last seq known committed when it was written, CRC32C
    1024   head slot 1: the same; the older of the two is overwritten
    4096   rows, `row_bytes` each, row number = slot

How many rows count is said by the catalogue's commit row; rows beyond it were never acknowledged and
are ignored, then overwritten. Each block of 1,024 rows has a CRC32C in the catalogue. A head slot never
names a seq that is not yet durable, so a head newer than the catalogue means that an old catalogue was
put back, and one older than the file's last change that an old vector file was.

Appending may rewrite the sector in which committed rows end. As SQLite does ("powersafe overwrite"), we
assume that a write torn by power loss leaves bytes outside of its range as they were.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import crc32c
import numpy as np
from numpy.typing import DTypeLike, NDArray

from vicinal.errors import CorruptData, FormatTooNew, ReadOnly, StorageFull
from vicinal.storage.backing import HEAD_BYTES, Backing, InMemory, OnDisk
from vicinal.storage.files import Files

__all__ = ["BLOCK_ROWS", "HEAD_BYTES", "RowFile", "grown_size"]

BLOCK_ROWS: Final = 1024  # rows under one checksum: a block of 384-d float32 is read in about 0.5 ms
_MAGIC: Final = b"vicinalR"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII16s")
_SLOT: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")
_SLOT_AT: Final = (512, 1024)
_STEP_MIN: Final = 1 << 20  # small collections stay small
_STEP_MAX: Final = 64 << 20  # or a quarter of the file, whichever is more


def _crc(data: bytes | memoryview | NDArray[np.uint8], value: int = 0) -> int:
    return int(crc32c.crc32c(data, value))


def grown_size(size: int, needed: int) -> int:
    """Return the next size of a file of `size` bytes that must hold `needed`: doubling, then by quarters."""
    step = min(max(size, _STEP_MIN), max(_STEP_MAX, size // 4))
    return max(needed, size + step)


class RowFile:
    """An append-only file of rows of `row_bytes` bytes. One thread appends; any number read `matrix`.

    `rows` counts the rows appended, committed or not. Made by `create`, `open` or `in_memory`.
    """

    def __init__(self, backing: Backing, name: str, row_bytes: int, rows: int, *, read_only: bool) -> None:
        self.name = name
        self.row_bytes = row_bytes
        self.rows = rows
        self._backing = backing
        self._refused = "was opened read-only" if read_only else ""  # why appends are refused
        self._matrices: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._changed: dict[int, int] = {}
        self._tail_crc = 0
        self._dirty = False
        self._head_seqs = [0, 0]

    @classmethod
    def create(cls, files: Files, path: Path, row_bytes: int) -> RowFile:
        """Make an empty file; its name and head are durable when this returns."""
        file = files.open(path, create=True)
        file.truncate(HEAD_BYTES)
        file.pwrite(_made_head(row_bytes), 0)
        created = cls(OnDisk(file), str(path), row_bytes, 0, read_only=False)
        created._write_head_slots(0)
        file.fdatasync()
        files.sync_dir(path.parent)
        return created

    @classmethod
    def in_memory(cls, row_bytes: int) -> RowFile:
        """Make an empty twin that lives in memory only."""
        return cls(InMemory(), ":memory:", row_bytes, 0, read_only=False)

    @classmethod
    def open(
        cls,
        files: Files,
        path: Path,
        row_bytes: int,
        rows: int,
        read_only: bool = False,
        *,
        crcs: Mapping[int, int] | None = None,
        between: tuple[int, int] | None = None,
    ) -> RowFile:
        """Open a file that the catalogue says holds `rows` committed rows.

        `crcs` are the catalogue's checksums: the last, partial block is checked at once, since the next
        append continues its checksum; `verify` checks the rest. `between` bounds the head's seq
        (`CommitRow.since[name]`, `CommitRow.seq`). Raises CorruptData when the file is too short, its
        head is damaged or it belongs to another state of the collection, FormatTooNew for a later format.
        """
        file = files.open(path, read_only=read_only)
        try:
            opened = cls(OnDisk(file), str(path), row_bytes, rows, read_only=read_only)
            opened._check_head(between)
            opened._check_tail(crcs)
        except BaseException:
            file.close()
            raise
        return opened

    @property
    def head_seq(self) -> int:
        """The last seq that was known committed when the file was last synced."""
        return max(self._head_seqs)

    @property
    def capacity(self) -> int:
        """Rows that fit before the file must grow."""
        return (self._backing.size - HEAD_BYTES) // self.row_bytes

    @property
    def disk_bytes(self) -> int:
        """Space taken on disk in bytes; 0 in memory."""
        return self._backing.disk_bytes()

    def append(self, block: NDArray[np.uint8]) -> None:
        """Write `block`, (m, row_bytes) uint8 C-contiguous, as rows `rows` to `rows + m - 1`.

        Not durable before `sync`, and not part of the collection before the catalogue's commit.
        """
        if self._refused:
            raise ReadOnly(f"{self.name} {self._refused}", field=self.name)
        if block.dtype != np.uint8 or block.ndim != 2 or block.shape[1] != self.row_bytes:
            raise ValueError(f"{self.name} takes (m, {self.row_bytes}) uint8 rows, not {block.dtype} {block.shape}")
        if not block.flags.c_contiguous:
            raise ValueError(f"{self.name} takes C-contiguous rows")
        if block.shape[0] == 0:
            return
        data = memoryview(block.data).cast("B")
        with self._refusing_after_failure():
            self.reserve(self.rows + block.shape[0])
            self._dirty = True
            self._backing.write(data, HEAD_BYTES + self.rows * self.row_bytes)
        self._extend_crcs(data)

    def _extend_crcs(self, data: memoryview) -> None:
        at = 0
        while at < len(data):
            block, within = divmod(self.rows, BLOCK_ROWS)
            stop = min(len(data), at + (BLOCK_ROWS - within) * self.row_bytes)
            self._tail_crc = _crc(data[at:stop], self._tail_crc if within else 0)
            self._changed[block] = self._tail_crc
            self.rows += (stop - at) // self.row_bytes
            at = stop

    def reserve(self, rows: int) -> None:
        """Grow so that `rows` rows fit; the next `matrix` is a new map, older ones stay valid.

        StorageFull, and the file is as it was, when no memory is left for the map: after the commit, when it is asked
        for, there would be no way back.
        """
        needed, size = HEAD_BYTES + rows * self.row_bytes, self._backing.size
        if needed <= size:
            return
        try:
            self._backing.grow(grown_size(size, needed))
            self._matrices = {(): self._backing.map()}
        except MemoryError as error:
            if self._backing.size != size:
                self._backing.grow(size)
            raise StorageFull(f"no memory is left for {rows} rows of {self.name}", field="memory") from error

    def matrix(self, dtype: DTypeLike, shape_tail: tuple[int, ...]) -> NDArray[Any]:
        """Return all rows as one array (capacity, *shape_tail) of `dtype`, read-only.

        The same array is returned until the file grows. Rows from `rows` on hold nothing meaningful.
        """
        key = (np.dtype(dtype).str, shape_tail)
        matrices = self._matrices  # which belongs to one map: another thread may take both away meanwhile
        found = matrices.get(key)
        if found is None:
            mapped = matrices.get(())
            if mapped is None:
                mapped = matrices[()] = self._backing.map()
            count = (len(mapped) - HEAD_BYTES) // self.row_bytes
            flat = mapped[HEAD_BYTES : HEAD_BYTES + count * self.row_bytes]
            found = flat.view(dtype).reshape(count, *shape_tail)
            matrices[key] = found
        return found

    def crcs_since(self) -> dict[int, int]:
        """Return block number → CRC32C of the blocks changed since the last call, for the commit."""
        changed, self._changed = self._changed, {}
        return changed

    def sync(self, previous_seq: int) -> None:
        """Make the rows appended durable; `previous_seq` is the catalogue's last committed seq.

        Does nothing when nothing was appended since the last sync. After a failure other than StorageFull
        every later append is refused: a second sync could report success for rows that are gone.
        """
        if not self._dirty:
            return
        if self._refused:
            raise ReadOnly(f"{self.name} {self._refused}", field=self.name)
        with self._refusing_after_failure():
            self._write_head_slots(previous_seq, only=self._head_seqs.index(min(self._head_seqs)))
            self._backing.sync()
        self._dirty = False

    def stamp(self, seq: int) -> None:
        """Write the last committed seq into the head, durably, before a clean close.

        So an older catalogue is noticed even when the commits it lacks changed no row.
        """
        if seq > self.head_seq and not self._refused:
            self._dirty = True
            self.sync(seq)

    @contextmanager
    def _refusing_after_failure(self) -> Iterator[None]:
        try:
            yield
        except ReadOnly:
            self._refused = "failed to be written before; reopen the data directory"
            raise

    def frozen(self, rows: int, sums: Mapping[int, int], seq: int) -> Iterator[bytes]:
        """A file of the first `rows` rows in parts, as it may lie beside the catalogue of commit `seq`.

        Its `HEAD_BYTES + rows * row_bytes` bytes stay what they are while more rows are appended. CorruptData when a
        block is not the one that `sums` knows.
        """
        head = bytearray(self._backing.read(HEAD_BYTES, 0))
        if not head.startswith(_MAGIC):  # of a twin in memory
            head[: _HEAD.size + _CRC.size] = _made_head(self.row_bytes)
        for at in _SLOT_AT:
            packed = _SLOT.pack(seq)
            head[at : at + _SLOT.size + _CRC.size] = packed + _CRC.pack(_crc(packed))
        yield bytes(head)
        for block in range(-(-rows // BLOCK_ROWS)):
            yield self._verify_block(block, sums.get(block), rows)

    def verify(self, expected: Mapping[int, int], rows: int | None = None) -> None:
        """Read every block and compare with the catalogue's checksums; CorruptData says which one is wrong.

        `rows`: how many were committed, where a writer may be appending more; all of them by default.
        """
        rows = self.rows if rows is None else rows
        for block in range(-(-rows // BLOCK_ROWS)):
            self._verify_block(block, expected.get(block), rows)

    def _verify_block(self, block: int, expected: int | None, rows: int) -> bytes:
        first = block * BLOCK_ROWS
        offset = HEAD_BYTES + first * self.row_bytes
        length = min(BLOCK_ROWS, rows - first) * self.row_bytes
        data = self._backing.read(length, offset)
        if len(data) != length or expected is None or _crc(data) != expected:
            raise CorruptData(
                f"{self.name}: rows {first} to {first + length // self.row_bytes - 1}, bytes {offset} to "
                f"{offset + length - 1}, do not match their checksum; restore the collection from a backup",
                field=self.name,
                value=offset,
            )
        return data

    def rewind(self, rows: int) -> None:
        """Forget the rows from `rows` on, which no commit holds, after a commit failed."""
        if rows > self.rows:
            raise ValueError(f"{self.name} holds {self.rows} rows, so it cannot go back to {rows}")
        self.rows = rows
        self._changed = {}
        self._tail_crc = self._read_tail_crc()

    def close(self) -> None:
        """Close the file; arrays handed out stay valid."""
        self._matrices = {}
        self._backing.close()

    def _read_tail_crc(self) -> int:
        within = self.rows % BLOCK_ROWS
        length = within * self.row_bytes
        return _crc(self._backing.read(length, HEAD_BYTES + (self.rows - within) * self.row_bytes))

    def _write_head_slots(self, seq: int, only: int | None = None) -> None:
        for slot in (0, 1) if only is None else (only,):
            packed = _SLOT.pack(seq)
            self._backing.write(memoryview(packed + _CRC.pack(_crc(packed))), _SLOT_AT[slot])
            self._head_seqs[slot] = seq

    def _check_head(self, between: tuple[int, int] | None) -> None:
        head = self._backing.read(HEAD_BYTES, 0)
        static = head[: _HEAD.size]
        if len(head) < HEAD_BYTES or _CRC.unpack_from(head, _HEAD.size)[0] != _crc(static):
            raise CorruptData(f"{self.name}: the head page is damaged", field=self.name, value=0)
        magic, version, row_bytes, _ = _HEAD.unpack(static)
        if magic != _MAGIC or row_bytes != self.row_bytes:
            raise CorruptData(f"{self.name}: not a file of {self.row_bytes}-byte rows", field=self.name, value=0)
        if version > _VERSION:
            raise FormatTooNew(f"{self.name} has format {version}, this version reads {_VERSION}", value=version)
        seqs = [_slot_seq(head, offset) for offset in _SLOT_AT]
        if max(seqs) < 0:
            raise CorruptData(f"{self.name}: both head slots are damaged", field=self.name, value=_SLOT_AT[0])
        self._head_seqs = seqs
        self._check_belongs(between)

    def _check_belongs(self, between: tuple[int, int] | None) -> None:
        needed = HEAD_BYTES + self.rows * self.row_bytes
        if self._backing.size < needed:
            raise CorruptData(
                f"{self.name} is {self._backing.size} bytes long, the catalogue's {self.rows} rows need {needed}",
                field=self.name,
                value=self._backing.size,
            )
        if between is not None and not (between[0] if self.rows else 0) <= self.head_seq <= between[1]:
            which = "catalogue" if self.head_seq > between[1] else "file"
            raise CorruptData(
                f"{self.name} was last written after commit {self.head_seq}, the catalogue expects {between[0]} to "
                f"{between[1]}: an older copy of the {which} was put back",
                field=self.name,
                value=self.head_seq,
            )

    def _check_tail(self, crcs: Mapping[int, int] | None) -> None:
        if crcs is not None and self.rows % BLOCK_ROWS:
            block = self.rows // BLOCK_ROWS
            self._verify_block(block, crcs.get(block), self.rows)
        self._tail_crc = self._read_tail_crc()


def _made_head(row_bytes: int) -> bytes:
    head = _HEAD.pack(_MAGIC, _VERSION, row_bytes, os.urandom(16))
    return head + _CRC.pack(_crc(head))


def _slot_seq(head: bytes, offset: int) -> int:
    """Return the seq of a head slot, -1 when it is damaged."""
    packed = head[offset : offset + _SLOT.size]
    if _CRC.unpack_from(head, offset + _SLOT.size)[0] != _crc(packed):
        return -1
    return int(_SLOT.unpack(packed)[0])
