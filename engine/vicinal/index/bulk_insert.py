"""A graph that grows: batches of new rows search it, are pruned, and their back links are patched target by target.

A single row takes a way of its own, in few calls over memory that is kept: otherwise most of its time would go into
making arrays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.bulk_cells import panel_of
from vicinal.index.bulk_graph import slack_of
from vicinal.index.bulk_growing import GROWTH, GrowingCodes
from vicinal.index.bulk_known import KnownRows
from vicinal.index.bulk_pieces import Cancelled, Pieces
from vicinal.index.bulk_room import CANDIDATES, DEGREE, FORWARD, OneRow, by_target, candidates
from vicinal.kernels import back_links, cluster, patch, prune
from vicinal.kernels import relink as removal
from vicinal.kernels.build import Candidates
from vicinal.kernels.grow import insert_row, measure_found
from vicinal.kernels.rejoin import cut_off, rejoin
from vicinal.kernels.repair import reach, repair
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["GrowingLinks", "Patch", "Search", "prefers_rebuild"]

# (slot, out): writes as many of the nearest linked slots as `out` (k,) uint32 has room for, nearest first; how many
Search = Callable[[int, NDArray[np.uint32]], int]

_ALPHA = 1.05
_EF = 96
_BATCH = 1024  # rows that search the same frozen graph, and are compared with each other
_ENTRIES = 512  # rows from the nearest of which a search starts
_REBUILD_BELOW = 1000
_REBUILD_SHARE = 8


class Patch(NamedTuple):
    """Rows of links that changed: `slots` (m,) uint32, the new ones first, and their `links` (m, 32) uint32."""

    slots: NDArray[np.uint32]
    links: NDArray[np.uint32]


def _usable(threads: int) -> int:
    """How many of so many threads have a core of their own: two on one core wait for each other's turns."""
    return min(threads, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else threads


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
        if n < 1 or links.shape != (n, DEGREE) or n > len(rows.vectors):
            raise InvalidArgument(
                f"links of {n} rows are ({n}, {DEGREE}), of at least one row",
                field="links",
                value=links.shape,
                limit=(n, DEGREE),
            )
        if (links[links != SENTINEL] >= n).any():
            raise InvalidArgument(f"links lead to slots below {n}", field="links", limit=n)
        if not 0 <= entry < n:
            raise InvalidArgument(f"the entry is a slot below {n}", field="entry", value=entry, limit=n)
        self.n = n
        self.entry = entry
        self._whole = False  # whether every row is known to be reached: patches keep that
        self._metric = metric
        self._threads = threads
        self._links = np.full((n, DEGREE), -1, np.int32)
        self._links[:] = links.view(np.int32) if links.flags.c_contiguous else links.astype(np.int32)
        self._degree = (self._links >= 0).sum(1, dtype=np.int32)
        self._dead = np.zeros(n, np.uint8) if removed is None else removed.astype(np.uint8)
        self._incoming = np.zeros(n, np.int32)
        removal.count_links(self._links, self._dead, self._incoming)
        self._marks: list[tuple[NDArray[np.int32], int]] = []
        self._one = OneRow.fresh()
        with Pieces(threads) as pieces:
            self._coding = GrowingCodes(rows, n, metric, pieces)
        self._fitted()

    @property
    def capacity(self) -> int:
        """Slots that the arrays hold before they are copied to larger ones, or filled anew."""
        return min(len(self._links), self._coding.capacity)

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
        if search is not None and stop == start + 1 and not (cancel is not None and cancel()):
            code = self._coding.encode_one(rows, start) if self._whole and stop <= len(self._links) else None
            if code is not None:
                return self._insert_one(start, code, search)
        touched = [] if self._whole else [self._mend()]
        with Pieces(_usable(self._threads), cancel) as pieces:
            try:
                while self.n < stop:
                    pieces.check()
                    end = min(stop, self.n + _BATCH)
                    self._reserve(rows, end, pieces)
                    touched.append(self._insert_batch(self.n, end, pieces, search))
            except Cancelled:
                pass
        old = np.unique(np.concatenate(touched)) if touched else np.zeros(0, np.int32)
        slots = np.concatenate([np.arange(start, self.n), old[old < start]])
        return Patch(slots.astype(np.uint32), self._links[slots].view(np.uint32))

    def _insert_one(self, slot: int, code: int, search: Search) -> Patch:
        """Insert the next slot, which is encoded; `code`: the hash of its codes."""
        one = self._one
        one.rows[0] = slot
        owner = self._known.owner_of(self._codes, slot, code)
        if owner < 0:
            found = search(slot, one.ids[0])
            one.ids[0, found:] = SENTINEL
            measure_found(self._codes, one.rows, one.ids, one.found, 0, 1)
            changed = self._insert_row(one.rows, one.found)
        else:
            state, changed = (self._codes, self._links, self._degree), one.touched[:1]
            patch.attach_copies(*state, one.rows, np.full(1, owner, np.int32), self._incoming, changed)
        self.n = slot + 1
        slots = np.empty(len(changed) + 1, np.uint32)
        slots[0], slots[1:] = slot, changed
        return Patch(slots, self._links[slots].view(np.uint32))

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
            return Patch(np.zeros(0, np.uint32), np.zeros((0, DEGREE), np.uint32))
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
        removal.promote_copies(self._codes, links, degree, dead, gone[::-1].copy(), heirs)
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
        """See that every row is reached, where that is not known; give the rows that changed."""
        self._whole = True
        n = self.n
        links, degree, dead = self._links[:n], self._degree[:n], self._dead[:n]
        seen, queue = dead.copy(), np.empty(n, np.int32)
        queue[0], seen[self.entry] = self.entry, 1
        if reach(links, queue, seen, 0, 1) >= n - np.count_nonzero(dead):
            return np.zeros(0, np.int32)
        before = links.copy()
        places = np.where(dead, 0, DEGREE).astype(np.int32)
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

    def _fitted(self) -> None:
        """Know all rows by codes that were just fitted, and choose entry rows."""
        self._codes = self._coding.codes
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
        """Make room for slots below `stop` and encode the new ones."""
        if stop > len(self._links):
            more = int(stop * GROWTH) - len(self._links)
            self._links = np.concatenate([self._links, np.full((more, DEGREE), -1, np.int32)])
            self._degree = np.concatenate([self._degree, np.zeros(more, np.int32)])
            self._incoming = np.concatenate([self._incoming, np.zeros(more, np.int32)])
            self._dead = np.concatenate([self._dead, np.zeros(more, np.uint8)])
        if self._coding.reserve(rows, self.n, stop, pieces):
            self._fitted()
        self._codes = self._coding.codes

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
        chosen, touched = self._one.chosen, self._one.touched
        state = self._codes, self._links, self._degree, self._incoming
        count = insert_row(*state, rows, found, chosen, FORWARD, num, den, touched)
        return touched[:count]

    def _ask(self, search: Search, rows: NDArray[np.int32], pieces: Pieces) -> Candidates:
        """Let `search` find the nearest of the graph for new rows."""
        ids = np.empty((len(rows), CANDIDATES), np.uint32)
        found = candidates(len(rows))

        def ask(a: int, b: int) -> None:
            for at in range(a, b):
                ids[at, search(int(rows[at]), ids[at]) :] = SENTINEL
            measure_found(self._codes, rows, ids, found, a, b)

        pieces.run(len(rows), 64, ask)
        return found

    def _search(self, rows: NDArray[np.int32], pieces: Pieces) -> Candidates:
        """Find the nearest of the graph as it is for new rows."""
        count = len(rows)
        found = candidates(count)
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
        both = candidates(count)
        pieces.run(count, 96, lambda a, b: patch.meet(self._codes, rows, found, panel, groups, both, a, b))
        return both

    def _join(self, rows: NDArray[np.int32], found: Candidates, pieces: Pieces) -> NDArray[np.int32]:
        """Prune the new rows' candidates, patch the back links; give the rows that changed."""
        count = len(rows)
        num, den = slack_of(self._alpha)
        chosen, dist = np.empty((count, FORWARD), np.int32), np.empty((count, FORWARD), np.int32)
        degree = np.empty(count, np.int32)
        pieces.run(
            count,
            256,
            lambda a, b: prune.select(self._codes, found, FORWARD, num, den, chosen, dist, degree, a, b),
        )
        self._fill_up(rows, chosen, degree, found, pieces)
        targets, starts, sources, dists = by_target(rows, chosen, dist)
        before = self._links[targets]
        patch.count_incoming(self._links, rows, self._incoming, 1)
        patch.count_incoming(self._links, targets, self._incoming, -1)
        pieces.run(
            len(targets),
            512,
            lambda a, b: back_links.patch_targets(
                self._codes, self._links, self._degree, targets, starts, sources, dists, num, den, a, b
            ),
        )
        patch.count_incoming(self._links, targets, self._incoming, 1)
        return np.concatenate([targets, *self._rejoined(rows, targets, before, pieces)])

    def _rejoined(
        self, rows: NDArray[np.int32], targets: NDArray[np.int32], before: NDArray[np.int32], pieces: Pieces
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Lead to new rows that nothing leads to, and to rows that patching `targets` cut off; give the givers."""
        state = self._links, self._degree, self._incoming
        lost = before[(self._incoming[before] == 0) & (before >= 0)]
        lonely = np.concatenate([rows[self._incoming[rows] == 0], np.unique(lost)])
        first = np.empty(len(lonely), np.int32)
        first = first[: patch.link_lonely(state[0], state[1], lonely, state[2], first)]
        cut = np.empty(before.shape, np.uint8)
        pieces.run(len(targets), 512, lambda a, b: cut_off(self._codes, self._links, targets, before, cut, a, b))
        more = np.empty(np.count_nonzero(cut), np.int32)
        more = more[: rejoin(self._codes, *state, targets, before, cut, more)]
        return first, more

    def _fill_up(
        self,
        rows: NDArray[np.int32],
        chosen: NDArray[np.int32],
        degree: NDArray[np.int32],
        found: Candidates,
        pieces: Pieces,
    ) -> None:
        """Let new rows link to those chosen and, up to the last place, to the nearest of their other candidates."""
        links, places = np.full((len(rows), DEGREE), -1, np.int32), np.full(len(rows), DEGREE, np.int32)
        links[:, :FORWARD] = chosen
        pieces.run(len(rows), 256, lambda a, b: prune.top_up(links, degree, places, found.ids, a, b))
        self._links[rows], self._degree[rows] = links, degree
