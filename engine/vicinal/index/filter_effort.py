"""What answers under a filter take: settings of each way to search by share of matching rows, and what they cost.

    list     estimates re-scored
    cells    matching rows estimated in the nearest cells, estimates re-scored, margin below which it looks farther
    sweep    the inner parameters of a walk whose results are masked

They are fitted on rows of the index under random filters, each row hidden from its own search, for several recalls.
Between fitted shares parameters are interpolated, below the last it serves as it is. Costs are counted, in cells,
members, rows and hops, so the same rows and seed give the same table on any machine (see `filter_prices`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

from vicinal.index.coded_effort import Effort
from vicinal.index.filter_prices import Work

__all__ = ["SHARES", "STANDARD", "UNWALKED", "FilterEffort", "FilterEfforts", "Level", "listed"]

SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)  # of matching rows, at which efforts are fitted
K = 10  # results they are fitted for
_PART_MOST = (1 << 15) - 8
_RESCORE_MORE = 16.0  # times as many estimates, where the last of them is no farther than the k-th distance
FARTHER = 3  # times as far a walk goes that ended among matches which are all about as far


def listed(n: int, matches: int, rescore: int) -> Work:
    """What a list of so many matches among n slots does; it estimates none where all are re-scored."""
    return Work(words=n / 64, rows=matches if matches > rescore else 0, settled=min(rescore, matches))


class FilterEffort(NamedTuple):
    """How each way searches at one share of matching rows, and what a random filter of that share made it do."""

    rescore: int
    quota: int
    margin: float
    sweep: Effort
    rows: float = 0.0  # estimated by the scan of cells
    members: float = 0.0  # looked at by it
    hops: float = 0.0  # of the sweep
    seen: float = 0.0  # estimated by it
    gap: float = 0.0  # below which estimates cannot tell rows apart, so that more are re-scored
    slack: float = 0.0  # below which a sweep ended too soon, so that it walks again and farther

    def list_work(self, n: int, matches: int) -> Work:
        """What a list of so many matches among n slots does."""
        return listed(n, matches, self.rescore)

    def cells_work(self, cells: int) -> Work:
        """What a scan of cells does, of so many."""
        return Work(centres=cells, members=self.members, rows=self.rows, settled=self.rescore)

    def sweep_work(self) -> Work:
        """What a sweep does."""
        return Work(hops=self.hops, seen=self.seen, settled=self.sweep.rescore)

    def wider(self, k: int, more: float) -> FilterEffort:
        """For k results, and `more` times as hard."""
        if k <= K and more <= 1:
            return self
        beyond = max(k - K, 0)
        rescore = min(int(self.rescore * more) + beyond + beyond // 2, (1 << 16) - 1)
        quota = int(self.quota * more) + 12 * beyond
        pool, stop, last, settle = self.sweep
        stop = min(int(stop * more) + beyond + beyond // 2, _PART_MOST)
        pool = min(max(int(pool * more) + 2 * beyond, stop + 8) + 7 & -8, _PART_MOST)
        sweep = Effort(pool, stop, last + beyond, settle + beyond + beyond // 8)
        scale = quota / max(self.quota, 1)
        longer = pool / self.sweep.pool
        return FilterEffort(
            rescore,
            quota,
            self.margin,
            sweep,
            self.rows * scale,
            self.members * scale,
            self.hops * longer,
            self.seen * longer,
            self.gap * min(K / k, 1.0),
            self.slack * min(K / k, 1.0),
        )

    def farther(self, most: int) -> Effort:
        """The walk that follows one which ended too soon, expanding at most so many nodes."""
        pool, stop, rescore, settle = self.sweep
        pool, stop = min(FARTHER * pool, most, _PART_MOST) & -8, min(FARTHER * stop, _PART_MOST)
        return Effort(max(pool, self.sweep.pool), stop, rescore, settle)

    def rescored(self, gap: float, k: int) -> int:
        """How many estimates to re-score where `rescore` of them left this gap."""
        short = min(max(1 - gap / self.gap, 0.0), 1.0) if self.gap > 0 else 1.0
        more = 2.0 * (_RESCORE_MORE / 2) ** short
        return min(max(int(self.rescore * more), k), (1 << 16) - 1)


class Level(NamedTuple):
    """Efforts by share, in the order of SHARES, that reached a recall of the ten nearest under random filters."""

    recall: float
    by_share: tuple[FilterEffort, ...]

    def at(self, share: float) -> FilterEffort:
        """The effort at a share: between two fitted ones by the logarithm of the share."""
        if share >= SHARES[0] or len(self.by_share) == 1:
            return self.by_share[0]
        if share <= SHARES[-1]:
            return self._scarce(share)
        high = bisect_left([-s for s in SHARES], -share)
        low = high - 1
        part = math.log(share / SHARES[low]) / math.log(SHARES[high] / SHARES[low])
        return _between(self.by_share[low], self.by_share[high], part)

    def towards(self, other: Level, recall: float) -> Level:
        """The level at a recall between this one's and another's."""
        part = math.log((1 - self.recall) / (1 - recall)) / math.log((1 - self.recall) / (1 - other.recall))
        pairs = zip(self.by_share, other.by_share, strict=True)
        return Level(recall, tuple(_between(one, more, part) for one, more in pairs))

    def _scarce(self, share: float) -> FilterEffort:
        """Below the last fitted share as many matches are wanted, for which more members are looked at."""
        last = self.by_share[-1]
        more = SHARES[-1] / max(share, 1e-9)
        return last._replace(members=last.members * more, hops=last.hops * more, seen=last.seen * more)


def _between(one: FilterEffort, other: FilterEffort, part: float) -> FilterEffort:
    """The effort so far on the way from one to another."""

    def mixed(a: float, b: float) -> float:
        return a if a == b else a + (b - a) * part

    sweep = Effort(*(round(mixed(a, b)) for a, b in zip(one.sweep, other.sweep, strict=True)))
    return FilterEffort(
        round(mixed(one.rescore, other.rescore)),
        round(mixed(one.quota, other.quota)),
        mixed(one.margin, other.margin),
        sweep._replace(pool=(sweep.pool + 7) & -8),
        *(mixed(a, b) for a, b in zip(one[4:], other[4:], strict=True)),
    )


class FilterEfforts(NamedTuple):
    """Levels by ascending recall."""

    levels: tuple[Level, ...]

    def level_for(self, recall: float) -> Level:
        """The first level that reaches a recall; the last if none does."""
        return self.raised(recall, 0)[0]

    def raised(self, recall: float, steps: int) -> tuple[Level, float]:
        """The level so many steps above the first that reaches a recall, and how many times as hard to try.

        Between two levels efforts are interpolated by the logarithm of what is missed. Beyond the last every step
        tries twice as hard.
        """
        last = len(self.levels) - 1
        first = next((at for at, level in enumerate(self.levels) if level.recall >= recall), last)
        level = self.levels[min(first + steps, last)]
        if not steps and first and recall < level.recall:
            level = self.levels[first - 1].towards(level, recall)
        return level, 2.0 ** max(first + steps - last, 0)


def _standard(share: float) -> FilterEffort:
    hops = 70 / share**0.8
    pool = int(2 * hops) + 7 & -8
    rows = 2000.0
    sweep = Effort(min(pool, _PART_MOST), 40, 16, 12)
    return FilterEffort(64, 2000, 0.0, sweep, rows, rows / share, hops, 16 * hops)


# where there are too few rows to measure on
STANDARD = FilterEfforts((Level(0.98, tuple(_standard(share) for share in SHARES)),))

# the same where there is no graph to walk
UNWALKED = FilterEfforts(
    tuple(
        level._replace(by_share=tuple(one._replace(hops=math.inf, seen=math.inf) for one in level.by_share))
        for level in STANDARD.levels
    )
)
