"""Answer queries under a filter over a coded graph: list, cells or sweep, and what follows where matches lie elsewhere.

A sweep that comes to the end of its pool before as many matches as it wanted were near is in a part of the graph with
few of them: the nearest cells are scanned, where that can cost less than the list, else every match. A scan of cells
goes on by its margin and turns into a list by itself. Where estimates lie closer together than they are exact, as of
matches that are all far away, more of them are re-scored. Slots that the graph does not have yet are compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.code_scan import CodeScan, Scanned
from vicinal.index.exact import Found, exact_search, merge
from vicinal.index.filtered import sweep
from vicinal.planner import Target, Way

__all__ = ["Outcome", "answer_filtered"]


class Outcome(NamedTuple):
    """An answer over the slots in the graph, and what it took.

    rows: estimated; members: of cells, looked at; hops: of the graph. `last`: the way that gave the answer. `local`:
    share of the members looked at that matched, where some were.
    """

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    rows: int
    last: str
    members: int = 0
    hops: int = 0
    local: float | None = None

    def explain(self, planned: str) -> dict[str, Any]:
        """What is worth telling, as plain values."""
        told = {"answered_by": self.last, "fallback": self.last != planned, "rows_scored": self.rows}
        told |= {"members_visited": self.members, "hops": self.hops}
        return told | {"selectivity_near": None if self.local is None else round(self.local, 6)}


def answer_filtered(
    target: Target, wanted: int, way: Way
) -> tuple[Callable[[NDArray[Any]], Found], Callable[[NDArray[Any]], tuple[Found, dict[str, Any]]]]:
    """How to find the `wanted` nearest of the allowed slots, `wanted` at most as many: briefly, and telling of it."""
    carried = _Carried(target, wanted, way)
    search, metric, rows, allowed, n = carried.ways[way.kind], target.metric, target.rows, target.allowed, target.n
    stop = carried.stop

    def one(query: NDArray[Any]) -> Found:
        return search(query)[:2]

    def and_tail(found: Found, query: NDArray[Any]) -> Found:
        late = exact_search(metric, rows, query, wanted, start=stop, stop=n, allowed=allowed)
        return merge(found, late, wanted)

    def with_tail(query: NDArray[Any]) -> Found:
        return and_tail(search(query)[:2], query)

    def told(query: NDArray[Any]) -> tuple[Found, dict[str, Any]]:
        outcome = search(query)
        found = outcome[:2]
        return (found if stop == n else and_tail(found, query)), outcome.explain(way.kind)

    return (one if stop == n else with_tail), told


class _Carried:
    """A way, ready to be gone by many threads."""

    def __init__(self, target: Target, wanted: int, way: Way) -> None:
        assert target.graph is not None, "a way is planned only where a graph is"
        assert target.graph.filtered is not None, "and only where it has scans"
        self._filtered = target.graph.filtered
        self._scan: CodeScan = self._filtered.scan
        self._rows, self._allowed, self._way = target.rows, target.allowed, way
        self.stop = min(target.indexed, target.n)
        self._matches = self._scan.count(target.allowed, self.stop)
        self._k = min(wanted, self._matches)
        self.ways: dict[str, Callable[[NDArray[Any]], Outcome]] = {
            "list": self._list,
            "cells": self._cells,
            "sweep": self._sweep,
        }
        if not self._k:  # all matches are in the tail
            self.ways = dict.fromkeys(self.ways, self._nothing)

    def _nothing(self, _: NDArray[Any]) -> Outcome:
        return Outcome(np.empty(0, np.uint32), np.empty(0, np.float32), 0, self._way.kind)

    def _list(self, query: NDArray[Any]) -> Outcome:
        effort = self._way.effort
        found = self._listed(query, effort.rescore)
        if found.gap >= effort.gap:
            return Outcome(found.slots, found.distances, found.rows, "list")
        more = self._listed(query, effort.rescored(found.gap, self._k))
        return Outcome(more.slots, more.distances, found.rows + more.rows, "list")

    def _listed(self, query: NDArray[Any], rescore: int) -> Scanned:
        """Estimate every match, re-score so many."""
        return self._scan.scan_list(
            query,
            self._k,
            rows=self._rows,
            limit=self.stop,
            allowed=self._allowed,
            matches=self._matches,
            rescore=rescore,
        )

    def _cells(self, query: NDArray[Any]) -> Outcome:
        return self._near(query, self._way.members)

    def _near(self, query: NDArray[Any], most: int) -> Outcome:
        """Scan the nearest cells, looking at so many members."""
        effort = self._way.effort
        found: Scanned = self._scan.scan_cells(
            query,
            self._k,
            rows=self._rows,
            limit=self.stop,
            allowed=self._allowed,
            matches=self._matches,
            rescore=effort.rescore,
            quota=effort.quota,
            margin=effort.margin,
            most=most,
        )
        slots, distances, rows, _, _, _, members, gave_up, gap = found
        near = rows - self._matches if gave_up else rows
        local = near / members if members else None
        if gap < effort.gap:  # all matches are about as far, or many: which are nearest takes all of them
            more = self._listed(query, effort.rescored(gap, self._k))
            return Outcome(more.slots, more.distances, rows + more.rows, "list", members, 0, local)
        return Outcome(slots, distances, rows, "list" if gave_up else "cells", members, 0, local)

    def _sweep(self, query: NDArray[Any]) -> Outcome:
        effort = self._way.effort.sweep
        found = sweep(
            self._filtered.index, query, self._k, effort, rows=self._rows, limit=self.stop, allowed=self._allowed
        )
        if found.whole and len(found.slots) == self._k:
            return Outcome(found.slots, found.distances, found.seen, "sweep", 0, found.hops)
        again = self._near(query, self._way.afterwards)
        return again._replace(rows=again.rows + found.seen, hops=found.hops)
