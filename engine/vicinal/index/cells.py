"""The cells layout of one dense field: code lines and lists of cells, no graph.

Memory is 64 bytes of code a row and about 5 for its place in a list, besides the centres (one in 64 rows). Building is
k-means and encoding; a new row is encoded and goes to its nearest cell. Queries scan the nearest cells and settle the
best estimates on the stored floats, which stay with their owner.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.codecs.frame import nearest_rows, sample_slots
from vicinal.codecs.scan_choice import choose_for_scans
from vicinal.errors import CorruptData, FormatTooNew, InvalidArgument
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.cell_effort import NO_MARGIN, RESCORE_COST, CellEffort, CellEfforts, CellMeasured, K
from vicinal.index.cell_lists import CellLists, Partition, partition
from vicinal.index.code_scan import RESCORE_MAX, CodeScan
from vicinal.index.coded import CodedIndex
from vicinal.index.exact import Found, exact_search_list
from vicinal.limits import EF_MAX, SLOTS_MAX
from vicinal.types import Bits, Metric, Rows

__all__ = ["MAGIC", "CellsIndex"]

MAGIC: Final = b"VICCELLS"
_FORMAT: Final = 1
_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("<8sIIQQQI4x")  # magic, format, byte order, rows, cells, efforts, CRC32C of the rest
_MEASURED: Final = struct.Struct("<qqddd")
_MEASURE_FROM = 2_000
_QUERIES = 100
_EFFORTS_MAX = 256
_LIST_BELOW = 1.5  # times the quota: where as few rows match, all of them are estimated
_MARGIN = 0.25  # share of queries that leave less


class CellsIndex:
    """Cells over rows [0, n) of one dense field; any number of readers beside one writer that appends."""

    def __init__(self, index: CodedIndex, lists: CellLists, efforts: CellEfforts, built: int) -> None:
        self.index, self.lists, self.efforts = index, lists, efforts
        self.scan = CodeScan(index, lists)
        self.built = built  # rows when the cells were made

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        *,
        codec: str = "auto",
        seed: int = 42,
        threads: int = 1,
        measure: bool = True,
        cancel: Callable[[], bool] | None = None,
    ) -> CellsIndex | None:
        """Make cells of rows [0, n), n at least 1; None when `cancel` says so. The same seed gives the same cells.

        measure: fit the table behind ef and recall_target; below 2,000 rows a standard one serves.
        """
        try:
            parts = partition(rows, n, metric, seed=seed, threads=threads, cancel=cancel)
        except Cancelled:
            return None
        made = cls._of(rows, metric, parts, codec=codec, seed=seed, threads=threads)
        if measure and n >= _MEASURE_FROM:
            made.measure_efforts(rows, seed=seed, threads=threads)
        return made

    @classmethod
    def _of(cls, rows: Rows, metric: Metric, parts: Partition, *, codec: str, seed: int, threads: int) -> CellsIndex:
        n = len(parts.order)
        choice = choose_for_scans(metric, rows, n, codec=codec, seed=seed)
        index = CodedIndex.of_choice(rows, n, metric, choice, None, threads=threads)
        lists = CellLists(rows, metric, index.choice, parts, threads=threads)
        return cls(index, lists, CellEfforts(), n)

    @property
    def n(self) -> int:
        """Slots [0, n) are in cells."""
        return self.index.n

    @property
    def memory_bytes(self) -> int:
        """Bytes of code lines, lists, centres and constants."""
        return self.index.memory_bytes + self.lists.memory_bytes

    @property
    def info(self) -> Mapping[str, Any]:
        """What was chosen and why, for `Collection.info`."""
        return {**self.index.info, "walk": "none", "cells": self.lists.cells, "bytes": self.memory_bytes}

    def append(self, rows: Rows, start: int, stop: int) -> None:
        """Take slots [start, stop), start = n, into their nearest cells; readers meanwhile see those before."""
        self.index.append(rows, start, stop)
        self.lists.append(rows, start, stop)

    def search(
        self,
        query: NDArray[Any],
        k: int,
        ef: int,
        *,
        rows: Rows,
        limit: int | None = None,
        allowed: Bits | None = None,
    ) -> Found:
        """Find the k nearest of the slots below `limit` (default n) that are `allowed` (None: all).

        Gives min(k, matches) slots and distances of the stored floats, nearest first, ties by slot.
        """
        if not 1 <= ef <= EF_MAX:
            raise InvalidArgument(f"ef is 1 to {EF_MAX}", field="ef", value=ef, limit=EF_MAX)
        limit = self.n if limit is None else limit
        effort = self.efforts.effort(k, ef)
        matches = self.scan.count(allowed, limit)
        if matches <= _LIST_BELOW * effort.quota:
            found = self.scan.scan_list(
                query, k, rows=rows, limit=limit, allowed=allowed, matches=matches, rescore=effort.rescore
            )
        else:
            found = self.scan.scan_cells(
                query,
                k,
                rows=rows,
                limit=limit,
                allowed=allowed,
                matches=matches,
                quota=effort.quota,
                rescore=effort.rescore,
                margin=NO_MARGIN if allowed is None else effort.margin,
            )
        return found.slots, found.distances

    def search_batch(
        self,
        queries: NDArray[Any],
        k: int,
        ef: int,
        *,
        rows: Rows,
        limit: int | None = None,
        allowed: Bits | None = None,
        threads: int = 1,
    ) -> list[Found]:
        """Answer each row of queries (m, dim) as `search` does, over so many threads."""

        def share(first: int) -> list[Found]:
            return [
                self.search(query, k, ef, rows=rows, limit=limit, allowed=allowed) for query in queries[first::threads]
            ]

        if threads == 1:
            return share(0)
        answers: list[Found] = [(np.empty(0, np.uint32), np.empty(0, np.float32))] * len(queries)
        with ThreadPoolExecutor(threads, "vicinal-cells") as pool:
            for first, found in enumerate(pool.map(share, range(threads))):
                answers[first::threads] = found
        return answers

    def ef_for(self, recall_target: float) -> int:
        """Give the ef that reached a recall of the ten nearest when measured at build; the largest if none did."""
        if not 0 < recall_target <= 1:
            raise InvalidArgument("recall_target lies between 0 and 1", field="recall_target", value=recall_target)
        ef = self.efforts.ef_for(recall_target)
        return EF_MAX if ef is None else min(ef, EF_MAX)

    def recall_at(self, ef: int) -> float | None:
        """Give the recall of the ten nearest that was measured at an ef; None where nothing was."""
        return self.efforts.recall_at(ef)

    def measure_efforts(self, rows: Rows, *, queries: int = _QUERIES, seed: int = 42, threads: int = 1) -> None:
        """Fit the table behind ef and recall_target on `queries` rows, each left out of its own search."""
        asked = sample_slots(self.n, queries, seed)
        listed = nearest_rows(self.index.choice.frame, rows, self.n, asked, K, threads=threads)
        furthest = []  # by distance, not by slot: of many equal rows any is right
        for slot, names in zip(asked, listed, strict=True):
            _, distances = exact_search_list(self.index.metric, rows, rows.vectors[slot], K, names.astype(np.uint32))
            furthest.append(float(distances[-1]) + abs(float(distances[-1])) * 1e-5 + 1e-12)
        with ThreadPoolExecutor(threads, "vicinal-cells") as pool:

            def measure(effort: CellEffort) -> CellMeasured:
                return self._measured(rows, asked.tolist(), furthest, effort, pool)

            self.efforts = CellEfforts.fit(measure, self.n)

    def _measured(
        self, rows: Rows, asked: list[int], furthest: list[float], effort: CellEffort, pool: ThreadPoolExecutor
    ) -> CellMeasured:
        """Search for rows that are hidden from their own search."""

        def search(slot: int, last: float) -> tuple[int, int, float]:
            found = self.scan.scan_cells(
                rows.vectors[slot], K, rows=rows, quota=effort.quota, rescore=effort.rescore, hidden=slot
            )
            return int((found.distances <= last).sum()), found.rows, found.margin

        hits, scored, margins = zip(*pool.map(search, asked, furthest), strict=True)
        margin = float(np.quantile(margins, _MARGIN, method="lower"))
        return CellMeasured(
            effort._replace(margin=margin if np.isfinite(margin) else NO_MARGIN),
            sum(hits) / (K * len(asked)),
            sum(scored) / len(asked) + self.lists.cells + RESCORE_COST * effort.rescore,
        )

    def encode(self) -> bytes:
        """The cells as bytes: who is in which, and the table behind ef; codes are made again from the vectors."""
        parts = self.lists.members()
        sizes = np.diff(parts.starts).astype("<u4").tobytes()
        order = parts.order.astype("<u4").tobytes()
        measured = b"".join(
            _MEASURED.pack(m.effort.quota, m.effort.rescore, m.effort.margin, m.recall, m.cost)
            for m in self.efforts.measured
        )
        body = sizes + order + measured
        efforts = len(self.efforts.measured)
        head = (MAGIC, _FORMAT, _ORDER, len(parts.order), len(parts.starts) - 1, efforts, crc32c(body))
        return _HEADER.pack(*head) + body

    @classmethod
    def decode(
        cls,
        buffer: memoryview | bytes,
        rows: Rows,
        metric: Metric,
        slots: int,
        *,
        codec: str = "auto",
        seed: int = 42,
        threads: int = 1,
    ) -> CellsIndex:
        """Take over cells of at most `slots` slots; CorruptData, or FormatTooNew, unless all of it holds."""
        parts, efforts = _read(memoryview(buffer).cast("B"), slots)
        made = cls._of(rows, metric, parts, codec=codec, seed=seed, threads=threads)
        made.efforts = efforts
        return made


def _corrupt(what: str) -> CorruptData:
    return CorruptData(f"snapshot of cells: {what}; they will be made again from the vectors", field="snapshot")


def _read(view: memoryview, slots: int) -> tuple[Partition, CellEfforts]:
    """Check a snapshot and give what it holds."""
    if len(view) < _HEADER.size:
        raise _corrupt(f"{len(view)} bytes are too few")
    magic, version, order, n, cells, efforts, crc = _HEADER.unpack_from(view)
    if magic != MAGIC or order != _ORDER:
        raise _corrupt("the first bytes are not those of cells")
    if version > _FORMAT:
        raise FormatTooNew(f"cells of format {version}; this version reads up to {_FORMAT}", value=version)
    if not 1 <= cells <= n <= slots or efforts > _EFFORTS_MAX:
        raise _corrupt(f"{n} rows in {cells} cells, where there are {slots} slots")
    if len(view) != _HEADER.size + 4 * (n + cells) + _MEASURED.size * efforts:
        raise _corrupt(f"{len(view)} bytes do not fit the counts in the header")
    body = view[_HEADER.size :]
    if crc32c(body) != crc:
        raise _corrupt("the checksum is wrong")
    sizes = np.frombuffer(body, "<u4", cells).astype(np.int64)
    members = np.frombuffer(body, "<u4", n, 4 * cells)
    if not sizes.all() or sizes.sum() != n or int(members.max()) >= n or len(np.unique(members)) != n:
        raise _corrupt("its cells do not hold every row once")
    starts = np.append(0, np.cumsum(sizes))
    return Partition(starts, members.astype(np.int32)), _efforts(body[4 * (n + cells) :])


def _efforts(body: memoryview) -> CellEfforts:
    """Read the table behind ef."""
    table = []
    for quota, rescore, margin, recall, cost in _MEASURED.iter_unpack(body):
        if not (0 < quota <= SLOTS_MAX and 0 < rescore <= RESCORE_MAX and 0 <= recall <= 1 and 0 < cost < np.inf):
            raise _corrupt("its table of efforts holds what cannot be")
        table.append(CellMeasured(CellEffort(quota, rescore, margin), recall, cost))
    if any(one.ef >= other.ef for one, other in pairwise(table)):
        raise _corrupt("its table of efforts does not ascend")
    return CellEfforts(tuple(table))
