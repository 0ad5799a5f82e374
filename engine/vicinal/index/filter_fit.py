"""Fit what filtered searches take, on rows of the index under random filters.

Each asked row is hidden from its own search. Its nearest rows are ranked once; under any random filter its true
neighbours are the first ten of these that match, so a share costs its trial searches alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask
from vicinal.codecs.frame import nearest_rows, sample_slots
from vicinal.index.coded_arrays import SENTINEL
from vicinal.index.coded_effort import Effort
from vicinal.index.exact import exact_search_list
from vicinal.index.filter_effort import SHARES, STANDARD, UNWALKED, FilterEffort, FilterEfforts, Level
from vicinal.index.filter_prices import Work
from vicinal.index.filtered import FilteredIndex, Swept, sweep
from vicinal.types import Bits, Rows

__all__ = ["fit_efforts"]

QUERIES = 100
_RANKED = 1024  # nearest rows of a query: about twenty match at the least share
_FROM = 2_000  # rows
_K = 10
# reached, to reach here, poor queries; the first two serve a small ef, the others what is asked by default
_RECALLS = ((0.9, 0.915, 0.08), (0.95, 0.96, 0.03), (0.98, 0.985, 0.005), (0.99, 0.9935, 0.0))
_POOR = 8  # of ten found, below which a query counts as poor
_RESCORES = (10, 12, 16, 24, 32, 48, 64, 96, 128, 192)
_QUOTAS = (60, 90, 120, 180, 250, 350, 500, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 12_000)
_MARGIN = 0.25  # share of queries that leave less
_GAP, _GAP_PART = 0.02, 0.9  # share of queries that leave a smaller gap, and the part of it that is too small
_DOUBT = 0.08  # share of queries whose sweep has less slack, and walks again
_LONGER = 1.2  # than all but a few, from which a walk is where few matches are
_LIST_MOST = 0.5  # share of rows, up to which lists are tried
_UNTRIED = (3, 5, 8, 9)  # of _RESCORES, for each level, where they are not
# of _RESCORES and _QUOTAS, for each level, the least: random filters need less, but the default must do for any
_LIST_FROM, _CELLS_FROM = (0, 1, 2, 2), (0, 2, 5, 5)
_DEAR = 2.0  # times the price of a list, from which another way is not tried further
_PART_MOST = (1 << 15) - 8


class _Asked(NamedTuple):
    """One query: its slot, and how far its tenth nearest match is, with room for another order of adding."""

    slot: int
    last: float


class _Trial(NamedTuple):
    """What one setting did."""

    recall: float
    poor: float
    counts: NDArray[np.float64]  # (queries, several)


Search = Callable[[_Asked], tuple[NDArray[np.float32], tuple[float, ...]]]


def _tried(asked: Sequence[_Asked], search: Search) -> _Trial:
    """Search for every query; `search` gives distances and what it counted."""
    found = [search(one) for one in asked]
    hits = np.array([(d <= one.last).sum() for one, (d, _) in zip(asked, found, strict=True)])
    return _Trial(hits.mean() / _K, float((hits < _POOR).mean()), np.array([c for _, c in found], np.float64))


def fit_efforts(
    made: FilteredIndex,
    rows: Rows,
    *,
    seed: int,
    queries: int = QUERIES,
    counted: NDArray[np.bool_] | None = None,
) -> FilterEfforts:
    """Fit every level at every share; the standard ones where there are too few rows.

    counted (n,): rows that searches can find; None: those that have links.
    """
    index = made.index
    linked = index._arrays.links[: index.n, 0] != SENTINEL if counted is None else counted  # noqa: SLF001
    if np.count_nonzero(linked) < _FROM:
        return STANDARD if made.walks else UNWALKED
    ranked = _rank(made, rows, linked, seed, queries)
    by_share = [_Share(made, rows, share, ranked, linked, seed).fit() for share in SHARES]
    return FilterEfforts(
        tuple(Level(recall, tuple(one[at] for one in by_share)) for at, (recall, _, _) in enumerate(_RECALLS))
    )


def _rank(
    made: FilteredIndex, rows: Rows, linked: NDArray[np.bool_], seed: int, queries: int
) -> list[tuple[int, NDArray[np.uint32], NDArray[np.float32]]]:
    """Some slots, with their nearest rows and distances, ascending."""
    index, frame = made.index, made.index.choice.frame
    slots = np.flatnonzero(linked)[sample_slots(int(linked.sum()), queries, seed + 1)]
    count = min(_RANKED, int(linked.sum()) - 1)
    names = nearest_rows(frame, rows, index.n, slots, count, None if linked.all() else linked)
    ranked = []
    for slot, near in zip(slots.tolist(), names, strict=True):
        listed = exact_search_list(index.metric, rows, rows.vectors[slot], count, near.astype(np.uint32))
        ranked.append((slot, *listed))
    return ranked


class _Share:
    """One share of matching rows, for which every level is fitted."""

    def __init__(
        self,
        made: FilteredIndex,
        rows: Rows,
        share: float,
        ranked: list[tuple[int, NDArray[np.uint32], NDArray[np.float32]]],
        linked: NDArray[np.bool_],
        seed: int,
    ) -> None:
        self.made, self.rows, self.share, self.n = made, rows, share, made.index.n
        mask = linked.copy()
        if share < 1:
            mask &= np.random.default_rng(seed).random(self.n) < share
        self.matches = int(mask.sum())
        self.dear = _DEAR * self.made.prices.of(Work(rows=self.matches, settled=_RESCORES[-1]))
        self.bits: Bits | None = None if self.matches == self.n else bits_from_mask(mask)
        self.asked = []
        for slot, near, distances in ranked:
            matching = distances[mask[near]]
            if len(matching) >= _K:
                last = float(matching[_K - 1])
                self.asked.append(_Asked(slot, last + abs(last) * 1e-5 + 1e-12))

    def fit(self) -> list[FilterEffort]:
        """The effort of every level."""
        fitted: list[FilterEffort] = []
        lists = cells = sweeps = 0
        for level, (_, recall, poor) in enumerate(_RECALLS):
            lists, rescore = self._list(level, max(lists, _LIST_FROM[level]), recall, poor)
            cells, quota, scanned = self._cells(max(cells, _CELLS_FROM[level]), rescore, recall, poor)
            sweeps, effort, walked, slack = self._sweep(sweeps, recall, poor)
            margin, gap = (
                float(np.quantile(scanned.counts[:, at], share, method="lower"))
                for at, share in ((2, _MARGIN), (3, _GAP))
            )
            gap = max(gap, 0.0) * _GAP_PART if np.isfinite(gap) else 0.0
            rows, members = scanned.counts[:, :2].mean(0).tolist()
            hops, seen, _ = walked.counts.mean(0).tolist()
            if np.isfinite(hops):
                pool = max(int(_LONGER * np.quantile(walked.counts[:, 2], 0.98)), effort.stop + 16) + 7 & -8
                effort = effort._replace(pool=min(max(pool, 32), effort.pool))
            margin = margin if np.isfinite(margin) else 0.0
            fitted.append(FilterEffort(rescore, quota, margin, effort, rows, members, hops, seen, gap, slack))
        return fitted

    def _list(self, level: int, first: int, recall: float, poor: float) -> tuple[int, int]:
        """Where to go on for the next level, and the estimates to re-score."""
        if self.share > _LIST_MOST:
            at = _UNTRIED[level]
            return at, _RESCORES[at]
        for at in range(first, len(_RESCORES)):
            rescore = _RESCORES[at]

            def search(one: _Asked, rescore: int = rescore) -> tuple[NDArray[np.float32], tuple[float, ...]]:
                found = self.made.scan.scan_list(
                    self.rows.vectors[one.slot],
                    _K,
                    rows=self.rows,
                    allowed=self.bits,
                    matches=self.matches,
                    rescore=rescore,
                    hidden=one.slot,
                )
                return found.distances, ()

            trial = _tried(self.asked, search)
            if trial.recall >= 1 - (1 - recall) * 0.4 and trial.poor <= poor:
                return at, rescore
        return len(_RESCORES) - 1, _RESCORES[-1]

    def _cells(self, first: int, rescore: int, recall: float, poor: float) -> tuple[int, int, _Trial]:
        """Where to go on, the quota, and what a scan with it did."""
        trial = None
        for at in range(first, len(_QUOTAS)):
            quota = _QUOTAS[at]

            def search(one: _Asked, quota: int = quota) -> tuple[NDArray[np.float32], tuple[float, ...]]:
                found = self.made.scan.scan_cells(
                    self.rows.vectors[one.slot],
                    _K,
                    rows=self.rows,
                    allowed=self.bits,
                    matches=self.matches,
                    quota=quota,
                    rescore=rescore,
                    hidden=one.slot,
                )
                return found.distances, (found.rows, found.members, found.margin, found.gap)

            trial = _tried(self.asked, search)
            if (trial.recall >= recall and trial.poor <= poor) or quota >= self.matches:
                break
            rows, members = trial.counts[:, :2].mean(0)
            if self.made.prices.of(Work(rows=rows, members=members)) > self.dear:
                break
        assert trial is not None, "there are quotas to try"
        return at, quota, trial

    def _sweep(self, first: int, recall: float, poor: float) -> tuple[int, Effort, _Trial, float]:
        """Where to go on, the walk's effort, what walks with it did, and the slack below which they were repeated.

        Counts are hops and rows seen of all walks, and hops of the first.
        """
        if not self.made.walks:
            none = np.full((len(self.asked), 3), np.inf)
            return 0, UNWALKED.levels[0].at(self.share).sweep, _Trial(0.0, 1.0, none), 0.0
        efforts = self._walks()
        trial, slack = None, 0.0
        for at in range(first, len(efforts)):
            effort = efforts[at]
            trial, slack = self._walked(effort)
            if trial.recall >= recall and trial.poor <= poor:
                break
            hops, seen, _ = trial.counts.mean(0)
            if self.made.prices.of(Work(hops=hops, seen=seen)) > self.dear:
                return at, effort, trial._replace(counts=trial.counts * np.inf), slack
        assert trial is not None, "there are walks to try"
        return at, effort, trial, slack

    def _walked(self, effort: Effort) -> tuple[_Trial, float]:
        """What walks did, of which those with the least slack were repeated, and that slack."""
        once = [self._walk(one, effort) for one in self.asked]
        slacks = np.array([found.slack for found in once])
        slack = float(np.quantile(slacks, _DOUBT, method="lower"))
        slack = slack if np.isfinite(slack) else 0.0
        farther = FilterEffort(0, 0, 0.0, effort).farther(_PART_MOST)
        more = {at: self._walk(self.asked[at], farther) for at in np.flatnonzero(slacks < slack).tolist()}
        known = iter(range(len(once)))

        def search(_: _Asked) -> tuple[NDArray[np.float32], tuple[float, ...]]:
            at = next(known)
            first, last = once[at], more.get(at, once[at])
            extra = (last.hops, last.seen) if at in more else (0, 0)
            return last.distances, (first.hops + extra[0], first.seen + extra[1], first.hops)

        return _tried(self.asked, search), slack

    def _walk(self, one: _Asked, effort: Effort) -> Swept:
        """Walk for one query, from which its row is hidden."""
        index, query = self.made.index, self.rows.vectors[one.slot]
        return sweep(index, query, _K, effort, rows=self.rows, limit=self.n, allowed=self.bits, hidden=one.slot)

    def _walks(self) -> list[Effort]:
        """Efforts to try: those of the index, with pools that do not end a walk among so few matches."""
        efforts = []
        for one in self.made.index.efforts.measured:
            pool, stop, rescore, settle = one.effort
            pool = min(int((1.3 * stop + 64) / max(self.share, 0.05)) + pool + 7 & -8, _PART_MOST)
            efforts.append(Effort(pool, stop, rescore, settle))
        return efforts or [STANDARD.levels[0].at(self.share).sweep]
