r"""An index as one file: a header of 192 bytes and four sections, each on a cache line; little-endian.

    header   magic "VICFLAT\\0" | format u32 | byte order mark u32 | kind u32 | space 64 bytes | dim u32 | M u32 |
             ef_construction u32 | ef u32 | threads i32 | flags u32 | seed u64 | max_elements u64 | n u64 |
             graph bytes u64 | total length u64 | CRC32C u32 of each section (vectors, labels, states, graph) |
             zeros | CRC32C u32 of the bytes before
    vectors  (n, dim) float32 as they were added · labels (n,) u64 · states (n,) u8: 0 alive, 1 deleted, 2 gone
    graph    what `index.field_index` encodes

Reading computes every size from the header and compares it with the bytes there are before anything is allocated.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.limits import DIM_MAX, EF_CONSTRUCTION_MAX, M_MAX, M_MIN, NAME_PATTERN, SLOTS_MAX

__all__ = ["HEADER_BYTES", "MAGIC", "Bytes", "Parts", "Settings", "encode", "parse", "total_bytes"]

MAGIC: Final = b"VICFLAT\0"
FORMAT: Final = 1
HEADER_BYTES: Final = 192
_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("<8sIII64sIIIIiIQQQQQ4I")
_LINE: Final = 64
_SPACE: Final = re.compile(NAME_PATTERN)
_STARTED, _REPLACES, _BRUTE = 1, 2, 1
_STATES: Final = 3


class Bytes(Protocol):
    """A file's bytes, of which slices are taken: in memory, mapped, or read as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> memoryview:
        """The bytes of a slice."""


class Settings(NamedTuple):
    """All of an index but its points; M is 0 for one without a graph. `vectors` is not part of a file."""

    space: str
    dim: int
    started: bool = False
    max_elements: int = 0
    M: int = 0
    ef_construction: int = 0
    seed: int = 0
    replaces: bool = False
    ef: int = 10
    threads: int = 0
    vectors: str = "memory"


class Parts(NamedTuple):
    """What a file holds; the arrays share its memory."""

    settings: Settings
    vectors: NDArray[np.float32]
    labels: NDArray[np.uint64]
    states: NDArray[np.uint8]
    graph: memoryview


def _padded(size: int) -> int:
    return -(-size // _LINE) * _LINE


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """An array's memory, without a copy when it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def total_bytes(dim: int, n: int, graph_bytes: int) -> int:
    """Length of the file."""
    return HEADER_BYTES + _padded(4 * dim * n) + _padded(8 * n) + _padded(n) + graph_bytes


def encode(
    settings: Settings,
    vectors: NDArray[np.float32],
    labels: NDArray[np.uint64],
    states: NDArray[np.uint8],
    graph: bytes,
) -> Iterator[memoryview]:
    """The file as pieces, in order; vectors are not copied."""
    sections = [
        _bytes_of(part) for part in (vectors.astype("<f4", copy=False), labels.astype("<u8", copy=False), states)
    ]
    sections.append(memoryview(graph))
    head = _HEADER.pack(
        MAGIC,
        FORMAT,
        _ORDER,
        0 if settings.M else _BRUTE,
        settings.space.encode(),
        settings.dim,
        settings.M,
        settings.ef_construction,
        settings.ef,
        settings.threads,
        settings.started * _STARTED + settings.replaces * _REPLACES,
        settings.seed,
        settings.max_elements,
        len(labels),
        len(graph),
        total_bytes(settings.dim, len(labels), len(graph)),
        *(crc32c(section) for section in sections),
    ).ljust(HEADER_BYTES - 4, b"\0")
    yield memoryview(head + struct.pack("<I", crc32c(head)))
    for section in sections[:3]:
        yield section
        yield memoryview(bytes(_padded(len(section)) - len(section)))
    yield sections[3]


def _corrupt(name: str, what: str) -> CorruptData:
    return CorruptData(f"{name}: {what}", field=name)


def _unpack(buffer: Bytes, name: str) -> tuple[Any, ...]:
    """The header's fields after magic, format and order mark, of a header that holds."""
    if len(buffer) < HEADER_BYTES:
        raise _corrupt(name, f"{len(buffer)} bytes are too few for a header of {HEADER_BYTES}")
    head = buffer[:HEADER_BYTES]
    fields = _HEADER.unpack_from(head)
    if fields[0] != MAGIC or fields[2] != _ORDER:
        raise _corrupt(name, "this is no index saved by vicinal or hnswlib")
    if struct.unpack_from("<I", head, HEADER_BYTES - 4)[0] != crc32c(head[: HEADER_BYTES - 4]):
        raise _corrupt(name, f"the header's checksum is wrong (offset {HEADER_BYTES - 4})")
    if fields[1] > FORMAT:
        raise FormatTooNew(f"{name} has format {fields[1]}; this version reads up to {FORMAT}", value=fields[1])
    if fields[1] != FORMAT or any(head[_HEADER.size : HEADER_BYTES - 4]):
        raise _corrupt(name, f"format {fields[1]} was never written so")
    return fields[3:]


def _settings(fields: tuple[Any, ...], name: str) -> Settings:
    kind, field, dim, M, ef_construction, ef, threads, flags, seed, max_elements = fields[:10]
    space = field.rstrip(b"\0").decode("ascii", "replace")
    fits = (
        _SPACE.fullmatch(space) is not None
        and 1 <= dim <= DIM_MAX
        and flags <= _STARTED + _REPLACES
        and max_elements <= SLOTS_MAX
        and ef >= 1
        and threads >= 0
    )
    graph_fits = M_MIN <= M <= M_MAX and 1 <= ef_construction <= EF_CONSTRUCTION_MAX
    if not fits or kind > _BRUTE or not (graph_fits if kind != _BRUTE else M == ef_construction == 0):
        raise _corrupt(name, f"space {space}, dim {dim}, M {M}, ef_construction {ef_construction}, ef {ef} cannot be")
    started, replaces = bool(flags & _STARTED), bool(flags & _REPLACES)
    return Settings(space, dim, started, max_elements, M, ef_construction, seed, replaces, ef, threads)


def parse(buffer: Bytes, name: str) -> Parts:
    """The parts of a file's bytes; CorruptData, or FormatTooNew, unless every length and checksum holds."""
    fields = _unpack(buffer, name)
    settings = _settings(fields, name)
    n, graph_bytes, total = fields[10:13]
    if n > SLOTS_MAX or total != len(buffer) or total != total_bytes(settings.dim, n, graph_bytes):
        raise _corrupt(name, f"{len(buffer)} bytes where {n} points of {settings.dim} dimensions and the header differ")
    sizes, at, contents = (4 * settings.dim * n, 8 * n, n, graph_bytes), HEADER_BYTES, []
    for what, size, checksum in zip(("vectors", "labels", "states", "graph"), sizes, fields[13:], strict=True):
        content = buffer[at : at + size]
        if crc32c(content) != checksum:
            raise _corrupt(name, f"the checksum of the {what} at offset {at} is wrong")
        contents.append(content)
        at += _padded(size)
    vectors = np.frombuffer(contents[0], "<f4").reshape(n, settings.dim)
    labels, states = np.frombuffer(contents[1], "<u8"), np.frombuffer(contents[2], np.uint8)
    named = labels[states < _STATES - 1]
    if n and (int(states.max()) >= _STATES or len(np.unique(named)) != len(named)):
        raise _corrupt(name, "a state is unknown or a label occurs twice")
    return Parts(settings, vectors, labels, states, contents[3])
