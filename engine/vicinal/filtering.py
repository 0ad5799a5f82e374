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

from vicinal.index.code_scan import Among, Wanted
from vicinal.index.coded_effort import Effort
from vicinal.index.coded_scratch import bits_at
from vicinal.index.exact import Found, exact_search, exact_search_list, merge
from vicinal.index.filter_effort import listed
from vicinal.index.filter_prices import Work
from vicinal.index.filtered import FilteredIndex, Swept, sweep_words
from vicinal.index.shared_search import SharedSearcher
from vicinal.index.short import ShortSearcher
from vicinal.planner import Target, Way, over_leaders
from vicinal.types import Rows

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
    if isinstance(target.graph, SharedSearcher):
        return _by_leaders(target, target.graph, k, way, stop)
    if isinstance(target.graph, ShortSearcher):
        return _by_leading(target, target.graph, matches, k, way, stop)
    among = Among(matches, 0 if target.allowed is None else bits_at(target.allowed, stop), target.allowed)
    carried = Carried.of(filtered, target.rows, stop, k, way)
    go = carried.go
    return lambda query: go(query, among)


def _by_leaders(
    target: Target, graph: SharedSearcher, k: int, way: Way, stop: int
) -> Callable[[NDArray[Any]], Outcome]:
    """How slots are searched by the leaders of their groups: as many, of whose members the k nearest."""
    inner = over_leaders(target, graph, stop)
    matches = inner.matches
    wanted = min(graph.candidates(k), matches)
    near = carry(inner, matches, wanted, way, inner.n)
    rows, allowed = target.rows, target.allowed

    def search(query: NDArray[Any]) -> Outcome:
        outcome = near(query)
        found = np.ascontiguousarray(outcome.slots, np.uint32), outcome.distances
        slots, distances = graph.settle(query, found, k, rows=rows, limit=stop, allowed=allowed)
        return outcome._replace(slots=slots, distances=distances)

    return search


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


class Carried:
    """A way to the k nearest, ready to be gone by many threads, among any slots below `stop` that it was chosen for."""

    __slots__ = (
        "_cells",
        "_effort",
        "_farther",
        "_filtered",
        "_k",
        "_late",
        "_list",
        "_packed",
        "_rows",
        "_scan",
        "_stop",
        "go",
        "reads_lists",
    )

    def __init__(self, filtered: FilteredIndex, rows: Rows, stop: int, k: int, way: Way) -> None:
        effort = way.effort
        self._filtered, self._rows, self._stop, self._k, self._effort = filtered, rows, stop, k, effort
        self._scan = filtered.scan
        self._list = Wanted(k, rescore=effort.rescore)
        self._cells = Wanted(k, effort.quota, effort.rescore, effort.margin, way.members)
        self._late = self._cells._replace(most=way.afterwards)
        self._packed = filtered.pack(effort.sweep)
        self._farther = way.farther, filtered.pack(way.farther)
        self.reads_lists = way.kind == "list"
        self.go = {"list": self._listed, "cells": self._near, "sweep": self._swept}[way.kind]

    def brief(self, query: NDArray[Any], among: Among) -> Found:
        """What `go` finds."""
        if self.reads_lists:
            found = self._scan.seek(query, self._rows, self._stop, among, self._list)
            if found[-1] >= self._effort.gap:
                return found[:2]
            return self._again(query, among, found[-1], Work, None)[:2]
        return self.go(query, among)[:2]

    @classmethod
    def of(cls, filtered: FilteredIndex, rows: Rows, stop: int, k: int, way: Way) -> Carried:
        """The same, after a check of what the kernels would read."""
        made = cls(filtered, rows, stop, k, way)
        made._scan.check(made._list, rows, stop)
        return made

    def _listed(self, query: NDArray[Any], among: Among) -> Outcome:
        """Estimate every match; re-score more of them where estimates lie close together."""
        slots, distances, _, _, _, _, _, _, gap = self._scan.seek(query, self._rows, self._stop, among, self._list)

        def work() -> Work:
            return self._effort.list_work(self._stop, among.matches)

        if gap >= self._effort.gap:
            return Outcome(slots, distances, "list", work)
        return self._again(query, among, gap, work, None)

    def _again(
        self, query: NDArray[Any], among: Among, gap: float, before: Callable[[], Work], local: float | None
    ) -> Outcome:
        """Estimate every match and re-score more than left this gap."""
        rescore = self._effort.rescored(gap, self._k)
        wanted = self._list._replace(rescore=rescore)
        slots, distances = self._scan.seek(query, self._rows, self._stop, among, wanted)[:2]
        again = listed(self._stop, among.matches, rescore)
        return Outcome(slots, distances, "list", lambda: before().and_then(again), local)

    def _near(
        self, query: NDArray[Any], among: Among, wanted: Wanted | None = None, before: Callable[[], Work] = Work
    ) -> Outcome:
        """Scan the nearest cells, after some work that was in vain."""
        effort = self._effort
        slots, distances, rows, _, _, _, members, gave_up, gap = self._scan.seek(
            query, self._rows, self._stop, among, wanted or self._cells
        )
        if among.matches <= effort.rescore:  # none was estimated
            whole = effort.list_work(self._stop, among.matches)
            return Outcome(slots, distances, "cells", lambda: before().and_then(whole))
        near = rows - among.matches if gave_up else rows
        local = near / members if members else None

        def work() -> Work:
            counts = Work(
                words=self._stop / 64 if gave_up else 0,
                rows=rows,
                settled=min(effort.rescore, rows),
                centres=self._filtered.lists.cells,
                members=members,
            )
            return before().and_then(counts)

        if gap < effort.gap:  # all matches are about as far, or many: which are nearest takes all of them
            return self._again(query, among, gap, work, local)
        return Outcome(slots, distances, "list" if gave_up else "cells", work, local)

    def _swept(self, query: NDArray[Any], among: Among) -> Outcome:
        """Walk the graph; where too few matches are near the query, go on with the nearest cells."""
        effort = self._effort
        found = self._walked(query, among, effort.sweep, self._packed)
        work = Work(hops=found.hops, seen=found.seen, settled=effort.sweep.rescore)
        if found.whole and len(found.slots) == self._k:
            if found.slack < effort.slack:
                found = self._walked(query, among, *self._farther)
                work = work.and_then(Work(hops=found.hops, seen=found.seen, settled=effort.sweep.rescore))
            return Outcome(found.slots, found.distances, "sweep", lambda: work)
        return self._near(query, among, self._late, lambda: work)

    def _walked(self, query: NDArray[Any], among: Among, effort: Effort, packed: int) -> Swept:
        index = self._filtered.index
        return sweep_words(index, query, self._k, effort, packed, self._rows, self._stop, among.words)
