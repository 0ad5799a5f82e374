"""Scans over the code lines of an index, beside its graph or instead of one: three ways, always min(k, matches).

    scan_list    every slot that may be returned is estimated (X; without a filter F, the full scan)
    scan_cells   the members of the nearest cells that may be returned (C), which needs `CellLists`

Estimates choose `rescore` slots, whose distances are then those of the stored floats; results ascend by distance,
ties by slot. A scan never walks, so it does not depend on the graph and sees slots the graph does not have yet.
"""
# ruff: noqa: SLF001 - the part of CodedIndex that scans, in a file of its own

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import count_bits
from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index.cell_lists import CellLists, Published
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import CodedArrays, address, aligned
from vicinal.index.coded_scratch import Scratch, bits_at
from vicinal.index.exact import Found, exact_search, exact_search_list
from vicinal.kernels import entry, scan
from vicinal.kernels.lines import BATCH
from vicinal.kernels.scan_lists import SPARE
from vicinal.kernels.walk_fields import EFFORT_BITS
from vicinal.limits import K_MAX
from vicinal.types import Bits, Metric, Rows

__all__ = ["RESCORE_MAX", "Among", "CodeScan", "Scanned", "Sought", "Wanted"]

RESCORE_MAX = (1 << EFFORT_BITS) - 1
NO_MARGIN = float("-inf")
_INF = float("inf")
_CALL = struct.Struct("<15qf")  # a ScanCall
_KERNELS = {"signs": scan.scan_signs, "nibbles": scan.scan_nibbles, "bytes": scan.scan_bytes}
_FLOAT32, _UINT32, _STRIDES = np.dtype(np.float32), np.dtype(np.uint32), (4,)
_NO_LIMIT = 1 << 62


@functools.cache
def _entry(code: str) -> Callable[..., int]:
    """The kernel over such lines; nothing looks at its arguments any more."""
    return entry(_KERNELS[code], scan.SCAN)


class Scanned(NamedTuple):
    """What a scan found and what it cost.

    slots uint32 and distances float32, ascending, min(k, matches) of them. `rows` estimated; `cells` looked at, 0 for a
    list; `rounds`: how often cells were chosen, 1 unless matches were scarce near the query. `margin`: estimate of the
    farthest cell's centre minus the k-th best estimate, over its root unless products are compared; +inf when no cell
    was left out. Small margins mean that neighbours may lie in cells that were not looked at. `members`: of the cells
    looked at, whether they match or not. `gave_up`: these would have been too many, and every match was estimated.
    `gap`: estimate of the last row re-scored minus the k-th distance, over its root unless products are compared; +inf
    when all were re-scored. Small and negative gaps mean that estimates could not tell the rows apart.
    """

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    rows: int
    cells: int
    rounds: int
    margin: float
    members: int = 0
    gave_up: bool = False
    gap: float = float("inf")


Sought = tuple[NDArray[np.uint32], NDArray[np.float32], int, int, int, float, int, bool, float]


class Among(NamedTuple):
    """What a search may return, `matches` slots below its limit: those of `allowed`, or `listed` ones.

    words: address of the bits `allowed`, 0 where all are. listed: address of as many slots of `order` as match, 0 where
    they are those of the bits.
    """

    matches: int
    words: int = 0
    allowed: Bits | None = None
    listed: int = 0
    order: NDArray[np.uint32] | None = None

    def exactly(self, metric: Metric, rows: Rows, query: NDArray[Any], k: int, limit: int) -> Found:
        """The k nearest by the stored vectors alone."""
        if self.order is None:
            return exact_search(metric, rows, query, k, start=0, stop=limit, allowed=self.allowed)
        begin = (self.listed - address(self.order)) >> 2
        return exact_search_list(metric, rows, query, k, self.order[begin : begin + self.matches])


class Wanted(NamedTuple):
    """How a scan searches; see `CodeScan.scan_list` (quota 0) and `CodeScan.scan_cells`."""

    k: int
    quota: int = 0
    rescore: int = 64
    margin: float = NO_MARGIN
    most: int = _NO_LIMIT
    hidden: int = -1


class CodeScan:
    """Scans of one index; any number of threads, beside one writer of the index and of the lists."""

    def __init__(self, index: CodedIndex, lists: CellLists | None = None) -> None:
        self.index = index
        self.lists = lists
        self._shape = (index.dim,)
        self._none = Published(0, 0, ())
        self._free: list[_Scratch] = []

    @functools.cached_property
    def _kernel(self) -> Callable[..., int]:
        """Compiled with the first scan: an index that is only walked answers seconds earlier without a cache."""
        return _entry(self.index.choice.codec.name)

    def scan_list(
        self,
        query: NDArray[Any],
        k: int,
        *,
        rows: Rows,
        limit: int | None = None,
        allowed: Bits | None = None,
        matches: int | None = None,
        rescore: int = 64,
        hidden: int = -1,
    ) -> Scanned:
        """Estimate every slot below `limit` (default: the index's n) that is `allowed` (None: all); settle the best.

        query: (dim,) of the rows' dtype.
        matches: how many slots those are, counted when it is None. rescore: estimates whose distance is computed, at
        least k; as many as match, or more, make the answer exact. hidden: a slot to leave out, or -1.
        """
        return self._scan(query, rows, limit, allowed, matches, Wanted(k, rescore=rescore, hidden=hidden))

    def scan_cells(
        self,
        query: NDArray[Any],
        k: int,
        *,
        rows: Rows,
        quota: int,
        limit: int | None = None,
        allowed: Bits | None = None,
        matches: int | None = None,
        rescore: int = 64,
        margin: float = NO_MARGIN,
        most: int = _NO_LIMIT,
        hidden: int = -1,
    ) -> Scanned:
        """Estimate members of the nearest cells until about `quota` matching rows were seen; settle the best.

        It goes farther, in rounds, while fewer than k or half the quota were found, and while the margin found (see
        `Scanned`) is below `margin`; before it looks at more than `most` members of cells it answers as `scan_list`.
        Other arguments as there.
        """
        if self.lists is None:
            raise InvalidArgument("there are no cells to scan: give the scan its lists", field="quota", value=quota)
        if quota < 1:
            raise InvalidArgument("a quota is at least one row", field="quota", value=quota, limit=1)
        return self._scan(query, rows, limit, allowed, matches, Wanted(k, quota, rescore, margin, most, hidden))

    def count(self, allowed: Bits | None, limit: int) -> int:
        """How many slots below limit are allowed."""
        if allowed is None:
            return limit
        bits_at(allowed, limit)  # refuses one that is too short
        whole, rest = divmod(limit, 64)
        found = count_bits(allowed[:whole])
        return found + (int(allowed[whole]) & ((1 << rest) - 1)).bit_count() if rest else found

    def _scan(
        self,
        query: NDArray[Any],
        rows: Rows,
        limit: int | None,
        allowed: Bits | None,
        matches: int | None,
        wanted: Wanted,
    ) -> Scanned:
        limit = self.index.n if limit is None else limit
        self.check(wanted, rows, limit)
        matches = self.count(allowed, limit) if matches is None else matches
        among = Among(matches, 0 if allowed is None else bits_at(allowed, limit), allowed)
        return Scanned(*self.seek(query, rows, limit, among, wanted))

    def check(self, wanted: Wanted, rows: Rows, limit: int) -> None:
        """Refuse what `seek`, which trusts its caller, would read beyond."""
        self.index._bind(rows)
        reach = min(self.index._bound[3], self.index.n)
        if not 1 <= wanted.k <= K_MAX:
            raise LimitExceeded(f"k is 1 to {K_MAX}", field="k", value=wanted.k, limit=K_MAX)
        if not 1 <= wanted.rescore <= RESCORE_MAX:
            raise LimitExceeded(
                f"rescore is 1 to {RESCORE_MAX}", field="rescore", value=wanted.rescore, limit=RESCORE_MAX
            )
        if not 0 <= limit <= reach:
            raise InvalidArgument(f"codes and rows reach {reach} slots", field="limit", value=limit, limit=reach)

    def seek(self, query: NDArray[Any], rows: Rows, limit: int, among: Among, wanted: Wanted) -> Sought:
        """What a `Scanned` holds, for a search that was checked; a query takes half as long as through the others."""
        index = self.index
        if rows is not index._bound[0]:
            index._bind(rows)
        bound = index._bound
        k = min(wanted.k, among.matches - (wanted.hidden >= 0))
        if k <= 0:
            return np.empty(0, _UINT32), np.empty(0, _FLOAT32), 0, 0, 0, _INF, 0, False, _INF
        sent = query
        if query.shape != self._shape or query.dtype is not _FLOAT32 or query.strides != _STRIDES:
            query = index._cast(query)
        found = self._run(query, bound, limit, k, among, wanted)
        if len(found[0]) < k:  # estimates that are not numbers: rows or query are too large for float32
            slots, distances = among.exactly(index.metric, rows, sent, wanted.k + (wanted.hidden >= 0), limit)
            kept = slots != wanted.hidden
            return slots[kept][: wanted.k], distances[kept][: wanted.k], *found[2:]
        if not bound[1]:  # stored in another type: the kernel leaves settling to its caller
            return *exact_search_list(index.metric, rows, sent, k, found[0]), *found[2:]
        return found

    def _run(
        self,
        query: NDArray[np.float32],
        bound: tuple[Rows | None, int, int, int],
        limit: int,
        k: int,
        among: Among,
        wanted: Wanted,
    ) -> Sought:
        """Call the kernel in borrowed memory; its answer may be short, or not settled."""
        lists = self._none if self.lists is None else self.lists.published
        arrays = self.index._arrays
        _, quota, rescore, margin, most, hidden = wanted
        matches, words, _, listed, _ = among
        settled = k + 2 + k // 8
        rescore = max(rescore, k)
        scratch = self._borrow(arrays, lists, max(rescore, settled))
        length = k if bound[1] else settled if arrays.exact_walk else rescore
        slots, distances = np.empty(length, _UINT32), np.empty(length, _FLOAT32)
        _CALL.pack_into(
            scratch.call, 0,
            arrays.at, scratch.work.at, scratch.at, lists.at or scratch.no_cells, bound[1], bound[2], words, listed,
            limit, hidden, k, matches, quota, most, rescore | settled << EFFORT_BITS, margin,
        )  # fmt: skip
        found = self._kernel(query, scratch.call_at, slots, distances)
        estimated, cells, rounds, _, members, gave_up = scratch.told.tolist()
        margin, gap = scratch.margin.tolist()
        self._free.append(scratch)
        if found < length:
            slots, distances = slots[:found], distances[:found]
        return slots, distances, estimated, cells, rounds, margin, members, gave_up != 0, gap

    def _borrow(self, arrays: CodedArrays, lists: Published, room: int) -> _Scratch:
        """Scratch of at least this room, for this thread alone until it is given back."""
        try:
            scratch = self._free.pop()  # atomic: two threads never get the same
        except IndexError:
            return _Scratch(self.index, arrays, lists.cells, room)
        if scratch.room < room or scratch.cells < lists.cells:
            return _Scratch(self.index, arrays, lists.cells, room)
        return scratch


class _Scratch:
    """One thread's memory: the walk's and what scans need beside it."""

    def __init__(self, index: CodedIndex, arrays: CodedArrays, cells: int, room: int) -> None:
        self.room = (room + 15) // 8 * 8
        self.cells = -(-(cells + 1) * 5 // 4 // BATCH) * BATCH
        self.work = Scratch(
            index._frame.padded,
            index.choice.codec.query.projected,
            len(index.choice.cells.norms),
            pool=self.room if arrays.exact_walk else 8,
            results=self.room,
            slots=0,
        )
        told = aligned((6,), np.int64)
        held: dict[str, NDArray[Any]] = {
            "names": np.arange(self.cells, dtype=np.uint32),
            "scores": aligned((self.cells,), np.float32),
            "near": aligned((self.cells + 16,), np.uint32),
            "listed": aligned((scan.BLOCK + SPARE,), np.uint32),
            "told": told,
        }
        self.told = told.data  # an array takes longer to read
        self.margin = told[3:4].view(np.float32).data
        self._held = held
        self._table = np.array(scan.ScanWork(**{name: address(array) for name, array in held.items()}), np.int64)
        self.at = address(self._table)
        self._called = np.zeros(len(scan.ScanCall._fields), np.int64)
        self.call, self.call_at = self._called.data.cast("B"), address(self._called)
        self._no_cells = np.zeros(len(scan.CellFields._fields), np.int64)
        self.no_cells = address(self._no_cells)
