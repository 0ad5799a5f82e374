"""The points of an index in memory: rows by slot, their labels, what is deleted, and the graph over them.

A slot is written once. A label given again takes a new slot, the old one is gone with the same picture; `compact`
takes gone slots out, and does so by itself when they outnumber the others. One thread writes at a time, readers take
`picture` and never wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import word_count
from vicinal.flat.arrays import all_bits, bits_without, last_of_each
from vicinal.flat.inputs import Refused, unknown_label
from vicinal.flat.labels import MISSING, LabelMap
from vicinal.flat.picture import Picture, walks
from vicinal.index.field_index import FieldIndex
from vicinal.index.functions import check_function
from vicinal.index.mapped import is_mapped, let_go
from vicinal.index.row_room import RowRoom, longer
from vicinal.types import Bits, HnswParams, Metric, Rows

__all__ = ["ALIVE", "DELETED", "GONE", "Points", "Tell"]

ALIVE, DELETED, GONE = 0, 1, 2
Tell = Callable[[float], None]
_COMPACT_SLOTS: Final = 4096  # gone slots that are never worth a rebuild
_FIRST_ROWS: Final = 64
_MANY_ROWS: Final = 4096  # added at once
_LABELS_END: Final = 1 << 64


def _never() -> bool:
    return False


class Points:
    """Points of one metric and dimension; params None: no graph, every search scans. keep: see `RowRoom`."""

    def __init__(self, metric: Metric, dim: int, params: HnswParams | None, keep: str = "memory") -> None:
        check_function(metric, dim)
        self.metric, self.dim, self.params = metric, dim, params
        self._graph = FieldIndex(metric, dim, params) if params is not None else None
        coded = self._graph is not None and self._graph.may_code
        self._room = RowRoom(dim, "memory" if keep == "auto" and not coded else keep)
        self._names = LabelMap()
        self._writing = threading.RLock()  # one writer at a time
        self._publishing = threading.Lock()  # names, states and the picture change together
        self._filtering = threading.Lock()  # held while what answers filtered queries is made
        self._added = 0  # rows ever, updates included
        self._taken = 0  # slots written, in the picture or not
        self._alive = 0
        self._gone = 0
        self._rows = Rows(np.empty((0, dim), np.float32), np.empty(0, np.float32))
        self._labels = np.empty(0, np.uint64)
        self._states = np.empty(0, np.uint8)
        self.picture = Picture(metric, self._rows, None, 0, self._labels, None, 0, plain=True, walk=None)

    def __len__(self) -> int:
        """Labels, those marked deleted included."""
        return len(self._names)

    # writing

    def add(
        self,
        vectors: NDArray[np.float32],
        inv_norms: NDArray[np.float32],
        labels: NDArray[np.uint64] | None,
        *,
        replace: bool = False,
        tell: Tell | None = None,
    ) -> None:
        """Add or update points, all of which are found once this returns and none before.

        labels: (m,); None: the numbers that follow the count of rows ever added, or the largest label if those are
        taken. replace: each new label takes the place of one marked deleted, which is forgotten. `tell` hears the
        share done.
        """
        with self._writing:
            given = len(vectors)
            if labels is None:
                labels = self._free_labels(given)
            elif given > 1:
                vectors, inv_norms, labels = last_of_each(vectors, inv_norms, labels)
            start, stop = self._taken, self._taken + len(vectors)
            self._make_room(stop)
            self._rows.vectors[start:stop] = vectors
            if self.metric is Metric.COSINE:
                self._rows.inv_norms[start:stop] = inv_norms
            self._labels[start:stop] = labels
            self._states[start:stop] = GONE  # until published
            self._taken = stop
            self._gone += stop - start
            self._link(tell)
            if given >= _MANY_ROWS:
                let_go(self._rows.vectors)  # building read all of them
            self._publish(start, labels, replace=replace)
            self._added += given
            self._retire()
            if self._gone > max(_COMPACT_SLOTS, len(self._names)):
                self.compact(drop_deleted=False)

    def _free_labels(self, count: int) -> NDArray[np.uint64]:
        """So many labels in a row that nobody has."""
        labels = np.arange(self._added, self._added + count, dtype=np.uint64)
        if (self._names.find(labels) == MISSING).all():
            return labels
        first = int(self._labels[: self._taken].max()) + 1
        if first + count > _LABELS_END:
            raise Refused("labels after the largest one are used up: pass ids", field="ids", limit=_LABELS_END - 1)
        return np.arange(count, dtype=np.uint64) + np.uint64(first)

    def _make_room(self, rows: int) -> None:
        """Let the arrays hold so many rows."""
        used = self._taken
        if rows <= len(self._labels) and rows <= len(self._rows.vectors) and not self._room.shared:
            return
        rows = max(rows, used + used // 2, _FIRST_ROWS)
        self._labels = longer(self._labels, rows, used)
        self._states = longer(self._states, rows, used)
        norms = self._rows.inv_norms
        if self.metric is Metric.COSINE:
            norms = longer(norms, rows, used)
        self._rows = Rows(self._room.longer(self._rows.vectors, rows, used), norms)

    def reserve(self, rows: int) -> None:
        """Make room for so many rows now, unless they go to a file, which grows without copying."""
        with self._writing:
            if not self._room.in_file(rows):
                self._make_room(rows)

    def _link(self, tell: Tell | None) -> None:
        """Take every slot written into the graph."""
        graph, stop = self._graph, self._taken
        start = graph.n if graph is not None else stop
        while graph is not None and graph.n < stop:
            graph.extend(self._rows, stop, _never)
            if tell is not None:
                tell((graph.n - start) / (stop - start))
        if tell is not None and start == stop:
            tell(1.0)

    def _retire(self) -> None:
        """Take gone slots out of the graph when they are enough; those marked deleted may come back, and stay."""
        graph = self._graph
        if graph is None or not graph.may_retire(self._gone):
            return
        gone = self._states[: self._taken] == GONE
        while graph.retire(self._rows, gone, _never):
            with self._publishing:
                self._show(self.picture.alive, plain=self.picture.plain)

    def _publish(self, start: int, labels: NDArray[np.uint64], *, replace: bool) -> None:
        """Let readers see slots [start, taken) under these labels."""
        with self._publishing:
            if len(labels) == 1 and not replace and self._publish_new(start, int(labels[0])):
                return
            before = self._names.find(labels)
            old = before[before != MISSING]
            forgotten = self._vacant(len(labels) - len(old), old) if replace else np.empty(0, np.int64)
            if len(forgotten):
                self._names.drop(self._labels[forgotten])
            ended = np.concatenate((old, forgotten))
            self._alive += len(labels) - int((self._states[ended] == ALIVE).sum())
            self._states[start : self._taken] = ALIVE
            self._states[ended] = GONE
            self._gone += len(ended) - len(labels)
            self._names.put(labels, np.arange(start, self._taken))
            was = self.picture
            plain = was.plain and bool((labels == np.arange(start, self._taken)).all())
            self._show(self._alive_bits(was, ended), plain=plain)

    def _publish_new(self, slot: int, label: int) -> bool:
        """Let readers see one slot more, the one after the last they see, under a label of its own; else False."""
        was = self.picture
        bits = was.alive
        seen = slot == was.n and (bits is None or len(bits) >= word_count(slot + 1))  # bits beyond the last are set
        if not seen or self._names.get(label) != MISSING:
            return False
        self._states[slot] = ALIVE
        self._alive += 1
        self._gone -= 1
        self._names.put_new(label, slot)
        self._show(bits, plain=was.plain and label == slot)
        return True

    def _vacant(self, count: int, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first slots marked deleted, at most `count`, leaving out `kept`."""
        if count <= 0 or len(self._names) == self._alive:
            return np.empty(0, np.int64)
        slots = np.flatnonzero(self._states[: self.picture.n] == DELETED)
        return np.setdiff1d(slots, kept)[:count] if len(kept) else slots[:count]

    def _alive_bits(self, was: Picture, ended: NDArray[np.int64]) -> Bits | None:
        """The alive bits of all slots taken: a copy where bits are lost, so that older pictures stay whole."""
        skipped = was.n + np.flatnonzero(self._states[was.n : self._taken] != ALIVE)
        room = max(self._taken, len(self._labels))
        return bits_without(was.alive, np.concatenate((ended, skipped)), self._taken, room)

    def expect_filters(self) -> None:
        """Begin to make, in the background, what answers filtered queries over codes, unless it is there.

        Later pictures have it; it takes some seconds of a large index, for which writers wait.
        """
        graph = self._graph
        if graph is None or not graph.lacks_filters or not self._filtering.acquire(blocking=False):
            return
        threading.Thread(target=self._make_filters, name="vicinal-filters", daemon=True).start()

    def _make_filters(self) -> None:
        try:
            with self._writing:
                if self._graph is not None:
                    self._graph.make_filters(self._rows, _never)
                with self._publishing:
                    self._show(self.picture.alive, plain=self.picture.plain)
        finally:
            self._filtering.release()

    def _show(self, alive: Bits | None, *, plain: bool) -> None:
        graph = self._graph.searcher() if self._graph is not None else None
        n, count = self._taken, self._alive
        walk = walks(self.metric, graph, n, count)
        self.picture = Picture(self.metric, self._rows, graph, n, self._labels, alive, count, plain, walk)

    # single labels

    def delete(self, label: int) -> None:
        """Mark a point as deleted: no search returns it."""
        self._mark(label, ALIVE, DELETED, "The requested to delete element is already deleted")

    def restore(self, label: int) -> None:
        """Let searches return a point again."""
        self._mark(label, DELETED, ALIVE, "The requested to undelete element is not deleted")

    def _mark(self, label: int, before: int, after: int, otherwise: str) -> None:
        with self._publishing:
            slot = self._names.get(label)
            if slot == MISSING:
                raise unknown_label(label)
            if self._states[slot] != before:
                raise Refused(otherwise, field="label", value=label)
            self._states[slot] = after
            was = self.picture
            bits = was.alive
            if bits is None:
                bits = all_bits(len(self._labels))
            bits[slot >> 6] ^= np.uint64(1 << (slot & 63))
            self._alive += 1 if after == ALIVE else -1
            walk = walks(self.metric, was.graph, was.n, self._alive)
            self.picture = was._replace(alive=bits, alive_count=self._alive, walk=walk)

    def remove(self, label: int) -> bool:
        """Take a point out for good; False when there is none."""
        with self._writing:
            with self._publishing:
                slot = self._names.get(label)
                if slot == MISSING:
                    return False
                self._alive -= int(self._states[slot] == ALIVE)
                self._states[slot] = GONE
                self._gone += 1
                self._names.drop(np.array([label], np.uint64))
                self._show(self._alive_bits(self.picture, np.array([slot])), plain=self.picture.plain)
            self._retire()
            if self._gone > max(_COMPACT_SLOTS, len(self._names)):
                self.compact(drop_deleted=False)
        return True

    def is_alive(self, label: int) -> bool:
        """Whether searches may return the label."""
        with self._publishing:
            slot = self._names.get(label)
            return slot != MISSING and bool(self._states[slot] == ALIVE)

    # many labels

    def pinned(self, labels: NDArray[np.uint64]) -> tuple[Picture, NDArray[np.int64]]:
        """A picture, and the labels' slots in it (MISSING where there is none)."""
        with self._publishing:
            return self.picture, self._names.find(labels)

    def vectors_of(self, labels: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Copies of the vectors as they were added; LabelNotFound when one is missing or marked deleted."""
        with self._publishing:
            slots = self._names.find(labels)
            bad = slots == MISSING
            bad[~bad] = self._states[slots[~bad]] != ALIVE
            vectors = self._rows.vectors
        if bad.any():
            raise unknown_label(int(labels[int(np.argmax(bad))]))
        found: NDArray[np.float32] = vectors[slots]
        return found

    def all_labels(self) -> NDArray[np.uint64]:
        """Every label by slot, those marked deleted included."""
        with self._publishing:
            n = self.picture.n
            found: NDArray[np.uint64] = self._labels[:n][self._states[:n] != GONE]
        return found

    # whole

    def compact(self, *, drop_deleted: bool) -> None:
        """Take gone slots out, and points marked deleted if so asked, and build the graph anew."""
        with self._writing:
            with self._publishing:
                if drop_deleted:
                    self._forget_deleted()
                kept = np.flatnonzero(self._states[: self._taken] != GONE)
            fresh = Points(self.metric, self.dim, self.params, self._room.keep)
            fresh.adopt(
                fresh._room.taken(self._rows.vectors, kept),
                self._rows.inv_norms[kept] if self.metric is Metric.COSINE else self._rows.inv_norms,
                self._labels[kept],
                self._states[kept],
            )
            with self._publishing:
                fresh.states(self._states[kept])  # points may have been marked meanwhile
                self._take_over(fresh)

    def content(self) -> tuple[NDArray[np.float32], NDArray[np.uint64], NDArray[np.uint8], bytes]:
        """Vectors, labels and states of all slots, and the graph as bytes."""
        with self._writing:
            self._link(None)
            n = self._taken
            graph = self._graph.encode() if self._graph is not None and self._graph.n else b""
            with self._publishing:
                return self._rows.vectors[:n], self._labels[:n], self._states[:n].copy(), graph

    def memory(self) -> dict[str, int]:
        """Bytes of memory by part, room kept for growth included, and under `mapped` those that lie in a file."""
        with self._publishing:
            picture = self.picture
            bits = 0 if picture.alive is None else picture.alive.nbytes
            vectors, labels = self._rows.vectors, self._labels
            mapped = [array.nbytes if is_mapped(array) else 0 for array in (vectors, labels)]
            return {
                "vectors": vectors.nbytes - mapped[0] + self._rows.inv_norms.nbytes,
                "graph": picture.graph.nbytes if picture.graph is not None else 0,
                "labels": labels.nbytes - mapped[1] + self._states.nbytes + bits + self._names.nbytes,
                "mapped": sum(mapped),
            }

    def _forget_deleted(self) -> None:
        slots = np.flatnonzero(self._states[: self._taken] == DELETED)
        self._names.drop(self._labels[slots])
        self._states[slots] = GONE
        self._gone += len(slots)

    def _take_over(self, other: Points) -> None:
        self._graph, self._names = other._graph, other._names
        self._rows, self._labels, self._states = other._rows, other._labels, other._states
        self._room = other._room
        self._taken, self._alive, self._gone = other._taken, other._alive, other._gone
        self.picture = other.picture

    def adopt(
        self,
        vectors: NDArray[np.float32],
        inv_norms: NDArray[np.float32],
        labels: NDArray[np.uint64],
        states: NDArray[np.uint8],
        graph: memoryview | bytes = b"",
        tell: Tell | None = None,
    ) -> None:
        """Take these arrays as the slots of an empty index, with the graph they had if there is one.

        Labels of slots that are not gone must differ. The arrays may be maps of a file.
        """
        n = len(vectors)
        self._rows, self._labels = Rows(self._room.taken(vectors), inv_norms), labels
        self._taken = n
        self._states = states.copy()
        if graph and self._graph is not None:
            self._graph.decode(graph, self._rows, n)
        self._link(tell)
        let_go(self._rows.vectors)
        named = np.flatnonzero(states != GONE)
        self._names.put(labels[named], named)
        self._added = len(named)
        self.states(states)

    def states(self, states: NDArray[np.uint8]) -> None:
        """Set the states of all slots and publish them."""
        self._states = states.copy()
        self._alive, self._gone = int((states == ALIVE).sum()), int((states == GONE).sum())
        dead = np.flatnonzero(states != ALIVE)
        bits = bits_without(None, dead, len(states), len(states))
        plain = bool((self._labels[: self._taken] == np.arange(self._taken)).all())
        self._show(bits, plain=plain)
