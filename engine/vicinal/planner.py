"""Choose how to search one dense field, and do it: exact scan, exact list, or a sweep of the graph.

The promise is min(k, matches) results, always. A sweep that comes back short is answered again by an exact scan.
Slots that the graph does not have yet (the tail) are scanned exactly and merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.index.exact import exact_search, exact_search_list
from vicinal.index.field_index import Searcher
from vicinal.types import Bits, Metric, Rows
from vicinal.view import count_bits, slots_from_bits

__all__ = ["Found", "Plan", "Target", "default_ef", "plan_search", "search"]

EF_DEFAULT: Final = 128
# Distances that a sweep computes per unit of ef, times what a random row costs beside a row of a scan (measured
# on 384-d text: 10 distances per ef, twice the time each). A sweep under a filter visits 1 / selectivity times more.
SWEEP_COST: Final = 20
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

    @property
    def matches(self) -> int:
        """How many slots may be returned."""
        return self.n if self.allowed is None else count_bits(self.allowed)


@dataclass(slots=True)
class Plan:
    """What was chosen and why; `explain` shows it."""

    kind: str  # empty, exact, list, sweep or cells
    matches: int
    n: int
    tail: int
    ef: int = 0
    fallback: bool = False
    seconds: float = 0.0

    def explain(self) -> dict[str, Any]:
        """The plan as plain values."""
        share = self.matches / self.n if self.n else 0.0
        return {
            "plan": self.kind,
            "cardinality": self.matches,
            "selectivity": round(share, 6),
            "tail": self.tail,
            "ef": self.ef,
            "fallback": self.fallback,
            "search_ms": round(self.seconds * 1e3, 3),
        }


def default_ef(k: int) -> int:
    """Beam width when the caller names none."""
    return min(max(EF_DEFAULT, 2 * k), limits.EF_MAX)


def plan_search(target: Target, k: int, ef: int, exact: bool) -> Plan:
    """The cheapest way that keeps the promise, from the exact number of matches."""
    matches = target.matches
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
    return plan


def search(target: Target, query: NDArray[Any], k: int, plan: Plan) -> Found:
    """Carry the plan out: min(k, matches) nearest slots."""
    started = perf_counter()
    wanted = min(k, plan.matches)
    if plan.kind == "empty":
        found = Found(np.empty(0, np.uint32), np.empty(0, np.float32))
    elif plan.kind in ("sweep", "cells"):
        found = _sweep(target, query, wanted, plan)
    else:
        found = _exact(target, query, wanted, plan.kind)
    plan.seconds = perf_counter() - started
    return found


def _exact(target: Target, query: NDArray[Any], k: int, kind: str) -> Found:
    if kind == "list" and target.allowed is not None:
        slots = slots_from_bits(target.allowed, target.n)
        return Found(*exact_search_list(target.metric, target.rows, query, k, slots))
    return Found(*exact_search(target.metric, target.rows, query, k, start=0, stop=target.n, allowed=target.allowed))


def _sweep(target: Target, query: NDArray[Any], k: int, plan: Plan) -> Found:
    assert target.graph is not None, "a sweep is planned only where a graph is"
    stop = min(target.indexed, target.n)
    slots, distances = target.graph.search(query, k, plan.ef, rows=target.rows, limit=stop, allowed=target.allowed)
    if stop < target.n:
        tail = exact_search(target.metric, target.rows, query, k, start=stop, stop=target.n, allowed=target.allowed)
        slots, distances = merge((slots, distances), tail, k)
    if len(slots) < k:  # the walk ended in a part of the graph with too few matches
        plan.fallback = True
        return _exact(target, query, k, "exact")
    return Found(slots, distances)


Pair = tuple[NDArray[np.uint32], NDArray[np.float32]]


def merge(one: Pair, other: Pair, k: int) -> Pair:
    """The k nearest of two answers over different slots, ties by slot."""
    slots = np.concatenate((one[0], other[0]))
    distances = np.concatenate((one[1], other[1]))
    best = np.lexsort((slots, distances))[:k]
    return slots[best], distances[best]
