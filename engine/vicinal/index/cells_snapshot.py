"""Cells as bytes, little-endian: who is in which, the table behind ef, what searches under filters take.

    header  magic "VICCELLS" | format u32 | byte order mark u32 | rows, listed rows, cells, efforts, levels u64 |
            CRC32C u32 of the body | CRC32C u32 of the bytes before (format 2: zero)
    body    members by cell u32 | size of each cell u32 | efforts | efforts under filters, by level and share

Rows that are not listed are dead. Codes are made again from the vectors.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.index.cell_effort import CellEffort, CellEfforts, CellMeasured
from vicinal.index.cell_lists import Partition
from vicinal.index.code_scan import RESCORE_MAX
from vicinal.index.filter_effort import SHARES, UNWALKED, FilterEffort, FilterEfforts, Level
from vicinal.limits import SLOTS_MAX

__all__ = ["MAGIC", "Saved", "decode", "encode"]

MAGIC: Final = b"VICCELLS"
_FORMAT: Final = 3
_UNSUMMED: Final = 2  # a format whose header has no checksum
_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("<8sIIQQQQQII")
_MEASURED: Final = struct.Struct("<qqddd")
_FILTER: Final = struct.Struct("<qqdddd")
_LEVEL: Final = struct.Struct("<d")
_MOST: Final = 256  # efforts, and levels


class Saved(NamedTuple):
    """What a snapshot holds; `filters` is `UNWALKED` where nothing was fitted, `dropped` empty where nothing was."""

    n: int
    parts: Partition
    efforts: CellEfforts
    filters: FilterEfforts
    dropped: NDArray[np.bool_]


def encode(saved: Saved) -> bytes:
    """The snapshot; the same cells give the same bytes."""
    parts, measured = saved.parts, saved.efforts.measured
    levels = () if saved.filters is UNWALKED else saved.filters.levels
    tables = [_MEASURED.pack(*m.effort, m.recall, m.cost) for m in measured]
    for level in levels:
        tables.append(_LEVEL.pack(level.recall))
        tables += [_FILTER.pack(e.rescore, e.quota, e.margin, e.rows, e.members, e.gap) for e in level.by_share]
    members, sizes = parts.order.astype("<u4").tobytes(), np.diff(parts.starts).astype("<u4").tobytes()
    body = b"".join([members, sizes, *tables])
    counts = (saved.n, len(parts.order), len(parts.starts) - 1, len(measured), len(levels))
    head = _HEADER.pack(MAGIC, _FORMAT, _ORDER, *counts, crc32c(body), 0)[:-4]
    return head + struct.pack("<I", crc32c(head)) + body


def decode(view: memoryview, slots: int) -> Saved:
    """What a snapshot of at most `slots` slots holds; CorruptData, or FormatTooNew, unless all of it fits together."""
    if len(view) < _HEADER.size:
        raise _corrupt(f"{len(view)} bytes are too few")
    magic, version, order, n, listed, cells, efforts, levels, crc, head_crc = _HEADER.unpack_from(view)
    summed = 0 if version == _UNSUMMED else crc32c(view[: _HEADER.size - 4])
    if magic != MAGIC or order != _ORDER or head_crc != summed:
        raise _corrupt("the header is damaged")
    if version > _FORMAT:
        raise FormatTooNew(f"cells of format {version}; this version reads up to {_FORMAT}", value=version)
    if version not in (_FORMAT, _UNSUMMED) or not 1 <= cells <= listed <= n <= slots or max(efforts, levels) > _MOST:
        raise _corrupt(f"{listed} of {n} rows in {cells} cells, where there are {slots} slots")
    body, lists = view[_HEADER.size :], 4 * (listed + cells)
    fitted = _MEASURED.size * efforts
    if len(body) != lists + fitted + levels * (_LEVEL.size + _FILTER.size * len(SHARES)):
        raise _corrupt(f"{len(view)} bytes do not fit the counts in the header")
    if crc32c(body) != crc:
        raise _corrupt("the checksum is wrong")
    parts, dropped = _lists(body[:lists], n, listed)
    filters = _filters(body[lists + fitted :])
    return Saved(n, parts, _efforts(body[lists : lists + fitted]), filters, dropped)


def _corrupt(what: str) -> CorruptData:
    return CorruptData(f"snapshot of cells: {what}; they will be made again from the vectors", field="snapshot")


def _lists(body: memoryview, n: int, listed: int) -> tuple[Partition, NDArray[np.bool_]]:
    """The members by cell, and which slots are in none."""
    numbers = np.frombuffer(body, "<u4")
    members, sizes = numbers[:listed], numbers[listed:].astype(np.int64)
    if not sizes.all() or sizes.sum() != listed or int(members.max()) >= n:
        raise _corrupt("its cells do not hold rows")
    dropped = np.ones(n, np.bool_)
    dropped[members] = False
    if np.count_nonzero(dropped) != n - listed:
        raise _corrupt("its cells hold a row twice")
    parts = Partition(np.append(0, np.cumsum(sizes)), members.astype(np.int32))
    return parts, dropped if listed < n else np.zeros(0, np.bool_)


def _efforts(body: memoryview) -> CellEfforts:
    """Read the table behind ef."""
    table = []
    for quota, rescore, margin, recall, cost in _MEASURED.iter_unpack(body):
        sane = margin < np.inf and 0 <= recall <= 1 and 0 < cost < np.inf  # none of them NaN
        if not (0 < quota <= SLOTS_MAX and 0 < rescore <= RESCORE_MAX and sane):
            raise _corrupt("its table of efforts holds what cannot be")
        table.append(CellMeasured(CellEffort(quota, rescore, margin), recall, cost))
    if any(one.ef >= other.ef for one, other in pairwise(table)):
        raise _corrupt("its table of efforts does not ascend")
    return CellEfforts(tuple(table))


def _filters(body: memoryview) -> FilterEfforts:
    """Read what searches under filters take."""
    levels, at = [], 0
    while at < len(body):
        (recall,) = _LEVEL.unpack_from(body, at)
        at += _LEVEL.size
        end = at + _FILTER.size * len(SHARES)
        by_share: list[FilterEffort] = []
        for rescore, quota, margin, rows, members, gap in _FILTER.iter_unpack(body[at:end]):
            sane = margin < np.inf and np.isfinite((rows, members, gap)).all()
            if not (0 < quota <= SLOTS_MAX and 0 < rescore <= RESCORE_MAX and sane):
                raise _corrupt("its efforts under filters cannot be")
            standard = UNWALKED.levels[0].by_share[len(by_share)]
            by_share.append(
                standard._replace(rescore=rescore, quota=quota, margin=margin, rows=rows, members=members, gap=gap)
            )
        if not 0 < recall <= 1:
            raise _corrupt("its efforts under filters reach what cannot be")
        levels.append(Level(recall, tuple(by_share)))
        at = end
    return FilterEfforts(tuple(levels)) if levels else UNWALKED
