"""A graph that grows: batches of new rows search it, are pruned, and their back links are patched target by target."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.bulk_cells import grown_codes, new_codes, panel_of
from vicinal.index.bulk_codes import Encoding, fit_encoding, write_codes
from vicinal.index.bulk_graph import slack_of
from vicinal.index.bulk_known import KnownRows
from vicinal.index.bulk_pieces import Cancelled, Pieces
from vicinal.kernels import cluster, patch, prune
from vicinal.kernels import relink as removal
from vicinal.kernels.build import Candidates
from vicinal.kernels.grow import insert_row, measure_found
from vicinal.kernels.repair import reach, repair
from vicinal.kernels.rows8 import SPARE, Codes
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["GrowingLinks", "Patch", "Search", "prefers_rebuild"]

Search = Callable[[int, int], NDArray[np.uint32]]  # (slot, k): at most k of the nearest linked slots, nearest first

_DEGREE = 32
_FORWARD = 16
_ALPHA = 1.05
_CANDIDATES = 64
_EF = 96
_BATCH = 1024  # rows that search the same frozen graph, and are compared with each other
_ENTRIES = 512  # rows from the nearest of which a search starts
_REFIT = 2  # codes are fitted again when there are so many times the rows they were fitted to
_CLIPPED_FEW, _CLIPPED_SHARE = 16, 0.05  # new rows out of the codes' range that call for another fit
_LARGEST = 127
_MEND_AFTER, _MEND_SHARE = 1000, 64  # rows inserted, and share of all, after which reachability is checked
_GROWTH = 1.25
_REBUILD_BELOW = 1000
_REBUILD_SHARE = 8


class Patch(NamedTuple):
    """Rows of links that changed: `slots` (m,) uint32, the new ones first, and their `links` (m, 32) uint32."""

    slots: NDArray[np.uint32]
    links: NDArray[np.uint32]


def prefers_rebuild(n: int, stop: int) -> bool:
    """Whether building slots 0 .. stop anew costs less than inserting n .. stop; both graphs are equally good."""
    return n < _REBUILD_BELOW or (stop - n) * _REBUILD_SHARE > stop


class GrowingLinks:
    """The links of slots 0 .. n and what insertion needs beside them: codes and in-degrees, about a byte per dimension.

    Derived from rows and links alone, so it can be dropped and made again at any time. Every row that was not removed
    stays reachable from `entry`. One writer; readers of the patches see rows that are complete before anything links to
    them. `removed`: slots that no link leads to and none will.
    """

    def __init__(
        self,
        rows: Rows,
        n: int,
        metric: Metric,
        links: NDArray[np.uint32],
        *,
        entry: int = 0,
        removed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> None:
        if n < 1 or links.shape != (n, _DEGREE) or n > len(rows.vectors):
            raise InvalidArgument(
                f"links of {n} rows are ({n}, {_DEGREE}), of at least one row",
                field="links",
                value=links.shape,
                limit=(n, _DEGREE),
            )
        if (links[links != SENTINEL] >= n).any():
            raise InvalidArgument(f"links lead to slots below {n}", field="links", limit=n)
        if not 0 <= entry < n:
            raise InvalidArgument(f"the entry is a slot below {n}", field="entry", value=entry, limit=n)
        self.n = n
        self.entry = entry
        self._unseen = 0
        self._metric = metric
        self._threads = threads
        self._links = np.full((n, _DEGREE), -1, np.int32)
        self._links[:] = links.view(np.int32) if links.flags.c_contiguous else links.astype(np.int32)
        self._degree = (self._links >= 0).sum(1, dtype=np.int32)
        self._dead = np.zeros(n, np.uint8) if removed is None else removed.astype(np.uint8)
        self._incoming = np.zeros(n, np.int32)
        removal.count_links(self._links, self._dead, self._incoming)
        self._marks: list[tuple[NDArray[np.int32], int]] = []
        self._codes = new_codes(0, 64)
        self._encoding: Encoding | None = None
        self._known = KnownRows()
        with Pieces(threads) as pieces:
            self._fit(rows, n, pieces)

    @property
    def links(self) -> NDArray[np.uint32]:
        """All links (n, 32) uint32; valid until the next insertion."""
        return self._links[: self.n].view(np.uint32)

    def insert_links(
        self, rows: Rows, stop: int, *, cancel: Callable[[], bool] | None = None, search: Search | None = None
    ) -> Patch:
        """Insert slots n .. stop and give every row of links that changed.

        `cancel` is asked between pieces of work: what was inserted by then stays, `n` tells how far it came. search: a
        faster way to search the same links, asked from several threads; it sees no row of this call, so at most one
        batch of rows is inserted.
        """
        if not self.n <= stop <= len(rows.vectors):
            raise InvalidArgument(
                "stop lies between n and the number of rows", field="stop", value=stop, limit=len(rows.vectors)
            )
        start = self.n
        stop = stop if search is None else min(stop, start + _BATCH)
        touched: list[NDArray[np.int32]] = []
        with Pieces(self._threads, cancel) as pieces:
            try:
                while self.n < stop:
                    pieces.check()
                    end = min(stop, self.n + _BATCH)
                    self._reserve(rows, end, pieces)
                    touched.append(self._insert_batch(self.n, end, pieces, search))
            except Cancelled:
                pass
        self._unseen += self.n - start
        if self._unseen > _MEND_AFTER + self.n // _MEND_SHARE:
            touched.append(self._mend())
        old = np.unique(np.concatenate(touched))
        slots = np.concatenate([np.arange(start, self.n), old[old < start]])
        return Patch(slots.astype(np.uint32), self._links[slots].view(np.uint32))

    def remove_links(self, slots: NDArray[np.integer]) -> Patch:
        """Take slots below n out and give every row of links that changed; costs a pass over all links.

        What linked to a removed slot is linked to what that one linked to. Rows of the removed keep their links, so
        that a search which stands on one goes on. Slots removed before are left aside.
        """
        slots = np.asarray(slots, np.int64)
        if len(slots) and not 0 <= slots.min() <= slots.max() < self.n:
            raise InvalidArgument(f"slots to remove lie below {self.n}", field="slots", limit=self.n)
        gone = np.unique(slots[self._dead[slots] == 0]).astype(np.int32)
        if len(gone) == 0:
            return Patch(np.zeros(0, np.uint32), np.zeros((0, _DEGREE), np.uint32))
        if len(gone) == len(self._living()):
            raise InvalidArgument("one slot at least must stay", field="slots", value=len(gone), limit=len(gone) - 1)
        before = self._links[: self.n].copy()
        self._dead[gone] = 1
        heirs = np.full(self.n, -1, np.int32)
        self._unlink(gone, heirs)
        self._known.forget(self._codes, gone, heirs, self._dead)
        self._choose_entries()
        if self._dead[self.entry]:
            self.entry = int(self._entry_rows[0])
        self._mend()
        changed = np.flatnonzero((self._links[: self.n] != before).any(1))
        return Patch(changed.astype(np.uint32), self._links[changed].view(np.uint32))

    def _unlink(self, gone: NDArray[np.int32], heirs: NDArray[np.int32]) -> None:
        """Link everything again that linked to rows just removed; `heirs` receives which copy took a row's place."""
        n = self.n
        links, degree, dead, incoming = self._links[:n], self._degree[:n], self._dead[:n], self._incoming[:n]
        removal.promote_copies(self._codes, links, degree, incoming, dead, gone[::-1].copy(), heirs)
        rows = np.empty(n, np.int32)
        rows = rows[: removal.rows_to_relink(links, dead, rows)]
        num, den = slack_of(self._alpha)

        def relink(a: int, b: int) -> None:
            marks, stamp = self._take_marks()
            removal.relink(self._codes, links, degree, dead, heirs, rows, marks, stamp, num, den, a, b)
            self._marks.append((marks, stamp + b - a))

        with Pieces(self._threads) as pieces:
            pieces.run(len(rows), 512, relink)
        removal.count_links(links, dead, incoming)
        lonely = np.flatnonzero((incoming == 0) & (dead == 0)).astype(np.int32)
        patch.link_lonely(links, degree, lonely, incoming, np.empty(len(lonely), np.int32))

    def _mend(self) -> NDArray[np.int32]:
        """See that patched rows have cut nobody off; give the rows that changed."""
        self._unseen = 0
        n = self.n
        links, degree, dead = self._links[:n], self._degree[:n], self._dead[:n]
        seen, queue = dead.copy(), np.empty(n, np.int32)
        queue[0], seen[self.entry] = self.entry, 1
        if reach(links, queue, seen, 0, 1) >= n - np.count_nonzero(dead):
            return np.zeros(0, np.int32)
        before = links.copy()
        places = np.where(dead, 0, _DEGREE).astype(np.int32)
        repair(self._codes, links, degree, places, before, self.entry, dead)
        removal.count_links(links, dead, self._incoming[:n])
        changed: NDArray[np.int32] = np.flatnonzero((links != before).any(1)).astype(np.int32)
        return changed

    @property
    def _alpha(self) -> float:
        return 1.0 if self._metric is Metric.DOT else _ALPHA

    def _take_marks(self) -> tuple[NDArray[np.int32], int]:
        """Marks of visited rows, for one thread, and the first stamp that none of them holds."""
        marks, stamp = self._marks.pop() if self._marks else (np.zeros(0, np.int32), 1)
        if len(marks) < len(self._links) or stamp > (1 << 30):
            marks, stamp = np.zeros(len(self._links), np.int32), 1
        return marks, stamp

    def _fit(self, rows: Rows, stop: int, pieces: Pieces) -> None:
        """Fit the codes to rows 0 .. stop and encode those below n; choose entry rows, know all rows by their codes."""
        everyone = np.arange(stop, dtype=np.int64)
        encoding = self._encoding = fit_encoding(rows.vectors, everyone, self._metric)
        self._fitted = stop
        self._clipped, self._clipped_most = 0, _CLIPPED_FEW
        self._codes = new_codes(max(stop, int(self.n * _GROWTH)), encoding.width)
        write_codes(encoding, rows.vectors, everyone[: self.n], self._codes, pieces)
        self._known = KnownRows()
        self._known.add_many(self._codes, self._living())
        self._choose_entries()

    def _living(self) -> NDArray[np.int64]:
        """Rows that are not removed, ascending."""
        return np.flatnonzero(self._dead[: self.n] == 0)

    def _choose_entries(self) -> None:
        """Choose the rows from the nearest of which a search starts, evenly among those that are not removed."""
        living = self._living()
        count = min(len(living), _ENTRIES)
        self._entry_rows = living[np.arange(count) * len(living) // count]
        members = np.full((-(-count // 64) * 4, 16), -1, np.int32)
        members.reshape(-1)[:count] = self._entry_rows
        self._entries = panel_of(self._codes, members)
        self._groups, self._names = np.arange(len(members), dtype=np.int32), members.reshape(-1)

    def _reserve(self, rows: Rows, stop: int, pieces: Pieces) -> None:
        """Make room for slots below `stop` and encode the new ones; fit the codes again when they no longer fit."""
        if stop > _REFIT * self._fitted:
            self._fit(rows, stop, pieces)
        if stop > len(self._codes.half) - SPARE:
            self._codes = grown_codes(self._codes, self.n, int(stop * _GROWTH))
        if stop > len(self._links):
            more = int(stop * _GROWTH) - len(self._links)
            self._links = np.concatenate([self._links, np.full((more, _DEGREE), -1, np.int32)])
            self._degree = np.concatenate([self._degree, np.zeros(more, np.int32)])
            self._incoming = np.concatenate([self._incoming, np.zeros(more, np.int32)])
            self._dead = np.concatenate([self._dead, np.zeros(more, np.uint8)])
        fresh = np.arange(self.n, stop, dtype=np.int64)
        rest = slice(self.n, None)
        view = Codes(self._codes.rows[rest], self._codes.half[rest], self._codes.offset[rest])
        assert self._encoding is not None
        write_codes(self._encoding, rows.vectors, fresh, view, pieces)
        clipped = np.abs(view.rows[: len(fresh)]).max(1, initial=0) == _LARGEST
        self._clipped += int(np.count_nonzero(clipped))
        if self._clipped > self._clipped_most + _CLIPPED_SHARE * (stop - self._fitted):
            most = self._clipped_most
            self._fit(rows, stop, pieces)
            self._clipped_most = 4 * most  # rows far out of everything stay clipped: no refit for each of them
            write_codes(self._encoding, rows.vectors, np.arange(stop, dtype=np.int64), self._codes, pieces)

    def _insert_batch(self, start: int, stop: int, pieces: Pieces, search: Search | None) -> NDArray[np.int32]:
        """Insert slots start .. stop of encoded rows; give the rows that changed."""
        rows, copies, owners = self._known.split(self._codes, start, stop)
        changed = [np.arange(start, stop, dtype=np.int32)]
        if len(rows):
            found = self._search(rows, pieces) if search is None else self._ask(search, rows, pieces)
        if len(rows) == 1:
            changed.append(self._insert_row(rows, found))
        elif len(rows):
            targets = self._join(rows, self._meet(rows, found, pieces), pieces)
            givers = np.empty(len(rows), np.int32)
            gave = patch.anchor(
                self._links, self._degree, self._incoming, rows, found.ids, targets, start, stop, givers
            )
            changed += [targets, givers[:gave]]
        if len(copies):
            parents = np.empty(len(copies), np.int32)
            patch.attach_copies(self._codes, self._links, self._degree, copies, owners, self._incoming, parents)
            changed.append(parents)
        self.n = stop
        return np.concatenate(changed)

    def _insert_row(self, rows: NDArray[np.int32], found: Candidates) -> NDArray[np.int32]:
        """Insert one row; give the others that changed."""
        num, den = slack_of(self._alpha)
        chosen = Candidates(np.empty((1, _FORWARD), np.int32), np.empty((1, _FORWARD), np.int32))
        touched = np.empty(_FORWARD * (_DEGREE + 1) + 2, np.int32)
        count = insert_row(
            self._codes, self._links, self._degree, self._incoming, rows, found, chosen, num, den, touched
        )
        return touched[:count]

    def _ask(self, search: Search, rows: NDArray[np.int32], pieces: Pieces) -> Candidates:
        """Let `search` find the nearest of the graph for new rows."""
        ids = np.full((len(rows), _CANDIDATES), SENTINEL, np.uint32)
        found = _candidates(len(rows))

        def ask(a: int, b: int) -> None:
            for at in range(a, b):
                near = search(int(rows[at]), _CANDIDATES)
                ids[at, : len(near)] = near
            measure_found(self._codes, rows, ids, found, a, b)

        pieces.run(len(rows), 64, ask)
        return found

    def _search(self, rows: NDArray[np.int32], pieces: Pieces) -> Candidates:
        """Find the nearest of the graph as it is for new rows."""
        count = len(rows)
        found = _candidates(count)
        best = np.empty(count, np.int32)
        lanes, bias, _, _ = self._entries
        cluster.assign(self._codes, rows, lanes, bias, self._groups, self._names, best, 0, count)

        def search(a: int, b: int) -> None:
            marks, stamp = self._take_marks()
            beam = np.empty(_EF, np.int64)
            patch.search_frozen(self._codes, self._links, rows, best, beam, marks, stamp, found, a, b)
            self._marks.append((marks, stamp + b - a))

        pieces.run(count, 64, search)
        return found

    def _meet(self, rows: NDArray[np.int32], found: Candidates, pieces: Pieces) -> Candidates:
        """Add what new rows are to each other."""
        count = len(rows)
        lanes_of = np.full((-(-count // 64) * 4, 16), -1, np.int32)
        lanes_of.reshape(-1)[:count] = rows
        panel = panel_of(self._codes, lanes_of)
        groups = np.arange(len(lanes_of), dtype=np.int32)
        both = _candidates(count)
        pieces.run(count, 96, lambda a, b: patch.meet(self._codes, rows, found, panel, groups, both, a, b))
        return both

    def _join(self, rows: NDArray[np.int32], found: Candidates, pieces: Pieces) -> NDArray[np.int32]:
        """Prune the new rows' candidates, patch the back links; give the rows that changed."""
        count = len(rows)
        num, den = slack_of(self._alpha)
        chosen, dist = np.empty((count, _FORWARD), np.int32), np.empty((count, _FORWARD), np.int32)
        degree = np.empty(count, np.int32)
        pieces.run(
            count,
            256,
            lambda a, b: prune.select(self._codes, found, _FORWARD, num, den, chosen, dist, degree, a, b),
        )
        self._links[rows, :_FORWARD] = chosen
        self._degree[rows] = degree
        targets, starts, sources, dists = _by_target(rows, chosen, dist)
        before = self._links[targets].reshape(-1)
        patch.count_incoming(self._links, rows, self._incoming, 1)
        patch.count_incoming(self._links, targets, self._incoming, -1)
        pieces.run(
            len(targets),
            512,
            lambda a, b: patch.patch_targets(
                self._codes, self._links, self._degree, targets, starts, sources, dists, num, den, a, b
            ),
        )
        patch.count_incoming(self._links, targets, self._incoming, 1)
        lost = before[(self._incoming[before] == 0) & (before >= 0)]
        alone = rows[self._incoming[rows] == 0]
        if not len(lost) and not len(alone):
            return targets
        lonely = np.concatenate([alone, np.unique(lost)])
        givers = np.empty(len(lonely), np.int32)
        gave = patch.link_lonely(self._links, self._degree, lonely, self._incoming, givers)
        return np.concatenate([targets, givers[:gave]])


def _candidates(count: int) -> Candidates:
    """Allocate candidates of `count` rows."""
    return Candidates(np.empty((count, _CANDIDATES), np.int32), np.empty((count, _CANDIDATES), np.int32))


def _by_target(
    rows: NDArray[np.int32], chosen: NDArray[np.int32], dist: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Group links by target, then by source: targets, first place of each, sources and distances."""
    real = chosen.reshape(-1) >= 0
    target = chosen.reshape(-1)[real]
    order = np.argsort(target, kind="stable")
    target = target[order]
    firsts = np.flatnonzero(np.diff(target, prepend=-1))
    sources = np.repeat(rows, chosen.shape[1])[real][order]
    return target[firsts], np.append(firsts, len(order)), sources, dist.reshape(-1)[real][order]
