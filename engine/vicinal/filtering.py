"""Answer queries under a filter over a coded graph: list, cells or sweep, and what follows where matches lie elsewhere.

A sweep that ended among matches which are all about as far walks again and farther, since nearer ones may have been
missed. One that comes to the end of its pool before as many matches as it wanted were near is in a part of the graph
with few of them: the nearest cells are scanned, where that can cost less than the list, else every match. A scan of
cells goes on by its margin and turns into a list by itself. Where estimates lie closer together than they are exact, as
of matches that are all far away, more of them are re-scored. Slots not in the graph yet are compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.code_scan import Scanned
from vicinal.index.coded_effort import Effort
from vicinal.index.exact import Found, exact_search, exact_search_list, merge
from vicinal.index.filter_effort import listed
from vicinal.index.filter_prices import Work
from vicinal.index.filtered import FilteredIndex, Swept, sweep
from vicinal.index.short import ShortSearcher
from vicinal.planner import Target, Way
from vicinal.types import Bits, Rows

__all__ = ["Carried", "Outcome", "answer_filtered", "carry"]


class Outcome(NamedTuple):
    """An answer over the slots in the graph, and what it took, which is added up when it is asked for.

    `last`: the way that gave the answer. `local`: share of the members looked at that matched, where some were.
    """

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    last: str
    counted: Callable[[], Work]
    local: float | None = None

    @property
    def work(self) -> Work:
        """What was done."""
        return self.counted()

    def explain(self, planned: str) -> dict[str, Any]:
        """What is worth telling, as plain values."""
        work = self.work
        told = {"answered_by": self.last, "fallback": self.last != planned, "rows_scored": int(work.rows + work.seen)}
        told |= {"members_visited": int(work.members), "hops": int(work.hops), "rescored": int(work.settled)}
        return told | {"selectivity_near": None if self.local is None else round(self.local, 6)}


def answer_filtered(
    target: Target, matches: int, wanted: int, way: Way
) -> tuple[Callable[[NDArray[Any]], Found], Callable[[NDArray[Any]], tuple[Found, dict[str, Any]]]]:
    """How to find the `wanted` nearest of the `matches` allowed slots, at most as many: briefly, and telling of it."""
    stop, n = min(target.indexed, target.n), target.n
    search = carry(target, matches, wanted, way, stop)
    metric, rows, allowed = target.metric, target.rows, target.allowed

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


def carry(target: Target, matches: int, wanted: int, way: Way, stop: int) -> Callable[[NDArray[Any]], Outcome]:
    """How the slots below `stop`, which the graph has, are searched."""
    assert target.graph is not None, "a way is planned only where a graph is"
    filtered = target.graph.filtered
    assert filtered is not None, "and only where it has scans"
    if stop < target.n:
        matches = filtered.scan.count(target.allowed, stop)
    k = min(wanted, matches)
    if not k:  # all matches are in the tail
        none = Outcome(np.empty(0, np.uint32), np.empty(0, np.float32), way.kind, Work)
        return lambda _: none
    if isinstance(target.graph, ShortSearcher):
        return _by_leading(target, target.graph, matches, k, way, stop)
    carried = Carried(filtered, target.rows, target.allowed, stop, matches, k, way)
    return {"list": carried.listed, "cells": carried.cells, "sweep": carried.sweep}[way.kind]


def _by_leading(
    target: Target, graph: ShortSearcher, matches: int, k: int, way: Way, stop: int
) -> Callable[[NDArray[Any]], Outcome]:
    """How slots are searched by leading dimensions: several times as many, of which the k nearest on all."""
    wanted = graph.candidates(k)
    inner = Target(target.metric, graph.short, graph.inner, target.indexed, stop, target.allowed, target.narrowed)
    wider = way._replace(effort=way.effort.wider(wanted, 1))
    near = carry(inner, matches, wanted, wider, stop)
    metric, rows, allowed = target.metric, target.rows, target.allowed

    def search(query: NDArray[Any]) -> Outcome:
        head = graph.head(query)
        if not head.any():  # as near to all rows
            found = exact_search(metric, rows, query, k, start=0, stop=stop, allowed=allowed)
            return Outcome(*found, "exact", lambda: Work(words=stop / 64, settled=matches))
        outcome = near(head)
        slots, distances = exact_search_list(metric, rows, np.ascontiguousarray(query), k, outcome.slots)
        return outcome._replace(slots=slots, distances=distances)

    return search


class Carried(NamedTuple):
    """A way to the k nearest, ready to be gone by many threads.

    `allowed`: of the slots below `stop`, of which `matches` are, at least k.
    """

    filtered: FilteredIndex
    rows: Rows
    allowed: Bits | None
    stop: int
    matches: int
    k: int
    way: Way

    def listed(self, query: NDArray[Any]) -> Outcome:
        """Estimate every match; re-score more of them where estimates lie close together."""
        effort = self.way.effort
        found = self._scan_list(query, effort.rescore)
        if found.gap >= effort.gap:
            return Outcome(found.slots, found.distances, "list", self._list_work)
        return self._again(query, found.gap, self._list_work, None)

    def _list_work(self) -> Work:
        return self.way.effort.list_work(self.stop, self.matches)

    def _again(self, query: NDArray[Any], gap: float, before: Callable[[], Work], local: float | None) -> Outcome:
        """Estimate every match and re-score more than left this gap."""
        rescore = self.way.effort.rescored(gap, self.k)
        found = self._scan_list(query, rescore)
        return Outcome(
            found.slots,
            found.distances,
            "list",
            lambda: before().and_then(listed(self.stop, self.matches, rescore)),
            local,
        )

    def _scan_list(self, query: NDArray[Any], rescore: int) -> Scanned:
        return self.filtered.scan.scan_list(
            query,
            self.k,
            rows=self.rows,
            limit=self.stop,
            allowed=self.allowed,
            matches=self.matches,
            rescore=rescore,
        )

    def cells(self, query: NDArray[Any]) -> Outcome:
        """Scan the nearest cells."""
        return self._near(query, self.way.members, Work)

    def _near(self, query: NDArray[Any], most: int, before: Callable[[], Work]) -> Outcome:
        """Scan the nearest cells, looking at so many members, after some work that was in vain."""
        effort = self.way.effort
        found: Scanned = self.filtered.scan.scan_cells(
            query,
            self.k,
            rows=self.rows,
            limit=self.stop,
            allowed=self.allowed,
            matches=self.matches,
            rescore=effort.rescore,
            quota=effort.quota,
            margin=effort.margin,
            most=most,
        )
        slots, distances, rows, _, _, _, members, gave_up, gap = found
        if self.matches <= effort.rescore:  # none was estimated
            return Outcome(slots, distances, "cells", lambda: before().and_then(self._list_work()))
        near = rows - self.matches if gave_up else rows
        local = near / members if members else None

        def work() -> Work:
            counts = Work(
                words=self.stop / 64 if gave_up else 0,
                rows=rows,
                settled=min(effort.rescore, rows),
                centres=self.filtered.lists.cells,
                members=members,
            )
            return before().and_then(counts)

        if gap < effort.gap:  # all matches are about as far, or many: which are nearest takes all of them
            return self._again(query, gap, work, local)
        return Outcome(slots, distances, "list" if gave_up else "cells", work, local)

    def sweep(self, query: NDArray[Any]) -> Outcome:
        """Walk the graph; where too few matches are near the query, go on with the nearest cells."""
        effort = self.way.effort
        found = self._walked(query, effort.sweep)
        work = Work(hops=found.hops, seen=found.seen, settled=effort.sweep.rescore)
        if found.whole and len(found.slots) == self.k:
            if found.slack < effort.slack:
                found = self._walked(query, self.way.farther)
                work = work.and_then(Work(hops=found.hops, seen=found.seen, settled=effort.sweep.rescore))
            return Outcome(found.slots, found.distances, "sweep", lambda: work)
        return self._near(query, self.way.afterwards, lambda: work)

    def _walked(self, query: NDArray[Any], effort: Effort) -> Swept:
        filtered = self.filtered
        return sweep(filtered.index, query, self.k, effort, rows=self.rows, limit=self.stop, allowed=self.allowed)
