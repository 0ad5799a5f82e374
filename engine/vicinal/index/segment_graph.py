"""SeRF: range filters by segment graphs (Zuo, Qiao, Zhou, Li and Deng, SIGMOD 2024).

Node numbers are ranks of the key, ties broken by slot. A range that begins with the least key is searched in the 1-D
graph, which keeps every prefix's graph; any other in the 2-D graph, which keeps for every left bound the neighbours
that bound would have (`kernels.segments` says how). Departures: start points are results like any other. A row's
candidates are not found by searching the graph of the ranks before it, but by comparing byte codes
(`kernels.segment_links`): the nearest of every window of ranks before it, up to the 65,536 latest, and of all ranks
those that the builder of the base graph finds. Where bytes take more than one row in twenty for another one, all
ranges are scanned. So a row's links depend on no other row's, the graphs are those of the
same order whatever the number of threads, and a narrow range has as many candidates as a wide one. Small ranges are
scanned. Links of the 2-D graph that lead to later ranks keep the interval of the link they reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import Condition, Found, Keys, LabelSets
from vicinal.index.builder import first_equal
from vicinal.index.bulk_candidates import find_candidates, find_cells
from vicinal.index.bulk_cells import pack
from vicinal.index.bulk_codes import encode_rows
from vicinal.index.bulk_pieces import Pieces
from vicinal.index.rank_order import RankOrder, check_search, scan_ranks, search_ranks
from vicinal.index.scratch import address
from vicinal.index.spaces import capacity_of
from vicinal.kernels.build import BLOCK_ROWS
from vicinal.kernels.prune import reverse
from vicinal.kernels.rows8 import Codes
from vicinal.kernels.segment_candidates import KEEP_MOST, Plan, Ranks
from vicinal.kernels.segment_links import MAXIMUM, MINIMUM, Own, keep_prefixes, lay_edges, link_ranks
from vicinal.kernels.segments import Edges, search_edges
from vicinal.types import Metric, Rows

__all__ = ["SegmentGraph", "link_codes", "table_of"]

_SCANNED = 1024  # ranks of a range that is scanned
_WIDEST = 65536  # ranks that are all compared; a multiple of 16, as all windows are
_CONFUSED = 0.05  # share of rows that bytes may take for another
_FAR = 64  # candidates from anywhere, of more ranks than those
_BLOCKS = 10  # of a piece of work
_OWNERS = 2048
Logs = list[NDArray[np.uint32]]


class _Table(NamedTuple):
    """A finished graph: the links of rank r are `edges[ends[r] : ends[r + 1]]`, and what the kernel reads of it."""

    ends: NDArray[np.int64]
    edges: NDArray[np.uint32]
    block: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of the links and their ends."""
        return self.ends.nbytes + self.edges.nbytes


def table_of(order: RankOrder, logs: Logs, *, both: bool) -> _Table:
    """Lay out logs of (owner, neighbour, first bound, last bound), in order of the owners; `both`: both ways."""
    n = len(order.order)
    log = np.concatenate([np.empty((0, 4), np.uint32), *logs])
    counts = np.bincount(log[:, 0], minlength=n)
    if both:
        counts += np.bincount(log[:, 1], minlength=n)
    ends, shift = np.zeros(n + 1, np.int64), max(n.bit_length() - 16, 0)
    np.cumsum(counts, out=ends[1:])
    edges = np.empty((ends[-1], 2), np.uint32)
    lay_edges(log, both, shift, ends, edges)
    table = Edges(address(order.order), address(order.ranks), address(ends), address(edges), shift, 0, 0, 0)
    return _Table(ends, edges, np.array(table[:5], np.int64))


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
        candidates: int = 48,
        leap: Literal["minimum", "maximum"] = "minimum",
        scan: int | None = None,
        threads: int = 1,
        seed: int = 42,
        cancel: Callable[[], bool] | None = None,
    ) -> SegmentGraph:
        """Link slots [0, n) in the order of their keys; raises `Cancelled` when `cancel()` says so.

        M: links a row chooses, 2 to 32. candidates: how many of every left bound it chooses among, M to 64. leap: how
        far the neighbours chosen for one left bound are trusted; "maximum" is smaller, sooner built and lossy. scan:
        ranges of at most so many rows are scanned; smaller ranges have no candidates of their own. The same seed gives
        the same graphs on any number of threads.
        """
        order = RankOrder.of(attribute, n)
        if not 2 <= M <= KEEP_MOST // 2 or not M <= candidates <= KEEP_MOST:
            raise InvalidArgument(
                f"M is 2 to {KEEP_MOST // 2}, candidates M to {KEEP_MOST}", field="candidates", value=(M, candidates)
            )
        if leap not in {"minimum", "maximum"} or n > capacity_of(metric, rows):
            raise InvalidArgument('leap is "minimum" or "maximum", n the number of rows', field="leap", value=leap)
        scanned = _SCANNED if scan is None else scan
        least = min(-(-max(scanned, candidates) // 16) * 16, _WIDEST)
        plan = Plan(candidates, least, _WIDEST, M, MINIMUM if leap == "minimum" else MAXIMUM)
        with Pieces(threads, cancel) as pieces:
            logs = _link(rows, metric, order, plan, seed, pieces) if n else ([], [])
        if logs is None:
            logs, scanned = ([], []), n
        tables = table_of(order, logs[0], both=False), table_of(order, logs[1], both=True)
        return cls(rows, metric, order, tables, scanned)

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
        if stop - low <= self.scan:
            return scan_ranks(self._rows, self._metric, self._order, query, (low, stop), k)
        table, bound = (self._segments, low) if low else (self._prefixes, stop)
        return search_ranks(search_edges, table.block, self._rows, self._metric, query, (low, stop), bound, k, ef)


def _link(
    rows: Rows, metric: Metric, order: RankOrder, plan: Plan, seed: int, pieces: Pieces
) -> tuple[Logs, Logs] | None:
    """The logs of the 1-D and the 2-D graph; None where bytes do not tell rows apart."""
    n, by_rank = len(order.order), order.order.astype(np.int64)
    _, codes = encode_rows(rows.vectors, by_rank, metric, pieces)
    first = first_equal(codes.rows, n, pieces)
    alike = np.flatnonzero(first != np.arange(n))
    unlike = rows.vectors[by_rank[alike]] != rows.vectors[by_rank[first[alike]]]
    if np.count_nonzero(unlike.any(1)) > _CONFUSED * n:
        return None
    around = codes
    if metric is Metric.DOT and n > plan.widest:
        _, around = encode_rows(rows.vectors, by_rank, Metric.COSINE, pieces)
    return link_codes(codes, around, n, plan, seed, pieces)


def link_codes(codes: Codes, around: Codes, n: int, plan: Plan, seed: int, pieces: Pieces) -> tuple[Logs, Logs]:
    """As `_link`, of n rows of codes in the order of their ranks; `around`: codes by which cells are made."""
    ranks = Ranks(*_copies(codes, n, pieces), *_far(codes, around, n, plan, seed, pieces))
    panel = pack(codes, np.array([0, n], np.int64), pieces)
    own = Own(np.empty((n, plan.M), np.int32), np.empty((n, plan.M), np.int32), np.empty(n, np.int32))
    segments = _pieced(
        n, _BLOCKS * int(BLOCK_ROWS), pieces, lambda a, b: link_ranks(codes, panel, ranks, plan, own, a, b)
    )
    starts, sources, near = reverse(own.ids, own.dist, own.degree)
    prefixes = _pieced(
        n, _OWNERS, pieces, lambda a, b: keep_prefixes(codes, own, starts, sources, near, 2 * plan.M, a, b)
    )
    return prefixes, segments


def _pieced(n: int, size: int, pieces: Pieces, call: Callable[[int, int], NDArray[np.uint32]]) -> Logs:
    """What a call gives for each piece, in order."""
    found: dict[int, NDArray[np.uint32]] = {}

    def keep(start: int, stop: int) -> None:
        found[start] = call(start, stop)

    pieces.run(n, size, keep)
    return [found[start] for start in sorted(found)]


def _copies(codes: Codes, n: int, pieces: Pieces) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The rank before and after each with equal codes; -1 and n where there is none."""
    before, after = np.full(n, -1, np.int32), np.full(n, n, np.int32)
    first = first_equal(codes.rows, n, pieces)
    by_first = np.argsort(first, kind="stable").astype(np.int32)
    same = np.flatnonzero(np.diff(first[by_first]) == 0)
    before[by_first[same + 1]], after[by_first[same]] = by_first[same], by_first[same + 1]
    return before, after


def _far(
    codes: Codes, around: Codes, n: int, plan: Plan, seed: int, pieces: Pieces
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Candidates of each rank from all ranks, and their half distances; none where windows reach all."""
    if n <= plan.widest:
        return np.empty((0, 0), np.int32), np.empty((0, 0), np.int32)
    found = find_candidates(codes, find_cells(around, n, seed, pieces), _FAR, pieces, fine=True)
    order, (given, given_dist) = found.cells.order, found.candidates
    ids, dist = np.empty_like(given), np.empty_like(given_dist)
    ids[order], dist[order] = np.where(given >= 0, order[given], -1), given_dist
    return ids, dist
