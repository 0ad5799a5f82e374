"""Groups of near-copies as bytes, and the index of their leaders behind them; little-endian.

    header  magic "VICSHARE" | format u32 | byte order mark u32 | slots u64 | groups u64 | share f64 |
            CRC32C u32 of what follows up to the index | zeros | CRC32C u32 of the bytes before
    u32 by slot: its group, 0xFFFFFFFF of those that were dead when they came
    f32 by group: the largest distance of a member from its leader
    zeros up to a multiple of 64 bytes, and the index of the leaders

Groups are kept, not found again: the links lead to leaders by number.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew

__all__ = ["MAGIC", "SavedGroups", "decode", "encode"]

MAGIC: Final = b"VICSHARE"
FORMAT: Final = 1
_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("<8sIIQQdI16xI")
_LINE: Final = 64
_NONE: Final = 0xFFFFFFFF


class SavedGroups(NamedTuple):
    """The group of each slot and the radius of each group, and the bytes of the index of leaders."""

    group_of: NDArray[np.uint32]
    radius: NDArray[np.float32]
    rest: memoryview


def _corrupt(what: str) -> CorruptData:
    return CorruptData(f"snapshot of shared rows: {what}; it will be rebuilt from the vectors", field="snapshot")


def encode(group_of: NDArray[np.uint32], radius: NDArray[np.float32], share: float) -> bytes:
    """What stands before the index of leaders."""
    body = group_of.astype("<u4").tobytes() + radius.astype("<f4").tobytes()
    body += bytes(-len(body) % _LINE)
    head = _HEADER.pack(MAGIC, FORMAT, _ORDER, len(group_of), len(radius), share, crc32c(body), 0)[:-4]
    return head + struct.pack("<I", crc32c(head)) + body


def decode(buffer: memoryview | bytes, share: float, slots: int) -> SavedGroups:
    """What `encode` wrote, of at most `slots` slots; CorruptData, or FormatTooNew, unless all of it holds."""
    view = memoryview(buffer).cast("B")
    if len(view) < _HEADER.size:
        raise _corrupt(f"{len(view)} bytes are too few for the header")
    magic, version, order, n, count, saved, body_crc, crc = _HEADER.unpack_from(view)
    if magic != MAGIC or order != _ORDER or crc != crc32c(view[: _HEADER.size - 4]):
        raise _corrupt("the header is damaged")
    if version > FORMAT:
        raise FormatTooNew(f"shared rows of format {version}; this version reads up to {FORMAT}", value=version)
    if version != FORMAT or saved != share or not 1 <= count <= n <= slots:
        raise _corrupt(f"{count} groups of {n} slots, of {slots}, within {saved}")
    body = _HEADER.size + -(-4 * (n + count) // _LINE) * _LINE
    if len(view) < body or body_crc != crc32c(view[_HEADER.size : body]):
        raise _corrupt("the checksum of its groups is wrong")
    group_of = np.frombuffer(view, "<u4", n, _HEADER.size).astype(np.uint32)
    radius = np.frombuffer(view, "<f4", count, _HEADER.size + 4 * n).astype(np.float32)
    _check(group_of, radius)
    return SavedGroups(group_of, radius, view[body:])


def _check(group_of: NDArray[np.uint32], radius: NDArray[np.float32]) -> None:
    """CorruptData unless every group begins with its leader, in order, and searches can rely on the radii."""
    known = np.where(group_of == _NONE, -1, group_of.astype(np.int64))
    most = np.maximum.accumulate(known)
    if (np.diff(most, prepend=-1) > 1).any() or most[-1] != len(radius) - 1:
        raise _corrupt("its groups are not numbered by their leaders")
    if not np.isfinite(radius).all() or (radius < 0).any():
        raise _corrupt("a group has no radius")
