"""One knob: how a walk's inner parameters follow from ef, by a table measured on the index's own rows.

    pool      estimates kept: about ef, a multiple of 8; no walk expands more nodes
    stop      the walk ends when the best estimate exceeds the stop-th exact distance
    rescore   best unexpanded nodes scored after the walk
    settle    nodes settled on the stored floats

Measuring takes rows as queries that the walk is not allowed to see (`hidden`): rows as plain queries find themselves
in the graph and are too easy by a third. Cost is counted in rows read, not in seconds, so the same rows and seed
give the same table on any machine. Of all measured efforts the table keeps those that nothing cheaper equals.

An ef means what it means on floats: the same rows are searched on floats over the same links (`reference`), and an
effort belongs to the ef at which floats find as much. So ef is as good on codes, and what codes cannot reach is known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np

__all__ = [
    "GOOD_ENOUGH",
    "Effort",
    "EffortTable",
    "K",
    "Measured",
    "Reference",
    "insertion_effort",
    "results_room",
    "trial_efforts",
]

K = 10  # neighbours whose recall is measured
RESCORE_COST = 0.2  # of a row scored at the end, in rows expanded
ALLOWED = (0.003, 0.0, -0.005, -0.01)  # recall below floats' with which an effort may stand for their ef, tried in turn
LOST_LITTLE = 0.001  # of recall on a few hundred rows, below which nothing further is tried
MARGIN_SHARE = 0.1  # of the misses, by which it must beat that: measuring is noisy
LOST_MOST = 0.005  # of recall, that codes may cost
POOL_MOST = 8  # times ef: a longer walk on codes costs as much as one on floats
_STOPS_ROWS = (4, 6, 8, 10, 13, 18, 26, 38, 54, 76, 130, 220, 350, 560, 900)
_STOPS_LINKS = (5, 7, 10, 14, 18, 24, 30, 36, 48, 70, 90, 130, 200, 300, 450, 680, 1000)
GOOD_ENOUGH = 0.9985  # nothing further is measured
_STUCK = 0.9  # share of the misses that a harder group leaves where estimates are too coarse: settle more on floats
_SETTLE_FACTOR, _SETTLE_MOST = 4, 512
_SETTLE_FROM = 30  # the stop from which that holds
_FEWER_FROM = 100  # stop, from which re-scoring a few more hardly matters
_CHECK_FROM = 32  # the ef from which codes answer for what they lose
_PARTS_MOST = (1 << 15) - 8


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


class Reference(NamedTuple):
    """The recall of the ten nearest that a walk on floats reached at an ef."""

    ef: int
    recall: float


def _multiple(count: float) -> int:
    return (int(count) + 7) & -8


def _by_stop(stop: int, rescore: int, *, exact_walk: bool, settle: int = 0) -> Effort:
    """Give the effort that goes with a stop: the line through what was measured on text and pixels."""
    if exact_walk:
        return Effort(max(_multiple(1.2 * stop + 28), 32), stop, rescore, max(K + 2, settle))
    return Effort(max(_multiple(1.25 * stop + 8), 16), stop, 0, max(rescore, settle))


def trial_efforts(stop: int, *, exact_walk: bool, settle: int = 0) -> tuple[Effort, ...]:
    """Give the efforts to measure at one stop; settle: at least so many settled on floats."""
    few, many = (8, 32) if exact_walk else (12, 32)
    middle = min(max(few + 4, few + stop // 2), many - 8)
    rescores = (few, middle, many) if stop < _FEWER_FROM else (few, many)
    efforts = (_by_stop(stop, rescore, exact_walk=exact_walk, settle=settle) for rescore in rescores)
    return tuple(dict.fromkeys(efforts))


def insertion_effort(k: int, *, exact_walk: bool) -> Effort:
    """Give the effort that finds k candidates for links: thrice as many nodes expanded made no better graphs."""
    stop = 2 * k // 3 if exact_walk else k
    return _by_stop(stop, stop, exact_walk=exact_walk, settle=k)


def results_room(effort: Effort, k: int) -> int:
    """Results a walk of this effort keeps, and a vector of keys more."""
    return (max(effort.stop, effort.rescore, effort.settle, k) + 15) // 8 * 8


def _frontier(measured: Iterable[Measured]) -> tuple[Measured, ...]:
    """Keep what nothing cheaper equals in recall and no smaller pool beats, by cost."""
    kept: list[Measured] = []
    for one in sorted(measured, key=lambda m: (m.cost, -m.recall, m.effort)):
        if not kept or (one.recall > kept[-1].recall and one.effort.pool >= kept[-1].effort.pool):
            kept.append(one)
    return tuple(kept)


def _measured(effort: Effort, told: tuple[float, float], *, exact_walk: bool) -> Measured:
    """Give an effort with what was told of it: recall, and rows expanded, to which come those scored at the end."""
    recall, hops = told
    read = effort.rescore + effort.settle - K - 2 if exact_walk else effort.settle
    return Measured(effort, recall, hops + RESCORE_COST * read)


def _between(low: Effort, high: Effort, share: float) -> Effort:
    """Give the effort that lies so far on the way from one to another."""
    pool, stop, rescore, settle = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return Effort(_multiple(pool), stop, rescore, settle)


@dataclass(frozen=True)
class EffortTable:
    """Efforts by ef and k; `measured` ascends in cost, recall and pool, and is empty when nothing was measured."""

    exact_walk: bool
    measured: tuple[Measured, ...] = ()
    reference: tuple[Reference, ...] = ()
    checked: tuple[Reference, ...] = ()  # what codes found at the same ef
    allowed: float = ALLOWED[0]

    @classmethod
    def fit(
        cls,
        measure: Callable[[Effort], tuple[float, float]],
        *,
        exact_walk: bool,
        reference: Sequence[Reference] = (),
        again: Callable[[Effort], tuple[float, float]] | None = None,
    ) -> EffortTable:
        """Measure efforts until recall is all but 1: measure(effort) gives recall and rows expanded.

        again: the same on other rows, those of the reference. The best of many efforts owe some of their recall to the
        rows that chose them; what they are worth, and to which ef they belong, is told by others.
        """
        again = again or measure
        found: list[Measured] = []
        before, settle = 0.0, 0
        for stop in _STOPS_ROWS if exact_walk else _STOPS_LINKS:
            efforts = trial_efforts(stop, exact_walk=exact_walk, settle=settle)
            group = [_measured(effort, measure(effort), exact_walk=exact_walk) for effort in efforts]
            found += group
            best = max(m.recall for m in group)
            if best >= GOOD_ENOUGH:
                break
            if 1 - best > _STUCK * (1 - before) and stop >= _SETTLE_FROM:
                settle = min(max(settle, 16) * _SETTLE_FACTOR, _SETTLE_MOST)
            before = best
        best_of = [_measured(m.effort, again(m.effort), exact_walk=exact_walk) for m in _frontier(found)]
        table = cls(exact_walk, _frontier(best_of), tuple(reference))
        for allowed in ALLOWED:
            table = replace(table, allowed=allowed, checked=())
            asked = [ef for ef, _ in reference if ef >= _CHECK_FROM]
            table = replace(table, checked=tuple(Reference(ef, again(table.effort(K, ef))[0]) for ef in asked))
            if table.lost <= LOST_LITTLE:
                break
        return table

    @cached_property
    def efs(self) -> tuple[int, ...]:
        """The ef from which each measured effort is used."""
        if self.reference:
            return self._efs_by_recall()
        pools = [m.effort.pool for m in self.measured]
        steps: list[int] = []
        before = 0
        for pool, group in groupby(pools):  # efforts with one pool share the step below it evenly
            count = len(list(group))
            steps += [before + (pool - before) * (at + 1) // count for at in range(count)]
            before = pool
        return tuple(steps)

    def _efs_by_recall(self) -> tuple[int, ...]:
        """The ef at which floats find as much as each effort; beyond what they were asked, in proportion to pools."""
        efs = np.log([1, *(r.ef for r in self.reference)])
        recalls = np.maximum.accumulate([0, *(r.recall for r in self.reference)])
        recalls += np.arange(len(recalls)) * 1e-9  # strictly ascending
        last, most = self.reference[-1].ef, float(recalls[-1])
        steps: list[float] = []
        first = 0  # pool of the first effort that finds all that floats found
        for one in self.measured:
            reached = one.recall + self.allowed - MARGIN_SHARE * (1 - one.recall)
            first = first or (one.effort.pool if reached > most else 0)
            steps.append(last * one.effort.pool / first if first else float(np.exp(np.interp(reached, recalls, efs))))
        return tuple(int(step) for step in np.maximum.accumulate(np.maximum(steps, 1)))

    def effort(self, k: int, ef: int) -> Effort:
        """Give the inner parameters for the k nearest at a given ef: more ef, more recall."""
        chosen = self._chosen(max(ef, k) if k > K else ef)
        if k <= K:
            return chosen
        wide = max(ef, k)
        stop = max(chosen.stop, wide + wide // 2 if self.exact_walk else wide)
        pool = max(chosen.pool, _multiple(1.2 * stop + 28 + k / 2))
        return Effort(pool, stop, max(chosen.rescore, k) if self.exact_walk else 0, max(chosen.settle, k + k // 8))

    def _chosen(self, ef: int) -> Effort:
        """Give the effort of an ef for few results."""
        if not self.measured:
            return self._standard(ef)
        last, reach = self.measured[-1].effort, max(self.efs[-1], 1)
        if ef == reach:
            return last
        if ef > reach:
            more = ef / reach
            if self.measured[-1].recall >= GOOD_ENOUGH:  # of such rows nothing is left to gain: a node more for each ef
                more = min(more, 1 + (ef - reach) / last.pool)
            parts = (last.pool * more, last.stop * more, *(min(part * more, _SETTLE_MOST) for part in last[2:]))
            least = self._standard(ef)  # of copies, which any walk finds, hardly a step was measured
            pool, stop, rescore, settle = (min(max(int(p), q), _PARTS_MOST) for p, q in zip(parts, least, strict=True))
            return Effort(_multiple(pool), stop, rescore, settle)
        at = bisect_right(self.efs, ef)
        if at == 0:
            return self.measured[0].effort
        low, high = self.efs[at - 1], self.efs[at]
        return _between(self.measured[at - 1].effort, self.measured[at].effort, (ef - low) / (high - low))

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

    @property
    def lost(self) -> float:
        """The most recall that codes lost to floats at equal ef, as measured; 0 when nothing was."""
        floats = dict(self.reference)
        return max(0.0, *(floats[ef] - recall for ef, recall in self.checked)) if self.checked else 0.0

    @property
    def refused(self) -> str | None:
        """Why a walk on floats is better than this one: recall lost, or too many nodes for it; None if it is not."""
        if self.lost > LOST_MOST:
            return f"codes lose {self.lost:.3f} of recall@{K} against floats at equal ef"
        for ef, _ in self.checked:
            pool = self._chosen(ef).pool
            if pool > POOL_MOST * ef:
                return f"codes expand up to {pool} nodes where floats find as much at ef {ef}"
        return None

    def recall_at(self, ef: int) -> float | None:
        """Give the recall of the ten nearest that was measured for an ef; None beyond the table."""
        if not self.measured or ef < self.efs[0]:
            return None
        return self.measured[bisect_right(self.efs, ef) - 1].recall
