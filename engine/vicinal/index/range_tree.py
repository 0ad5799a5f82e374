"""iRangeGraph: range filters by a segment tree of graphs (Xu, Li, Cai, Jin, Zhou et al., SIGMOD 2025).

Ranks of the key (ties by slot) are cut into segments, `leaf` ranks each, `branching` of which make one of the level
above, up to one over all; every segment has a graph of its own. A search picks the edges of the graph its range would
have on the way (`kernels.range_tree`). Departures: segments are linked in bulk (`index.builder`), in place of merging
children by searching them; four children a segment and leaves of hundreds of rows, so log4(n / leaf) levels instead
of log2(n); ranges of at most two leaves are scanned; searches begin at evenly spaced ranks of the range. Memory: 128
bytes a row and level, 8 a row for the ranks, 8 for the keys; addresses have 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import Condition, Found, Keys, LabelSets
from vicinal.index.builder import DEGREE, build_links
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.rank_order import RankOrder, check_search, scan_ranks, search_ranks
from vicinal.index.scratch import address, aligned
from vicinal.index.spaces import capacity_of
from vicinal.kernels.range_tree import Tree, search_tree
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["RangeTree"]


class RangeTree:
    """The tree of graphs over slots [0, n) of one field; it keeps the rows and never changes them."""

    def __init__(
        self, rows: Rows, metric: Metric, order: RankOrder, links: NDArray[np.uint32], bits: tuple[int, int], scan: int
    ) -> None:
        self._rows, self._metric, self._order, self._links = rows, metric, order, links
        levels, n, width = links.shape
        tree = Tree(address(order.order), address(order.ranks), address(links), n, width, levels, *bits, 0, 0)
        self._block = np.array(tree[:-2], np.int64)
        self.scan = scan

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets | Keys,
        *,
        branching: int = 4,
        leaf: int = 512,
        scan: int | None = None,
        threads: int = 1,
        seed: int = 42,
        cancel: Callable[[], bool] | None = None,
    ) -> RangeTree:
        """Link every segment of slots [0, n) in the order of their keys; raises `Cancelled` when `cancel()` says so.

        branching, leaf: powers of two, children of a segment and rows of the smallest. scan: ranges of at most so
        many rows are scanned, by default two leaves. The same seed gives the same graphs on any number of threads.
        """
        order = RankOrder.of(attribute, n)
        for name, value in (("branching", branching), ("leaf", leaf)):
            if value < 2 or value & value - 1:
                raise InvalidArgument(f"{name} is a power of two", field=name, value=value, limit=2)
        if n > capacity_of(metric, rows):
            raise InvalidArgument("there are fewer rows than that", field="n", value=n, limit=len(rows.vectors))
        leaf_bits, step = leaf.bit_length() - 1, branching.bit_length() - 1
        levels = 1
        while 1 << (leaf_bits + (levels - 1) * step) < n:
            levels += 1
        links = aligned((levels, n, DEGREE), np.uint32, SENTINEL)
        for level in range(levels):
            size = 1 << (leaf_bits + level * step)
            for first in range(0, n, size):
                near = _segment(rows, metric, order.order[first : first + size], threads, seed, cancel)
                used = near != SENTINEL
                links[level, first : first + size][used] = near[used] + np.uint32(first)
        return cls(rows, metric, order, links, (leaf_bits, step), 2 * leaf if scan is None else scan)

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors: every level's links and the order of the keys."""
        return self._order.nbytes + self._links.nbytes

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """At most k nearest of the slots whose key is in the range (`Between`), by a beam of width max(ef, k).

        query: (dim,) of the rows' dtype. Slots uint32 and distances float32, ascending, ties by slot.
        """
        check_search(k, ef)
        low, stop = self._order.between(condition)
        if stop - low <= self.scan:
            return scan_ranks(self._rows, self._metric, self._order, query, (low, stop), k)
        return search_ranks(search_tree, self._block, self._rows, self._metric, query, (low, stop), 0, k, ef)


def _segment(
    rows: Rows,
    metric: Metric,
    slots: NDArray[np.uint32],
    threads: int,
    seed: int,
    cancel: Callable[[], bool] | None,
) -> NDArray[np.uint32]:
    """The graph of one segment, its rows in the order of their ranks."""
    norms = rows.inv_norms[slots] if metric is Metric.COSINE else rows.inv_norms
    some = Rows(np.ascontiguousarray(rows.vectors[slots]), norms)
    built = build_links(some, len(slots), metric, fill=True, threads=threads, seed=seed, cancel=cancel)
    if built is None:
        raise Cancelled
    return built.links
