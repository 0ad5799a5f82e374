"""Filtered search over one coded index: its scans, its masked walk, and what they take, kept together as it grows."""
# ruff: noqa: SLF001 - the part of CodedIndex that answers under a filter, in a file of its own

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.cell_lists import CellLists, Partition, partition
from vicinal.index.code_scan import CodeScan
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_effort import Effort
from vicinal.index.coded_scratch import bits_at
from vicinal.index.exact import exact_search_list
from vicinal.index.filter_effort import STANDARD, FilterEfforts
from vicinal.index.filter_prices import prices_of
from vicinal.types import Bits, Rows

__all__ = ["FilteredIndex", "Swept", "Table", "sweep", "sweep_words"]


class Swept(NamedTuple):
    """What a masked walk found: at most k slots uint32 and distances float32, ascending.

    hops: rows expanded; seen: rows estimated. `whole`: as many matches as it wanted were near; otherwise it came to
    the end of its pool first, and nearer matches may lie elsewhere. `slack`: how much farther than the k-th match that
    one lies which ended the walk, as a part of the k-th's distance: among matches all about as far it ends soon.
    """

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    hops: int
    seen: int
    whole: bool
    slack: float


def sweep(
    index: CodedIndex,
    query: NDArray[Any],
    k: int,
    effort: Effort,
    *,
    rows: Rows,
    limit: int,
    allowed: Bits | None,
    hidden: int = -1,
) -> Swept:
    """Walk the graph with a mask on what may be returned; every node is routed through."""
    words = 0 if allowed is None else bits_at(allowed, limit)
    return sweep_words(index, query, k, effort, index._packed_effort(effort), rows, limit, words, hidden)


def sweep_words(
    index: CodedIndex,
    query: NDArray[Any],
    k: int,
    effort: Effort,
    packed: int,
    rows: Rows,
    limit: int,
    words: int,
    hidden: int = -1,
) -> Swept:
    """As `sweep`, for a mask at an address, which has a bit for each slot below the limit; 0: all are allowed.

    packed: the effort as kernels take it.
    """
    vectors, inv_norms, _ = index._bind(rows)
    arrays = index._arrays
    scratch = index._borrow(arrays, effort.pool, (max(effort.stop, effort.rescore, effort.settle, k) + 15) // 8 * 8)
    scratch.aim(arrays, rows, (vectors, inv_norms), limit, hidden=hidden, words=words)
    sent = index._cast(query)
    wanted = k if vectors else max(k, effort.settle)
    slots, distances = np.empty(wanted, np.uint32), np.empty(wanted, np.float32)
    found = index.walked(sent, scratch.call_at, packed, slots, distances)
    scratch.index_at = 0  # so that the next search says again what it searches
    hops, seen = scratch.hops.tolist()
    slack = scratch.slack.item(0)
    index._free.append(scratch)
    whole = hops <= effort.pool and found >= min(wanted, effort.stop)
    if not vectors:
        slots, distances = exact_search_list(index.metric, rows, query, k, slots[:found])
    if found < len(slots):
        slots, distances = slots[:found], distances[:found]
    return Swept(slots, distances, hops, seen, whole, slack)


class Table(Protocol):
    """What was measured behind ef without a filter."""

    @property
    def efs(self) -> Sequence[int]:
        """The ef from which each measured effort is used; none where nothing was measured."""

    def recall_at(self, ef: int) -> float | None:
        """The recall of the ten nearest at an ef; None where nothing was measured."""


class FilteredIndex:
    """Scans and walks over one coded index; any number of readers beside the writer of that index, who appends here."""

    def __init__(
        self, index: CodedIndex, lists: CellLists, efforts: FilterEfforts = STANDARD, table: Table | None = None
    ) -> None:
        self.index, self.lists, self.efforts = index, lists, efforts
        self._table = table
        self.scan = CodeScan(index, lists)
        arrays = index._arrays
        self.prices = prices_of(index.choice.codec.name, index._frame.padded, exact_walk=arrays.exact_walk)
        self.chosen: dict[Any, Any] = {}  # plans by what they depend on; see `vicinal.planner`

    @classmethod
    def build(
        cls,
        index: CodedIndex,
        rows: Rows,
        *,
        seed: int,
        threads: int = 1,
        parts: Partition | None = None,
        efforts: FilterEfforts | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> FilteredIndex | None:
        """Make cells of the index's rows, unless they are given, and fit what searches take; None when cancelled."""
        try:
            if parts is None:
                parts = partition(rows, index.n, index.metric, seed=seed, threads=threads, cancel=cancel)
        except Cancelled:
            return None
        made = cls(index, CellLists(rows, index.metric, index.choice, parts, threads=threads))
        if efforts is None:
            from vicinal.index.filter_fit import fit_efforts

            made.efforts = fit_efforts(made, rows, seed=seed)
        else:
            made.efforts = efforts
        return made

    def pack(self, effort: Effort) -> int:
        """An effort as the one number that kernels take."""
        return self.index._packed_effort(effort)

    def append(self, rows: Rows, start: int, stop: int) -> None:
        """List slots [start, stop), start = n, which the index has taken in already."""
        self.lists.append(rows, start, stop)

    @property
    def table(self) -> Table:
        """What an ef means without a filter."""
        return self.index.efforts if self._table is None else self._table

    @property
    def walks(self) -> bool:
        """Whether there is a graph to walk."""
        return self.index._arrays.linked

    @property
    def memory_bytes(self) -> int:
        """Bytes of lists and centres."""
        return self.lists.memory_bytes
