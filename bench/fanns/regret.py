"""How far the planner is from the best single method of ours in each cell, and from the best rival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.fanns.engines import METHODS, RIVALS

__all__ = ["RECALL", "best_of", "regrets"]

RECALL = 0.95
PLANNER, BY_TEXT = "vicinal", "vicinal-collection"


def best_of(engines: Mapping[str, Any], among: Mapping[str, Any]) -> tuple[str, float] | None:
    """The fastest engine of a cell that reached the recall, and its QPS."""
    reached = {
        name: engines[name]["fastest"]["qps"]
        for name in among
        if engines.get(name, {}).get("fastest", {}).get("recall", 0) >= RECALL
    }
    name = max(reached, key=lambda one: reached[one], default=None)
    return None if name is None else (name, reached[name])


def regrets(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Per cell: the best method and rival, the planner's regret and its speed in terms of the rival; a summary.

    Regret is the best method's QPS in the planner's, at the recall (`fastest`) and with default settings (`default`),
    where those reach it.
    """
    told: dict[str, Any] = {}
    for cell, result in cells.items():
        engines = result["engines"]
        method, rival = best_of(engines, METHODS), best_of(engines, RIVALS)
        one: dict[str, Any] = {"method": method and method[0], "rival": rival and rival[0]}
        for key in ("fastest", "default"):
            ours = engines.get(PLANNER, {}).get(key)
            if ours and method and ours["recall"] >= RECALL:
                one[f"regret_{key}"] = round(method[1] / ours["qps"], 3)
            for name, short in ((PLANNER, "kernel"), (BY_TEXT, "collection")):
                mine = engines.get(name, {}).get(key)
                if mine and rival and mine["recall"] >= RECALL:
                    one[f"{short}_to_rival_{key}"] = round(mine["qps"] / rival[1], 3)
        told[cell] = one
    return {"cells": told, "summary": {key: _summary(told, f"regret_{key}") for key in ("fastest", "default")}}


def _summary(told: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Median, 90th percentile and worst over the cells."""
    values = [one[key] for one in told.values() if key in one]
    if not values:
        return None
    middle, high = np.percentile(values, [50, 90])
    return {"cells": len(values), "median": float(middle), "p90": float(high), "max": float(max(values))}
