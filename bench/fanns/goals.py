"""What was asked of filtered search, read from a whole result of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from bench.fanns.engines import METHODS, OURS
from bench.fanns.regret import PLANNER

__all__ = ["Asked", "asked"]

Read = Callable[[dict[str, Any]], tuple[float, str]]
_OVERLAYS: Final = ("acorn-gamma", "filtered-vamana", "stitched-vamana", "ung", "serf", "irangegraph", "ivf2")


class Asked(NamedTuple):
    """One figure: what it is, what was asked, and how it is read; the lower the better where `most`."""

    what: str
    words: str
    limit: float
    most: bool
    read: Read


def asked() -> Iterator[Asked]:
    """Every figure."""
    yield Asked("answers in full, worst cell", "1", 1.0, False, _worst("full", min, OURS))
    yield Asked("false positives", "0", 0.0, True, _worst("false_positives", max, OURS))
    yield Asked("recall@10 by default, worst cell", "0.95", 0.95, False, _worst("recall", min, (PLANNER,)))
    yield Asked("queries below .8, worst cell", "0.5 %", 0.005, True, _worst("below_08", max, (PLANNER,)))
    yield Asked("queries at 0, worst cell", "0", 0.0, True, _worst("at_0", max, (PLANNER,)))
    yield Asked("kernel to the best rival, worst cell", "3.5 x", 3.5, False, _lead("kernel", 0.0))
    yield Asked("kernel to the best rival, half of the cells", "6 x", 6.0, False, _lead("kernel", 0.5))
    yield Asked("Collection to the best rival, worst cell", "3 x", 3.0, False, _lead("collection", 0.0))
    yield Asked("regret of the planner, median", "1.1 x", 1.1, True, _regret("median"))
    yield Asked("regret of the planner, 90 % of cells", "1.5 x", 1.5, True, _regret("p90"))
    yield Asked("regret of the planner, worst cell", "2 x", 2.0, True, _regret("max"))
    acorns, ranges = ("acorn-1", "acorn-gamma"), ("serf", "irangegraph")
    yield Asked("planner to ACORN on EM and EMIS, worst cell", "3 x", 3.0, False, _against(acorns, ("EM", "EMIS")))
    yield Asked("planner to SeRF and segment tree on R, worst cell", "1 x", 1.0, False, _against(ranges, ("R",)))
    yield Asked("building any one overlay to the base graph", "5 x", 5.0, True, _overlay("seconds"))
    yield Asked("bytes of any one overlay to the base graph", "1.5 x", 1.5, True, _overlay("bytes"))


def _worst(key: str, worst: Callable[..., float], engines: tuple[str, ...] | dict[str, str]) -> Read:
    """Over cells and engines, with default settings."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        told = {
            f"{cell}, {name}": result["engines"][name]["default"][key]
            for cell, result in answer["cells"].items()
            for name in engines
            if "default" in result["engines"].get(name, {})
        }
        value = worst(told.values())
        return value, f"{value:.4g} ({next(name for name, one in told.items() if one == value)})"

    return read


def _lead(path: str, part: float) -> Read:
    """Of speed to the best rival's, the better of tuned and default settings: that of all but a part of the cells."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        told = {}
        for cell, one in answer["regret"]["cells"].items():
            known = [one[key] for key in (f"{path}_to_rival_fastest", f"{path}_to_rival_default") if key in one]
            if known:
                told[cell] = max(known)
        value = float(np.quantile(list(told.values()), part, method="lower"))
        return value, f"{value:.2f} ({next(cell for cell, one in told.items() if one == value)})"

    return read


def _regret(key: str) -> Read:
    def read(answer: dict[str, Any]) -> tuple[float, str]:
        told = answer["regret"]["summary"]
        value = min(told[one][key] for one in ("fastest", "default") if told[one] is not None)
        worst = max(answer["regret"]["cells"].items(), key=lambda item: item[1].get("regret_fastest", 0.0))
        return value, f"{value:.2f}" + (f" ({worst[0]}, {worst[1]['method']})" if key == "max" else "")

    return read


def _against(methods: tuple[str, ...], kinds: tuple[str, ...]) -> Read:
    """Speed of the planner, the better of tuned and default settings, in terms of the best of some methods'."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        told = {}
        for cell, result in answer["cells"].items():
            engines = result["engines"]
            ours = [one["qps"] for one in _points(engines, PLANNER, answer["recall"])]
            theirs = [one["qps"] for name in methods for one in _points(engines, name, answer["recall"])]
            if result["kind"] in kinds and ours and theirs:
                told[cell] = max(ours) / max(theirs)
        cell = min(told, key=lambda one: told[one])
        return told[cell], f"{told[cell]:.2f} ({cell})"

    return read


def _points(engines: dict[str, Any], name: str, recall: float) -> list[dict[str, Any]]:
    known = (engines.get(name, {}).get(key) for key in ("fastest", "default"))
    return [one for one in known if one is not None and one["recall"] >= recall]


def _overlay(key: str) -> Read:
    """The largest of one method on one attribute, in terms of the graph that ACORN-1 walks, which is the base graph."""
    kept = {"seconds": "builds", "bytes": "sizes"}[key]

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        base = answer["engines"]["acorn-1"][kept]["any"]
        told = {
            f"{name} on {attribute}": value / base
            for name in METHODS
            if name in _OVERLAYS
            for attribute, value in answer["engines"].get(name, {}).get(kept, {}).items()
        }
        worst = max(told, key=lambda one: told[one])
        return told[worst], f"{told[worst]:.1f} ({worst})"

    return read
