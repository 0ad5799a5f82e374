"""Copy what is alive in one generation of a collection into another, which follows it until they are the same.

A generation is a directory: catalogue, row files, snapshots. The copy takes slots in order and leaves the dead ones
out, so it renumbers; it keeps commit numbers, and payloads as of the newest commit it has followed. Nobody knows of the
copy until the data directory's catalogue names it, so what a crash leaves of it is removed on the next opening.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_at, bits_from_mask, mask_from_bits
from vicinal.fields import growable
from vicinal.maintenance import Opened
from vicinal.storage.catalog import Commit, NewPoint
from vicinal.view import NO_CHANGES, Changes, IdColumn, View

__all__ = ["Abandoned", "Copy"]

CHUNK_ROWS: Final = 8192  # slots copied at a time, in one transaction
_GONE: Final = -1

Cancel = Callable[[], bool]


class Abandoned(Exception):
    """The copy was cancelled."""


class Copy:
    """What is alive in `source`, in the empty `target`; one thread."""

    def __init__(self, source: Opened, target: Opened, cancel: Cancel) -> None:
        self.target = target
        self._source = source
        self._cancel = cancel
        self._seen: View | None = None  # followed up to here
        self._placed = np.zeros(0, np.int64)  # slot of the source → slot of the target, or _GONE
        self._n = 0
        self._numbers = np.zeros(0, np.uint64)
        self._texts: dict[int, str] = {}
        self._dead = np.zeros(0, np.bool_)
        self._changes = NO_CHANGES
        for name, (rows, sums) in source.catalog.row_sums().items():
            _row_file(source, name).verify(sums, rows)  # a damaged row must not get a new checksum

    def behind(self, view: View) -> int:
        """How many slots and payloads the source has changed since."""
        if self._seen is None:
            return view.n
        seen = self._seen
        return view.n - seen.n + (view.n - view.alive) - (seen.n - seen.alive) + view.changes.total - seen.changes.total

    def follow(self, view: View) -> None:
        """Take in everything up to `view`, durably; raises Abandoned when cancelled in between."""
        since = self._seen
        first = 0 if since is None else since.n
        self._placed = growable(self._placed, view.n)
        dead = np.zeros(view.n, np.bool_) if view.dead is None else mask_from_bits(view.dead, view.n)
        died = self._bury(dead[:first])  # before their ids come back
        changed = [] if since is None else self._changed(view, since.changes.total, dead)
        self._fill(view.seq, [], died, changed)
        for start in range(first, view.n, CHUNK_ROWS):
            if self._cancel():
                raise Abandoned
            stop = min(start + CHUNK_ROWS, view.n)
            self._append(view, start, start + np.flatnonzero(~dead[start:stop]), stop)
        for field in self.target.fields.values():
            for file in field.files.values():
                file.sync(max(view.seq - 1, 0))
                file.stamp(
                    max(view.seq - 1, 0)
                )  # also one without rows: the catalogue says that this commit changed it
        self._seen = view

    def _bury(self, dead: NDArray[np.bool_]) -> list[int]:
        """Mark what died among the slots copied before; gives their new slots."""
        placed = self._placed[: len(dead)]
        gone = np.flatnonzero(dead & (placed != _GONE))
        slots = placed[gone]
        self._dead[slots] = True
        placed[gone] = _GONE
        died: list[int] = slots.tolist()
        return died

    def _changed(self, view: View, total: int, dead: NDArray[np.bool_]) -> list[tuple[int, bytes | None]]:
        """The new payloads of slots copied before."""
        assert self._seen is not None, "there is nothing to change before the first copy"
        slots = np.unique(view.changes.slots[total : view.changes.total]).astype(np.int64)
        slots = slots[slots < self._seen.n]
        slots = slots[~dead[slots]]
        bodies = self._source.catalog.payloads(slots.tolist(), view.seq)
        return list(zip(self._placed[slots].tolist(), bodies, strict=True))

    def _append(self, view: View, start: int, slots: NDArray[np.intp], stop: int) -> None:
        """Copy the slots that live among start .. stop - 1."""
        first, count = self._n, len(slots)
        self._placed[start:stop] = _GONE
        self._placed[slots] = np.arange(first, first + count)
        if not count:
            return
        masks = np.zeros(count, np.int64)
        for bit, (name, field) in enumerate(self.target.fields.items()):
            source: Any = view.fields[name]
            field.copy(self._source.fields[name], source, slots, first)
            here = True if source.present is None else bits_at(source.present, slots)
            masks |= np.where(here, 1 << bit, 0)
        ids, bodies = view.ids.at(slots), self._source.catalog.payloads(slots.tolist(), view.seq)
        points = [NewPoint(first + at, *row) for at, row in enumerate(zip(ids, bodies, masks.tolist(), strict=True))]
        self._n += count
        self._fill(view.seq, points, [], [])
        self._numbers, self._dead = growable(self._numbers, self._n), growable(self._dead, self._n)
        self._dead[first : self._n] = False
        for point in points:
            if isinstance(point.id, str):
                self._texts[point.slot] = point.id
            else:
                self._numbers[point.slot] = point.id

    def _fill(
        self, seq: int, points: list[NewPoint], died: list[int], payloads: list[tuple[int, bytes | None]]
    ) -> None:
        files = {name: file for field in self.target.fields.values() for name, file in field.files.items()}
        crcs = {name: file.crcs_since() for name, file in files.items()}
        counts = {name: file.rows for name, file in files.items()}
        self.target.catalog.fill(Commit(seq, self._n, points, died, crcs, counts, payloads))
        if payloads:
            slots, seqs, total = self._changes
            stop = total + len(payloads)
            slots, seqs = growable(slots, stop), growable(seqs, stop)
            slots[total:stop] = [slot for slot, _ in payloads]
            seqs[total:stop] = seq
            self._changes = Changes(slots, seqs, stop)

    def index(self) -> None:
        """Take all that was copied into the graphs; raises Abandoned when cancelled in between."""
        dead = self._dead[: self._n]
        for field in self.target.fields.values():
            while field.indexed < self._n:
                field.extend_index(self._n, self._cancel, dead if dead.any() else None)
                if self._cancel():
                    raise Abandoned

    def opened(self) -> Opened:
        """The target with a View of what was copied, ready for a writer once the source writes no more."""
        assert self._seen is not None, "there is nothing to open before the first copy"
        dead = self._dead[: self._n]
        gone = int(dead.sum())
        fields = {name: field.view(self._n) for name, field in self.target.fields.items()}
        ids = IdColumn(self._numbers, self._texts)
        bits = bits_from_mask(dead) if gone else None
        view = View(self._seen.seq, self._n, self._n - gone, bits, ids, fields, self._changes)
        self.target.view, self.target.dead = view, dead.copy()
        return self.target


def _row_file(opened: Opened, name: str) -> Any:
    return next(field.files[name] for field in opened.fields.values() if name in field.files)
