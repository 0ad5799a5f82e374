"""The cells layout of one dense field: code lines and lists of cells, no graph.

Memory is 64 bytes of code a row and about 5 for its place in a list, besides the centres (one in 64 rows). Building is
k-means and encoding; a new row is encoded and goes to its nearest cell. Queries scan the nearest cells and settle the
best estimates on the stored floats, which stay with their owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.frame import nearest_rows, sample_slots
from vicinal.codecs.scan_choice import choose_for_scans
from vicinal.errors import InvalidArgument
from vicinal.index import cells_snapshot
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.cell_effort import NO_MARGIN, RESCORE_COST, CellEffort, CellEfforts, CellMeasured, K
from vicinal.index.cell_lists import CellLists, Partition, partition
from vicinal.index.code_scan import CodeScan
from vicinal.index.coded import CodedIndex
from vicinal.index.exact import Found, exact_search_list
from vicinal.index.filter_effort import UNWALKED
from vicinal.index.filtered import FilteredIndex
from vicinal.limits import EF_MAX
from vicinal.types import Bits, Metric, Rows

__all__ = ["CellsIndex"]

_MEASURE_FROM = 2_000
_QUERIES = 100
_TOLD = 150  # rows that tell what chosen efforts find
_ERRORS = 2.0  # standard errors by which they tell less
_LISTED = K + 6  # likely nearest rows by products, of which K are by distance
_PARTS = 4  # in which they are asked, over threads
_LIST_BELOW = 1.5  # times the quota: where as few rows match, all of them are estimated
_MARGIN = 0.25  # share of queries that leave less


class CellsIndex:
    """Cells over rows [0, n) of one dense field; any number of readers beside one writer that appends.

    `filtered` plans and answers under filters, by what `fit_filters` found. `dropped` (at most n,) marks slots that are
    in no cell any more.
    """

    def __init__(self, index: CodedIndex, lists: CellLists, efforts: CellEfforts, built: int) -> None:
        self.index, self.lists, self.efforts = index, lists, efforts
        self.filters = UNWALKED
        self.dropped: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.built = built  # rows when the cells were made
        self.aim()

    def aim(self) -> None:
        """Answer under filters by what is known now; readers keep what they hold."""
        self.filtered = FilteredIndex(self.index, self.lists, self.filters, self.efforts)
        self.scan: CodeScan = self.filtered.scan

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
        dead: NDArray[np.bool_] | None = None,
    ) -> CellsIndex | None:
        """Make cells of rows [0, n), n at least 1; None when `cancel` says so. The same seed gives the same cells.

        measure: fit the table behind ef and recall_target; below 2,000 rows a standard one serves. dead (at least n,):
        slots to leave out of the cells, unless all are.
        """
        slots = None if dead is None or not dead[:n].any() or dead[:n].all() else np.flatnonzero(~dead[:n])
        try:
            count = n if slots is None else len(slots)
            parts = partition(rows, count, metric, seed=seed, threads=threads, cancel=cancel, slots=slots)
        except Cancelled:
            return None
        made = cls._of(rows, n, metric, parts, codec=codec, seed=seed, threads=threads)
        if dead is not None and slots is not None:
            made.dropped = dead[:n].copy()
        if measure and len(parts.order) >= _MEASURE_FROM:
            made.measure_efforts(rows, seed=seed, threads=threads)
        return made

    @classmethod
    def _of(
        cls, rows: Rows, n: int, metric: Metric, parts: Partition, *, codec: str, seed: int, threads: int
    ) -> CellsIndex:
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
        """Fit the table behind ef and recall_target on rows that are left out of their own search.

        `queries` of them choose among efforts; others tell, a standard error off, what the chosen ones find.
        """
        asked, living = sample_slots(self.n, queries + _TOLD, seed), None
        if self.dropped.any():
            living = self.listed
            slots = np.flatnonzero(living)
            asked = slots[sample_slots(len(slots), queries + _TOLD, seed)]
        listed = nearest_rows(self.index.choice.frame, rows, self.n, asked, _LISTED, living)
        furthest = np.empty(len(asked))  # by distance, not by slot: of many equal rows any is right
        for at, (slot, names) in enumerate(zip(asked, listed, strict=True)):
            _, distances = exact_search_list(self.index.metric, rows, rows.vectors[slot], K, names.astype(np.uint32))
            furthest[at] = float(distances[-1]) + abs(float(distances[-1])) * 1e-5 + 1e-12
        choosing = np.zeros(len(asked), np.bool_)
        choosing[sample_slots(len(asked), queries * len(asked) // (queries + _TOLD), seed)] = True
        with ThreadPoolExecutor(threads, "vicinal-cells") as pool:

            def measure(effort: CellEffort, of: NDArray[np.bool_], errors: float) -> CellMeasured:
                return self._measured(rows, asked[of].tolist(), furthest[of].tolist(), effort, errors, pool)

            self.efforts = CellEfforts.fit(
                lambda effort: measure(effort, choosing, 0.0),
                self.n,
                lambda effort: measure(effort, ~choosing, _ERRORS),
            )
        self.aim()

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Which of the n slots are in a cell."""
        mask = np.ones(self.n, np.bool_)
        mask[: len(self.dropped)] = ~self.dropped[: self.n]
        return mask

    @property
    def filters_fitted(self) -> bool:
        """Whether `fit_filters` need not be called."""
        return self.filters is not UNWALKED or int(self.listed.sum()) < _MEASURE_FROM

    def fit_filters(self, rows: Rows, *, seed: int = 42) -> None:
        """Fit what searches under filters take; until then a standard table serves them."""
        from vicinal.index.filter_fit import fit_efforts

        self.filters = fit_efforts(self.filtered, rows, seed=seed, counted=self.listed)
        self.aim()

    def drop(self, dead: NDArray[np.bool_]) -> None:
        """Take slots out of the cells; dead (at least n,) marks them and those taken out before, not all of n.

        Readers to whom they are alive find them by an exact scan.
        """
        self.lists.drop(dead)
        self.dropped = dead[: self.n].copy()

    def _measured(
        self,
        rows: Rows,
        asked: list[int],
        furthest: list[float],
        effort: CellEffort,
        errors: float,
        pool: ThreadPoolExecutor,
    ) -> CellMeasured:
        """Search for rows that are hidden from their own search; recall is told so many standard errors below."""

        def search(first: int) -> list[tuple[int, int, float]]:
            told = []
            for slot, last in zip(asked[first::_PARTS], furthest[first::_PARTS], strict=True):
                found = self.scan.scan_cells(
                    rows.vectors[slot], K, rows=rows, quota=effort.quota, rescore=effort.rescore, hidden=slot
                )
                told.append((int((found.distances <= last).sum()), found.rows, found.margin))
            return told

        hits, scored, margins = zip(*chain.from_iterable(pool.map(search, range(_PARTS))), strict=True)
        error = errors * float(np.std(hits)) / (K * np.sqrt(len(asked)))
        margin = float(np.quantile(margins, _MARGIN, method="lower"))
        return CellMeasured(
            effort._replace(margin=margin if np.isfinite(margin) else NO_MARGIN),
            max(sum(hits) / (K * len(asked)) - error, 0.0),
            sum(scored) / len(asked) + self.lists.cells + RESCORE_COST * effort.rescore,
        )

    def encode(self) -> bytes:
        """The cells as bytes: who is in which, and what was fitted; codes are made again from the vectors."""
        return cells_snapshot.encode(
            cells_snapshot.Saved(self.n, self.lists.members(), self.efforts, self.filters, self.dropped)
        )

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
        saved = cells_snapshot.decode(memoryview(buffer).cast("B"), slots)
        made = cls._of(rows, saved.n, metric, saved.parts, codec=codec, seed=seed, threads=threads)
        made.efforts, made.filters, made.dropped = saved.efforts, saved.filters, saved.dropped
        made.aim()
        return made
