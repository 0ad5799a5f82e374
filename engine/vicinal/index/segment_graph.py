"""SeRF: range filters by segment graphs (Zuo, Qiao, Zhou, Li and Deng, SIGMOD 2024).

Node numbers are ranks of the key, ties broken by slot. A range that begins with the least key is searched in the 1-D
graph, which keeps every prefix's graph; any other in the 2-D graph, which keeps for every left bound the neighbours
that bound would have (`kernels.segments` says how). Departures: start points are results like any other; rows are
inserted by one thread, because their order is the algorithm; ranges too small for the candidates of a row to fall
into are scanned instead; links of the 2-D graph that lead to later ranks keep the interval of the link they reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import Condition, Found, Keys, LabelSets
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.rank_order import RankOrder, check_search, scan_ranks, search_ranks
from vicinal.index.scratch import Scratch, address, aligned
from vicinal.index.spaces import capacity_of, space_of
from vicinal.kernels.beam import Graph
from vicinal.kernels.insert import STATE
from vicinal.kernels.segments import MAXIMUM, MINIMUM, Edges, Segments, insert_ranks, search_edges
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["SegmentGraph"]

_CHUNK = 512  # ranks inserted per kernel call, at most
_LOG_ROWS = 16  # rows for whose worst case a log has room; a call stops sooner when it is full
_SCANNED = 512  # ranks that are scanned whatever the graph
_NO_RANK = 0xFFFFFFFE


class _Table(NamedTuple):
    """A finished graph: the links of rank r are `edges[ends[r] : ends[r + 1]]`, and what the kernel reads of it."""

    ends: NDArray[np.int64]
    edges: NDArray[np.uint32]
    block: NDArray[np.int64]

    @classmethod
    def of(cls, order: RankOrder, log: NDArray[np.uint32]) -> _Table:
        """Gather a log of (owner, neighbour, first bound, last bound); the links of an owner keep their order."""
        n = len(order.order)
        ends = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(log[:, 0], minlength=n), out=ends[1:])
        edges = np.ascontiguousarray(log[np.argsort(log[:, 0], kind="stable"), 1:])
        table = Edges(address(order.order), address(order.ranks), address(ends), address(edges), 0, 0, 0)
        return cls(ends, edges, np.array(table[:4], np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the links and their ends."""
        return self.ends.nbytes + self.edges.nbytes


class SegmentGraph:
    """Both segment graphs over slots [0, n) of one field; it keeps the rows and never changes them."""

    def __init__(self, rows: Rows, metric: Metric, order: RankOrder, tables: tuple[_Table, _Table], scan: int) -> None:
        self._rows, self._metric, self._order = rows, metric, order
        self._prefixes, self._segments = tables
        self.scan = scan

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets | Keys,
        *,
        M: int = 16,
        ef_construction: int = 300,
        leap: Literal["minimum", "maximum"] = "minimum",
        scan: int | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> SegmentGraph:
        """Insert slots [0, n) in the order of their keys; raises `Cancelled` when `cancel()` says so.

        M: links a row chooses. ef_construction: candidates of a row (the paper's ef_max), at least 2 M. leap: how far
        the neighbours chosen for one left bound are trusted; "maximum" is smaller, sooner built and lossy. scan:
        ranges of at most so many rows are scanned; by default those into which fewer than M of a row's candidates
        fall, where the 2-D graph has too few links.
        """
        order = RankOrder.of(attribute, n)
        if not 2 <= M <= 64 or not 2 * M <= ef_construction <= 1000:
            raise InvalidArgument("M is 2 to 64, ef_construction 2 M to 1000", field="ef_construction", value=M)
        if leap not in {"minimum", "maximum"} or n > capacity_of(metric, rows):
            raise InvalidArgument('leap is "minimum" or "maximum", n the number of rows', field="leap", value=leap)
        work = _Building(rows, n, metric, order, M, ef_construction, MINIMUM if leap == "minimum" else MAXIMUM)
        work.insert(cancel)
        scanned = max(_SCANNED, M * n // ef_construction) if scan is None else scan
        return cls(rows, metric, order, work.tables(), scanned)

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors: both graphs and the order of the keys."""
        return self._order.nbytes + self._prefixes.nbytes + self._segments.nbytes

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """At most k nearest of the slots whose key is in the range (`Between`), by a beam of width max(ef, k).

        query: (dim,) of the rows' dtype. Slots uint32 and distances float32, ascending, ties by slot.
        """
        check_search(k, ef)
        low, stop = self._order.between(condition)
        if stop - low <= (self.scan if low else min(self.scan, _SCANNED)):
            return scan_ranks(self._rows, self._metric, self._order, query, (low, stop), k)
        table, bound = (self._segments, low) if low else (self._prefixes, stop)
        return search_ranks(search_edges, table.block, self._rows, self._metric, query, (low, stop), bound, k, ef)


class _Building:
    """The graph of the ranks inserted so far, and the logs of both segment graphs."""

    def __init__(
        self, rows: Rows, n: int, metric: Metric, order: RankOrder, M: int, ef_construction: int, leap: int
    ) -> None:
        self._n, self._order = n, order
        self._space = space_of(metric, rows)
        self._vectors = (ef_construction + 7) >> 3
        self._scratch = Scratch()
        self._scratch.fit(n, self._vectors, rows.vectors.shape[1], rows.vectors.dtype)
        self._links = aligned((n, 2 * M), np.uint32, SENTINEL)
        self._held = (aligned((2, n), np.uint32), np.zeros(STATE, np.int64), np.empty(512, np.uint32))
        self._ranked = aligned((2 * M + 24,), np.int64)
        copies, state, chosen = self._held
        self._graph = Graph(address(self._links), 8 * M, 2 * M, 0, 0, M, 0, n)
        self._segments = Segments(
            address(order.order), address(order.ranks), address(copies), address(copies) + 4 * n, address(state),
            address(chosen), address(self._ranked) + 64, (2 * M + 8) >> 3, self._vectors, leap,
        )  # fmt: skip
        self._dead: list[NDArray[np.uint32]] = []
        self._edges: list[NDArray[np.uint32]] = []

    def insert(self, cancel: Callable[[], bool] | None) -> None:
        """Insert every rank, in order."""
        M, done = self._graph.M, 0
        dead = np.empty((_CHUNK * M * 2 + M * (2 * M + 1), 4), np.uint32)
        edges = np.empty((_LOG_ROWS * M * 8 * self._vectors, 4), np.uint32)
        while done < self._n:
            if cancel is not None and cancel():
                raise Cancelled
            used = np.zeros(2, np.int64)
            stop = min(done + _CHUNK, self._n)
            work = self._scratch.work()
            done = insert_ranks(self._space, self._graph, work, self._segments, done, stop, dead, edges, used)
            self._dead.append(dead[: used[0]].copy())
            self._edges.append(edges[: used[1]].copy())

    def tables(self) -> tuple[_Table, _Table]:
        """The 1-D graph, whose links end with their death, and the 2-D one, whose links are of left bounds."""
        ranks, links = self._order.ranks, self._links
        slots, places = np.nonzero(links != SENTINEL)
        alive = np.zeros((len(slots), 4), np.uint32)
        alive[:, 0], alive[:, 1], alive[:, 3] = ranks[slots], ranks[links[slots, places]], _NO_RANK
        forward = np.concatenate([np.empty((0, 4), np.uint32), *self._edges])
        backward = forward[::-1, [1, 0, 2, 3]]  # the latest neighbours first
        prefixes = np.concatenate([alive, *self._dead])
        return _Table.of(self._order, prefixes), _Table.of(self._order, np.concatenate([forward, backward]))
