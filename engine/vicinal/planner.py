"""Choose how to search one dense field; `searching` does it.

    empty    nothing matches
    exact    every slot is compared on its stored vector, or (`list`) every match, where that reads fewer
    list     under a filter, over codes: every match is estimated, the best are re-scored
    cells    matches in the nearest cells are estimated
    sweep    the graph is walked; what may not be returned is routed through

Under a filter a coded graph has all three last ways, and what each takes was fitted when it was built (see
`FilterEfforts`). The cheapest is taken. The list alone does not depend on where the matches lie; the others notice when
these are not where a random filter would leave them, and the list follows; each has a budget, so that no plan costs
more than about twice the list. Cells are left early where the first of them hold few matches, and hold enough of them
sooner where the filter goes with the query.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.bits import count_bits
from vicinal.index.coded_effort import Effort
from vicinal.index.field_index import Searcher
from vicinal.index.filter_effort import FilterEffort
from vicinal.index.filtered import FilteredIndex, Table
from vicinal.index.shared_search import SharedSearcher
from vicinal.types import Bits, Metric, Rows

__all__ = [
    "STEPS_MOST",
    "Found",
    "Plan",
    "Target",
    "Way",
    "choose_way",
    "default_ef",
    "ef_for",
    "over_leaders",
    "plan_search",
    "way_for",
]

EF_DEFAULT: Final = 128
_DEFAULT_RECALL: Final = 0.95  # of the ten nearest, that the default width is to find
_WIDER_MOST: Final = 8  # times as wide
# Distances that a sweep computes per unit of ef, times what a random row costs beside a row of a scan (measured
# on 384-d text: 10 distances per ef, twice the time each). A sweep under a filter visits 1 / selectivity times more.
SWEEP_COST: Final = 20
_MEASURED_K: Final = 10
_EASY_RECALL: Final = 0.99  # that the default ef reaches on graphs of floats, which are small and have no table
_UNMEASURED_FACTOR: Final = 4
_GOAL: Final = 0.98  # recall under a filter, where that of the ef was not measured
_SWEEP_BUDGET: Final = 0.6  # of the price of a list
_FARTHER_BUDGET: Final = 1.4  # of that, for the walk that follows one which ended too soon; nothing follows it
_USUAL: Final = 1.5  # times the mean of nodes that a sweep expands, for which there must be room
_CELLS_BUDGET: Final = 0.75
_AFTERWARDS: Final = 1.0  # of a sweep in vain and the scan of cells that follows it
_WAYS_MAX: Final = 4096  # remembered of one index
STEPS_MOST: Final = 6  # by which the effort of queries with a recall_target is raised before they are answered exactly
LIST_SHARE: Final = 0.25  # a list of slots is scanned faster than a masked range below this share


class Found(NamedTuple):
    """Slots (m,) uint32 and distances (m,) float32, nearest first, ties by slot."""

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]


class Target(NamedTuple):
    """One dense field (or the proxies of a multi field) as a query sees it."""

    metric: Metric
    rows: Rows
    graph: Searcher | None
    indexed: int
    n: int
    allowed: Bits | None  # None: all n may be returned
    narrowed: bool = False  # by a filter, not by deaths alone

    @property
    def matches(self) -> int:
        """How many slots may be returned."""
        return self.n if self.allowed is None else count_bits(self.allowed)


class Way(NamedTuple):
    """How to search a coded graph under a filter.

    members: of cells to look at before a list is scanned instead; `afterwards`: the same after a sweep in vain.
    `farther`: the walk that follows one which ended too soon.
    """

    kind: str  # list, cells or sweep
    effort: FilterEffort
    members: int
    afterwards: int
    farther: Effort


@dataclass(slots=True)
class Plan:
    """What was chosen and why; `explain` shows it.

    recall: of the ten nearest at this ef without a filter, as measured on rows of the index; None where a graph is not
    walked or was not measured.
    """

    kind: str  # empty, exact, list, cells or sweep
    matches: int
    n: int
    tail: int
    ef: int = 0
    recall: float | None = None
    fallback: bool = False
    way: Way | None = None
    checked: Callable[[], dict[str, Any]] | None = None  # recall that exact checks of such queries found
    filter_seconds: float = 0.0
    plan_seconds: float = 0.0

    def explain(self, seconds: float) -> dict[str, Any]:
        """The plan, and the seconds a search took, as plain values."""
        share = self.matches / self.n if self.n else 0.0
        return {
            "plan": self.kind,
            "cardinality": self.matches,
            "selectivity": round(share, 6),
            "tail": self.tail,
            "ef": self.ef,
            "recall_measured": self.recall,
            **({} if self.checked is None else self.checked()),
            "fallback": self.fallback,
            "filter_ms": round(self.filter_seconds * 1e3, 3),
            "plan_ms": round(self.plan_seconds * 1e3, 3),
            "search_ms": round(seconds * 1e3, 3),
        }


def default_ef(k: int, graph: Searcher | None = None) -> int:
    """Beam width when the caller names none: wider where the graph's table says that this finds too little.

    Inner products of independent directions, for one, have neighbours that lie everywhere.
    """
    width = min(max(EF_DEFAULT, 2 * k), limits.EF_MAX)
    found = graph.recall_at(width) if graph is not None else None
    if graph is None or found is None or found >= _DEFAULT_RECALL:
        return width
    wanted = graph.ef_for(_DEFAULT_RECALL) or width
    return max(width, min(wanted, _WIDER_MOST * width, limits.EF_MAX))


def ef_for(graph: Searcher | None, k: int, recall_target: float) -> int:
    """The beam width that is to reach a recall of the k nearest, from the graph's table where it has one.

    The table holds the ten nearest, and the width of more results grows with them.
    """
    measured = graph.ef_for(recall_target) if graph is not None else None
    if measured is not None:
        return min(max(measured, measured * k // _MEASURED_K), limits.EF_MAX)
    return min(default_ef(k) * (_UNMEASURED_FACTOR if recall_target > _EASY_RECALL else 1), limits.EF_MAX)


def way_for(filtered: FilteredIndex, k: int, ef: int, goal: float | None, n: int, matches: int, steps: int = 0) -> Way:
    """The way that `choose_way` gives for about as many matches, remembered.

    Numbers of matches that agree in their first four bits share a way, so that filters that differ little do not plan
    anew, which takes as long as a short search.
    """
    part = max(matches.bit_length() - 4, 0)
    about = matches >> part
    key = k, ef, goal, n, about, part, steps
    known: Way | None = filtered.chosen.get(key)
    if known is None:
        least = about << part
        reached = _reached(filtered.table, ef) if goal is None else goal
        about_matches = least + (1 << part >> 1)
        known = choose_way(filtered, k, ef, _GOAL if reached is None else reached, n, about_matches, steps)
        if len(filtered.chosen) >= _WAYS_MAX:
            filtered.chosen.clear()
        filtered.chosen[key] = known
    return known


def _reached(table: Table, ef: int) -> float | None:
    """The recall that an ef reaches without a filter, between two measured ones by the logarithm of the ef."""
    efs = table.efs
    at = bisect_right(efs, ef)
    if not at or at == len(efs):
        return table.recall_at(max(ef, efs[0])) if efs else None
    (low, less), (high, more) = ((one, table.recall_at(one)) for one in (efs[at - 1], efs[at]))
    if less is None or more is None:
        return less
    return less + (more - less) * math.log(ef / low) / math.log(high / low)


def choose_way(filtered: FilteredIndex, k: int, ef: int, goal: float, n: int, matches: int, steps: int = 0) -> Way:
    """The cheapest of list, cells and sweep for the k nearest of so many matches among n slots.

    goal: recall to reach under random filters. An ef beyond what was measured makes each try harder, and so do steps
    by which what was fitted fell short of the goal.
    """
    prices = filtered.prices
    most = filtered.table.efs[-1] if filtered.table.efs else ef
    level, times = filtered.efforts.raised(goal, steps)
    effort = level.at(matches / n).wider(k, max(ef / max(most, 1), 1) * times)
    listed = prices.of(effort.list_work(n, matches))
    celled, swept = prices.of(effort.cells_work(filtered.lists.cells)), prices.of(effort.sweep_work())
    step = prices.hop + 16 * prices.seen
    pool = min(effort.sweep.pool, int(_SWEEP_BUDGET * listed / step) & -8)
    if pool < max(min(effort.sweep.pool, _USUAL * effort.hops), effort.sweep.stop + 8):
        swept = math.inf  # it would end before it is through
    kind = "cells" if celled <= swept else "sweep"
    if listed <= min(celled, swept):
        kind = "list"
    sweep: Effort = effort.sweep._replace(pool=max(pool, 8))
    members = listed / prices.member
    farther = effort.farther(int(_FARTHER_BUDGET * listed / step))
    within = effort._replace(sweep=sweep)
    spent = within.sweep.pool * step / listed
    afterwards = min(_AFTERWARDS - min(spent, _SWEEP_BUDGET), _CELLS_BUDGET)
    return Way(kind, within, int(_CELLS_BUDGET * members), int(afterwards * members), farther)


def over_leaders(target: Target, graph: SharedSearcher, stop: int) -> Target:
    """The leaders of near-copies among the slots below `stop`, as slots of their own."""
    groups = graph.groups.below(stop)
    allowed = None if target.allowed is None else graph.admitted(target.allowed, stop)
    return Target(target.metric, graph.leaders, graph.inner, groups, groups, allowed, target.narrowed)


def _under_filter(
    target: Target, filtered: FilteredIndex, k: int, ef: int, goal: float | None, matches: int, steps: int
) -> Plan:
    """The plan where there are codes to scan."""
    n = min(target.indexed, target.n)
    walked, matched = n, min(matches, n)
    if isinstance(target.graph, SharedSearcher):
        leaders, k = over_leaders(target, target.graph, n), target.graph.candidates(k)
        walked, matched = leaders.n, max(leaders.matches, 1)
    way = way_for(filtered, k, ef, goal, walked, matched, steps)
    return Plan(way.kind, matches, target.n, target.n - n, ef, way=way)


def plan_search(target: Target, k: int, ef: int, exact: bool, goal: float | None = None, steps: int = 0) -> Plan:
    """The cheapest way that keeps the promise, from the exact number of matches.

    goal: recall of the ten nearest to reach under a filter; None: what `ef` reaches without one. steps: how often the
    effort for that goal was found to be too little.
    """
    matches = target.matches
    filtered = target.graph.filtered if target.graph is not None else None
    scarce = target.narrowed or matches * 2 < target.n  # else so few are dead that the walk is as without them
    if matches and filtered is not None and target.allowed is not None and scarce and not exact and target.indexed:
        return _under_filter(target, filtered, k, ef, goal, matches, steps)
    plan = Plan("exact", matches, target.n, target.n - min(target.indexed, target.n))
    if not matches:
        plan.kind = "empty"
    elif (
        exact
        or target.graph is None
        or matches <= max(limits.EXACT_BELOW_ROWS, k)
        or (target.graph.layout != "cells" and matches * matches <= SWEEP_COST * ef * target.n)
    ):
        plan.kind = "list" if matches < LIST_SHARE * target.n else "exact"
    else:
        plan.kind, plan.ef = "cells" if target.graph.layout == "cells" else "sweep", ef
        plan.recall = target.graph.recall_at(ef)
    return plan
