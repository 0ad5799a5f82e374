"""One knob: how a walk's inner parameters follow from ef, by a table measured on the index's own rows.

    pool      estimates kept: about ef, a multiple of 8; no walk expands more nodes
    stop      the walk ends when the best estimate exceeds the stop-th exact distance
    rescore   best unexpanded nodes scored after the walk
    settle    nodes settled on the stored floats

Measuring takes rows as queries that the walk is not allowed to see (`hidden`): rows as plain queries find themselves
in the graph and are too easy by a third. Cost is counted in rows read, not in seconds, so the same rows and seed
give the same table on any machine. Of all measured efforts the table keeps those that nothing cheaper equals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

__all__ = ["Effort", "EffortTable", "Measured", "trial_efforts"]

K = 10  # neighbours whose recall is measured
RESCORE_COST = 0.2  # of a row scored at the end, in rows expanded
_STOPS_ROWS = (4, 6, 8, 10, 13, 18, 26, 38, 54, 76, 130, 220, 350)
_STOPS_LINKS = (5, 7, 10, 14, 18, 24, 30, 36, 48, 70, 90, 130, 200, 300, 450, 680, 1000)
_GOOD_ENOUGH = 0.9985  # nothing further is measured


class Effort(NamedTuple):
    """Inner parameters of one walk, in nodes."""

    pool: int
    stop: int
    rescore: int
    settle: int


class Measured(NamedTuple):
    """An effort, the recall of the ten nearest it reached, and its cost in rows read."""

    effort: Effort
    recall: float
    cost: float


def _multiple(count: float) -> int:
    return (int(count) + 7) & -8


def _by_stop(stop: int, rescore: int, *, exact_walk: bool) -> Effort:
    """Give the effort that goes with a stop: the line through what was measured on text and pixels."""
    if exact_walk:
        return Effort(max(_multiple(1.2 * stop + 28), 32), stop, rescore, K + 2)
    return Effort(max(_multiple(1.25 * stop + 8), 16), stop, 0, rescore)


def trial_efforts(*, exact_walk: bool) -> Iterable[tuple[Effort, ...]]:
    """Give the efforts to measure, group by group, each group harder than the one before."""
    stops = _STOPS_ROWS if exact_walk else _STOPS_LINKS
    for stop in stops:
        few, many = (8, 32) if exact_walk else (12, 32)
        middle = min(max(few + 4, few + stop // 2), many - 8)
        yield tuple(_by_stop(stop, rescore, exact_walk=exact_walk) for rescore in (few, middle, many))


def _frontier(measured: Iterable[Measured]) -> tuple[Measured, ...]:
    """Keep what nothing cheaper equals in recall and no smaller pool beats, by cost."""
    kept: list[Measured] = []
    for one in sorted(measured, key=lambda m: (m.cost, -m.recall, m.effort)):
        if not kept or (one.recall > kept[-1].recall and one.effort.pool >= kept[-1].effort.pool):
            kept.append(one)
    return tuple(kept)


@dataclass(frozen=True)
class EffortTable:
    """Efforts by ef and k; `measured` ascends in cost, recall and pool, and is empty when nothing was measured."""

    exact_walk: bool
    measured: tuple[Measured, ...] = ()

    @classmethod
    def fit(cls, measure: Callable[[Effort], tuple[float, float]], *, exact_walk: bool) -> EffortTable:
        """Measure efforts until recall is all but 1: measure(effort) gives recall and rows expanded."""
        found: list[Measured] = []
        for group in trial_efforts(exact_walk=exact_walk):
            for effort in group:
                recall, hops = measure(effort)
                read = effort.rescore if exact_walk else effort.settle
                found.append(Measured(effort, recall, hops + RESCORE_COST * read))
            if max(m.recall for m in found[-len(group) :]) >= _GOOD_ENOUGH:
                break
        return cls(exact_walk, _frontier(found))

    @cached_property
    def efs(self) -> tuple[int, ...]:
        """The ef from which each measured effort is used: efforts with one pool share the step below it evenly."""
        pools = [m.effort.pool for m in self.measured]
        steps: list[int] = []
        before = 0
        for pool, group in groupby(pools):
            count = len(list(group))
            steps += [before + (pool - before) * (at + 1) // count for at in range(count)]
            before = pool
        return tuple(steps)

    def effort(self, k: int, ef: int) -> Effort:
        """Give the inner parameters for the k nearest at a given ef: more ef, more recall."""
        least = max(ef, k + k // 4) if k > K else ef
        chosen = self._standard(least)
        if self.measured and least <= self.efs[-1] + 7:
            chosen = self.measured[max(bisect_right(self.efs, least) - 1, 0)].effort
        if k <= K:
            return chosen
        pool = max(chosen.pool, _multiple(1.25 * k + 28))
        settle = max(chosen.settle, k + k // 8)
        return Effort(pool, max(chosen.stop, k), max(chosen.rescore, k // 4 if self.exact_walk else 0), settle)

    def _standard(self, ef: int) -> Effort:
        """Give the effort of an ef that was not measured."""
        if self.exact_walk:
            stop = max(int((ef - 28) / 1.2), 5)
            return _by_stop(stop, 12 if stop < 10 else 24 if stop < 100 else 32, exact_walk=True)
        stop = max(int((ef - 8) / 1.25), 12)
        return _by_stop(stop, 16 if stop < 20 else 24 if stop < 90 else 32, exact_walk=False)

    def ef_for(self, recall: float) -> int | None:
        """Give the least ef that reached a recall of the ten nearest when it was measured; None if none did."""
        for ef, one in zip(self.efs, self.measured, strict=True):
            if one.recall >= recall:
                return ef
        return None
