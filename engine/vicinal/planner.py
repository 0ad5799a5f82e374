"""Choose how to search one dense field: exact scan, exact list, or a sweep of the graph (`searching` does it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.index.field_index import Searcher
from vicinal.types import Bits, Metric, Rows
from vicinal.view import count_bits

__all__ = ["Found", "Plan", "Target", "default_ef", "ef_for", "plan_search"]

EF_DEFAULT: Final = 128
# Distances that a sweep computes per unit of ef, times what a random row costs beside a row of a scan (measured
# on 384-d text: 10 distances per ef, twice the time each). A sweep under a filter visits 1 / selectivity times more.
SWEEP_COST: Final = 20
_MEASURED_K: Final = 10
_EASY_RECALL: Final = 0.99  # that the default ef reaches on graphs of floats, which are small and have no table
_UNMEASURED_FACTOR: Final = 4
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
    """What was chosen and why; `explain` shows it.

    recall: of the ten nearest at this ef without a filter, as measured on rows of the index; None where a graph is not
    walked or was not measured.
    """

    kind: str  # empty, exact, list, sweep or cells
    matches: int
    n: int
    tail: int
    ef: int = 0
    recall: float | None = None
    fallback: bool = False

    def explain(self, seconds: float) -> dict[str, Any]:
        """The plan, and the seconds it took, as plain values."""
        share = self.matches / self.n if self.n else 0.0
        return {
            "plan": self.kind,
            "cardinality": self.matches,
            "selectivity": round(share, 6),
            "tail": self.tail,
            "ef": self.ef,
            "recall_measured": self.recall,
            "fallback": self.fallback,
            "search_ms": round(seconds * 1e3, 3),
        }


def default_ef(k: int) -> int:
    """Beam width when the caller names none."""
    return min(max(EF_DEFAULT, 2 * k), limits.EF_MAX)


def ef_for(graph: Searcher | None, k: int, recall_target: float) -> int:
    """The beam width that is to reach a recall of the k nearest, from the graph's table where it has one.

    The table holds the ten nearest, and the width of more results grows with them.
    """
    measured = graph.ef_for(recall_target) if graph is not None else None
    if measured is not None:
        return min(max(measured, measured * k // _MEASURED_K), limits.EF_MAX)
    return min(default_ef(k) * (_UNMEASURED_FACTOR if recall_target > _EASY_RECALL else 1), limits.EF_MAX)


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
        plan.recall = target.graph.recall_at(ef)
    return plan
