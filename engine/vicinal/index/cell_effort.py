"""One knob for scans of cells: how many rows and re-scores follow from ef, by a table measured on the index's rows.

    quota      matching rows estimated in the nearest cells
    rescore    best estimates settled on the stored floats

Rows are the queries, each left out of its own search. Cost is counted in rows estimated, so the same rows and seed
give the same table on any machine; an ef stands for 128 of them. Quotas rise, to all rows if need be, until recall is
all but 1; at each quota more is settled while that finds more. Of all measured efforts the table keeps those that
nothing cheaper equals. `margin` is what a scan without a filter leaves between the k-th best estimate and the farthest
cell it looked at: under a filter that leaves less, neighbours lie farther out, and the scan goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

__all__ = ["NO_MARGIN", "RESCORE_COST", "CellEffort", "CellEfforts", "CellMeasured", "K"]

K = 10  # neighbours whose recall is measured
RESCORE_COST = 40  # of a row settled on its floats, in rows estimated
PER_EF = 128  # rows estimated: at the default ef most data reach a recall of .95
_QUOTAS = (250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000)
_RESCORES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_GOOD_ENOUGH = 0.9965
_GAIN = 0.0025  # in recall, below which nothing more is settled at a quota
_LARGE_GAIN = 0.005  # below which less need not be settled at a larger quota
_STANDARD_RESCORE = 0.6  # of ef, where nothing was measured
NO_MARGIN = float("-inf")


class CellEffort(NamedTuple):
    """How far one scan goes."""

    quota: int
    rescore: int
    margin: float = NO_MARGIN


class CellMeasured(NamedTuple):
    """An effort, the recall of the ten nearest that it reached, and its cost in rows estimated."""

    effort: CellEffort
    recall: float
    cost: float

    @property
    def ef(self) -> int:
        """The ef from which it is used."""
        return max(int(self.cost / PER_EF), 1)


class CellEfforts(NamedTuple):
    """Efforts by ef; `measured` ascends in cost and recall, and is empty when nothing was measured."""

    measured: tuple[CellMeasured, ...] = ()

    @classmethod
    def fit(
        cls,
        measure: Callable[[CellEffort], CellMeasured],
        most: int,
        again: Callable[[CellEffort], CellMeasured] | None = None,
    ) -> CellEfforts:
        """Measure efforts of quotas up to `most` until recall is all but 1; measure fills in recall, cost, margin.

        again: the same on rows that did not choose; the table holds what it tells.
        """
        found: list[CellMeasured] = []
        first = 0
        for quota in [q for q in _QUOTAS if q < most] + [most]:
            group = _climb(measure, quota, first)
            found += group
            if max(one.recall for one in group) >= _GOOD_ENOUGH:
                break
            first += max(sum(two.recall - one.recall >= _LARGE_GAIN for one, two in pairwise(group)), 0)
        best = _frontier(found)
        return cls(best if again is None else _frontier(again(one.effort) for one in best))

    def effort(self, k: int, ef: int) -> CellEffort:
        """Give the effort for the k nearest at a given ef: more ef, more recall."""
        quota = max(int(ef * PER_EF * (1 - _STANDARD_RESCORE * RESCORE_COST / PER_EF)), 1)
        chosen = CellEffort(quota, max(int(_STANDARD_RESCORE * ef), 16))
        if self.measured and ef <= self.measured[-1].ef:
            chosen = self.measured[max(bisect_right([m.ef for m in self.measured], ef) - 1, 0)].effort
        elif self.measured:
            last = self.measured[-1].effort
            chosen = CellEffort(max(quota, last.quota), max(chosen.rescore, last.rescore), last.margin)
        if k <= K:
            return chosen
        return chosen._replace(rescore=max(chosen.rescore, k + k // 2 + 16), quota=max(chosen.quota, 16 * k))

    @property
    def efs(self) -> tuple[int, ...]:
        """The ef from which each measured effort is used."""
        return tuple(one.ef for one in self.measured)

    def recall_at(self, ef: int) -> float | None:
        """Give the recall of the ten nearest that was measured at an ef; None where nothing was."""
        if not self.measured:
            return None
        return self.measured[max(bisect_right([m.ef for m in self.measured], ef) - 1, 0)].recall

    def ef_for(self, recall: float) -> int | None:
        """Give the least ef that reached a recall of the ten nearest when it was measured; None if none did."""
        return next((one.ef for one in self.measured if one.recall >= recall), None)


def _climb(measure: Callable[[CellEffort], CellMeasured], quota: int, first: int) -> list[CellMeasured]:
    """Measure one quota, settling more and more while that finds more."""
    group: list[CellMeasured] = []
    for rescore in _RESCORES[first:]:
        group.append(measure(CellEffort(quota, rescore)))
        gained = len(group) == 1 or group[-1].recall - group[-2].recall >= _GAIN
        if not gained or rescore >= quota or group[-1].recall >= _GOOD_ENOUGH:
            break
    return group


def _frontier(measured: Iterable[CellMeasured]) -> tuple[CellMeasured, ...]:
    """Keep what nothing cheaper equals in recall, by cost; of those with one ef the last."""
    kept: list[CellMeasured] = []
    for one in sorted(measured, key=lambda m: (m.cost, -m.recall)):
        if kept and one.recall <= kept[-1].recall:
            continue
        if kept and one.ef == kept[-1].ef:
            kept.pop()
        kept.append(one)
    return tuple(kept)
