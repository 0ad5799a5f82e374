"""A graph as bytes: a 64-byte header and four sections, each with its length and CRC32C; little-endian.

    header  magic "VICGRAPH" | format u32 | byte order mark u32 | n u64 | upper rows u64 | M u32 | top u32 |
            entry u64 (2^64 - 1: none) | total length u64 | zero u32 | CRC32C u32 of the 60 bytes before
    section kind u32 | CRC32C u32 of kind, length and content | length u64 | content
    kinds   1 levels (n,) u8 · 2 offsets (n,) u32 · 3 links (n, 2 M) u32 · 4 upper (upper rows, M) u32

The watermark is n: a graph holds slots 0 .. n - 1. Decoding computes every size from the header, compares it with
the bytes there are before it allocates, and checks every link before the graph can be searched.
"""

from __future__ import annotations

import struct

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.index.graph import GraphArrays, GraphPicture
from vicinal.index.structure import structure_problems
from vicinal.kernels.insert import LEVEL_MAX
from vicinal.limits import M_MAX, M_MIN, SLOTS_MAX

__all__ = ["FORMAT", "decode", "encode"]

FORMAT = 1
_MAGIC = b"VICGRAPH"
_ORDER = 0x01020304
_HEADER = struct.Struct("<8sIIQQIIQQII")
_SECTION = struct.Struct("<IIQ")
_NO_ENTRY = (1 << 64) - 1


def _section(kind: int, content: bytes) -> bytes:
    """Head and content of one section."""
    start = crc32c(struct.pack("<IQ", kind, len(content)))
    return _SECTION.pack(kind, crc32c(content, start), len(content)) + content


def encode(picture: GraphPicture, upper_used: int) -> bytes:
    """The graph as bytes; the same graph always gives the same bytes."""
    arrays, n = picture.arrays, picture.n
    parts = (
        arrays.levels[:n],
        arrays.offsets[:n].astype("<u4", copy=False),
        arrays.links[:n, : 2 * arrays.M].astype("<u4", copy=False),
        arrays.upper[:upper_used, : arrays.M].astype("<u4", copy=False),
    )
    sections = b"".join(_section(kind, part.tobytes()) for kind, part in enumerate(parts, 1))
    entry = _NO_ENTRY if picture.entry < 0 else picture.entry
    length = _HEADER.size + len(sections)
    head = _HEADER.pack(_MAGIC, FORMAT, _ORDER, n, upper_used, arrays.M, picture.top, entry, length, 0, 0)[:-4]
    return head + struct.pack("<I", crc32c(head)) + sections


def _corrupt(what: str) -> CorruptData:
    return CorruptData(f"graph snapshot: {what}; it will be rebuilt from the vectors", field="graph")


def _header(buffer: memoryview) -> tuple[int, int, int, int, int]:
    """(n, upper rows, M, top, entry) of a header that holds."""
    if len(buffer) < _HEADER.size:
        raise _corrupt(f"{len(buffer)} bytes are too few for the header of {_HEADER.size}")
    magic, version, order, n, upper, M, top, entry, length, zero, crc = _HEADER.unpack_from(buffer)
    if magic != _MAGIC or order != _ORDER:
        raise _corrupt("the first bytes are not those of a graph")
    if crc != crc32c(buffer[: _HEADER.size - 4]):
        raise _corrupt("the header's checksum is wrong (offset 60)")
    if version > FORMAT:
        raise FormatTooNew(f"graph snapshot of format {version}; this version reads up to {FORMAT}", value=version)
    if version != FORMAT or zero:
        raise _corrupt(f"format {version} was never written")
    if not M_MIN <= M <= M_MAX or n > SLOTS_MAX or upper > n * LEVEL_MAX or top > LEVEL_MAX:
        raise _corrupt(f"n = {n}, M = {M}, {upper} upper rows and top level {top} cannot be")
    if length != len(buffer):
        raise _corrupt(f"{len(buffer)} bytes where the header says {length}")
    return n, upper, M, top, -1 if entry == _NO_ENTRY else entry


def _sections(buffer: memoryview, sizes: tuple[int, ...]) -> list[memoryview]:
    """The contents of the sections, whose lengths must be `sizes`."""
    if len(buffer) != _HEADER.size + sum(sizes) + _SECTION.size * len(sizes):
        raise _corrupt(f"{len(buffer)} bytes do not fit the counts in the header")
    contents, at = [], _HEADER.size
    for kind, size in enumerate(sizes, 1):
        found, crc, length = _SECTION.unpack_from(buffer, at)
        content = buffer[at + _SECTION.size : at + _SECTION.size + size]
        if (found, length) != (kind, size):
            raise _corrupt(f"section {kind} at offset {at} says kind {found}, {length} bytes")
        if crc != crc32c(content, crc32c(struct.pack("<IQ", kind, size))):
            raise _corrupt(f"the checksum of section {kind} at offset {at} is wrong")
        contents.append(content)
        at += _SECTION.size + size
    return contents


def _matrix(content: memoryview, columns: int) -> NDArray[np.uint32]:
    return np.frombuffer(content, "<u4").reshape(-1, columns)


def decode(buffer: bytes | memoryview, M: int, slots: int) -> tuple[GraphPicture, int]:
    """The graph of a snapshot and how many upper rows it uses.

    M: the links per node expected; slots: how many slots exist. Raises CorruptData, or FormatTooNew.
    """
    view = memoryview(buffer).cast("B")
    n, upper, found_M, top, entry = _header(view)
    if found_M != M or n > slots:
        raise _corrupt(f"it holds {n} slots with M = {found_M}; there are {slots} slots and M is {M}")
    contents = _sections(view, (n, 4 * n, 8 * M * n, 4 * M * upper))
    arrays = GraphArrays.empty(M, n, upper)
    arrays.levels[:] = np.frombuffer(contents[0], np.uint8)
    arrays.offsets[:] = np.frombuffer(contents[1], "<u4")
    arrays.links[:, : 2 * M] = _matrix(contents[2], 2 * M)
    arrays.upper[:, :M] = _matrix(contents[3], M)
    picture = GraphPicture(arrays, n, entry, top)
    problems = structure_problems(picture)
    if problems:
        raise _corrupt(problems[0])
    return picture, upper
