"""The one writer of a collection: gathers what callers send, makes it durable, publishes a View, acknowledges.

It commits at once when idle and gathers a group only while a commit is running. The protocol of one commit:
vectors are appended and synced, then one SQLite transaction is committed (here the write is acknowledged and
nowhere else), then the View is published and callers are told. Rows that were appended but not committed are
never read and are overwritten or cut when the collection is opened.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.batch import Batch
from vicinal.bits import bits_from_mask
from vicinal.errors import Closed, InvalidArgument, LimitExceeded, ReadOnly, StorageFull, Unavailable
from vicinal.fields import FieldStore, growable
from vicinal.storage.catalog import Catalog, Commit, NewPoint
from vicinal.types import PointId
from vicinal.view import Changes, IdColumn, View

__all__ = ["Delete", "Rewrite", "Upsert", "Writer"]

GROUP_BYTES: Final = 8 * 1024 * 1024  # a larger group delays its first caller more than it saves syncs


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert or replace the points of one batch."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete points by id; `resolve` picks them from the newest View instead (delete by filter)."""

    ids: Sequence[PointId] = ()
    resolve: Callable[[View], Sequence[PointId]] | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Replace payloads: `change` gives the new JSON of an old one (None: no payload); vectors stay where they are."""

    change: Callable[[bytes | None], bytes | None]
    ids: Sequence[PointId] = ()
    resolve: Callable[[View], Sequence[PointId]] | None = None


Operation = Upsert | Delete | Rewrite
_Pending = tuple[Operation, "Future[int]"]


@contextmanager
def _short_of_memory() -> Iterator[None]:
    """Before anything is synced, what finds no memory can be forgotten and tried again."""
    try:
        yield
    except MemoryError as error:
        raise StorageFull("no memory is left for this write: reads go on", field="memory") from error


class _Group:
    """The effect of several operations in order, before anything is written."""

    def __init__(self, catalog: Catalog, first: int, seq: int) -> None:
        self._catalog, self._first, self._seq = catalog, first, seq
        self.points: list[NewPoint] = []
        self.dead: list[int] = []
        self.payloads: list[tuple[int, bytes | None]] = []
        self._here: dict[PointId, int | None] = {}  # slots given in this group; None: deleted in it

    def upsert(self, batch: Batch, mask: int) -> int:
        slot = self._first + len(self.points)
        self._kill(batch.ids)
        for offset, (i, payload) in enumerate(zip(batch.ids, batch.payloads, strict=True)):
            self.points.append(NewPoint(slot + offset, i, payload, mask))
            self._here[i] = slot + offset
        return self._seq

    def delete(self, ids: Sequence[PointId]) -> int:
        unique = list(dict.fromkeys(ids))
        killed = self._kill(unique)
        self._here.update(dict.fromkeys(unique))
        return killed

    def rewrite(self, ids: Sequence[PointId], change: Callable[[bytes | None], bytes | None]) -> int:
        slots = [s for s in self._catalog.live_slots(list(dict.fromkeys(ids))) if s is not None]
        for slot, old in zip(slots, self._catalog.payloads(slots, self._seq), strict=True):
            new = change(old)
            if new != old:
                self.payloads.append((slot, new))
        return len(slots)

    def _kill(self, ids: Sequence[PointId]) -> int:
        before = len(self.dead)
        here = self._here
        unknown = [i for i in ids if i not in here] if here else ids
        self.dead += [s for s in self._catalog.live_slots(unknown) if s is not None]
        if here:
            self.dead += [s for i in ids if (s := here.get(i)) is not None]
        return len(self.dead) - before


class Writer:
    """Owns the write side of one collection. `submit` may be called from any thread."""

    def __init__(
        self,
        catalog: Catalog,
        fields: Mapping[str, FieldStore],
        view: View,
        dead: NDArray[np.bool_],
        *,
        read_only: bool = False,
    ) -> None:
        self._catalog, self._fields = catalog, fields
        self._view = view
        self._dead, self._dead_count = dead, int(dead[: view.n].sum())
        self._numbers = view.ids.numbers
        self._texts = dict(view.ids.texts)
        self._queue: deque[_Pending] = deque()
        self._wake = threading.Condition()
        self._publishing = threading.Lock()
        self._committing = threading.Lock()  # held from the choice of a group until it is acknowledged
        self._closing = False
        self._read_only = read_only
        self._failure: BaseException | None = None
        self.published = threading.Event()  # tells the indexer
        self._wrote = -math.inf  # when the last commit ended
        self._thread = threading.Thread(target=self._run, name="vicinal-writer", daemon=True)
        self._thread.start()

    @property
    def view(self) -> View:
        """The newest published View."""
        return self._view

    @property
    def idle_seconds(self) -> float:
        """How long there has been nothing to write; 0 while something is written."""
        return 0.0 if self._queue or self._committing.locked() else time.monotonic() - self._wrote

    @property
    def read_only(self) -> bool:
        """True after a failed write: what is on disk is unknown until the collection is reopened."""
        return self._read_only or self._failure is not None

    def submit(self, operation: Operation) -> Future[int]:
        """Queue an operation. Its future resolves once it is durable and visible.

        An upsert resolves to its commit number, a delete to the number of points deleted.
        """
        done: Future[int] = Future()
        with self._wake:
            self._check_open()
            self._queue.append((operation, done))
            self._wake.notify_all()
        return done

    def _check_open(self) -> None:
        if self._closing:
            raise Closed("the database is closed")
        if self._read_only:
            raise ReadOnly("the database was opened read-only")
        self._check_intact()

    def _check_intact(self) -> None:
        if self._failure is not None:
            raise ReadOnly(
                f"writes are refused since one failed ({self._failure}): close and reopen the database"
            ) from self._failure

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Commit nothing inside the block: what is submitted waits."""
        with self._committing:
            yield

    def leave(self) -> list[_Pending]:
        """Stop for good and give up what is queued, for another writer to `take`. Only while paused."""
        with self._wake:
            self._closing = True
            left = list(self._queue)
            self._queue.clear()
            self._wake.notify_all()
        return left

    def take(self, pending: Iterable[_Pending]) -> None:
        """Queue what another writer left, first."""
        with self._wake:
            self._queue.extendleft(reversed(list(pending)))
            self._wake.notify_all()

    def refuse(self, failure: BaseException) -> None:
        """Take no more writes until the collection is reopened: what is on disk is unknown."""
        self._failure = failure

    def publish_index(self, name: str) -> None:
        """Replace one field's picture after its graph has grown; called by the indexer."""
        with self._publishing:
            view = self._view
            self._view = view.with_field(name, self._fields[name].view(view.n))

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
            with self._committing:
                self._write()

    def _take_group(self, group: list[_Pending]) -> None:
        """Move what goes into one commit from the queue into `group`; with a MemoryError, whom to tell of it."""
        with self._wake:
            try:
                self._fill(group)
            except MemoryError:
                if not group and self._queue:
                    group.append(self._queue.popleft())
                raise

    def _fill(self, group: list[_Pending]) -> None:
        size = rows = 0
        while self._queue:
            operation = self._queue[0][0]
            # it looks at what is committed, so nothing of its own group may come before it
            alone = isinstance(operation, Rewrite) or (isinstance(operation, Delete) and operation.resolve is not None)
            if isinstance(operation, Upsert):
                size += operation.batch.nbytes
                rows += len(operation.batch.ids)
            if group and (alone or size > GROUP_BYTES or rows > limits.BATCH_POINTS_MAX):
                break
            group.append(self._queue.popleft())
            if alone:
                break

    def _write(self) -> None:
        """Carry a group out and tell its callers; it is empty when another writer took the queue meanwhile."""
        group: list[_Pending] = []
        try:
            with _short_of_memory():
                self._take_group(group)
            self._check_intact()  # rows that waited behind a failed write would follow those that no commit holds
            results = self._commit([operation for operation, _ in group])
            self._wrote = time.monotonic()
        except (InvalidArgument, LimitExceeded, StorageFull, Unavailable) as error:  # nothing of it stays: go on
            outcome: BaseException = error
        except BaseException as error:  # noqa: BLE001  a defect of ours must not leave callers waiting either
            # what reached the disk is unknown: refuse writes until recovery has looked at it
            outcome = error
            self._failure = self._failure or error
        else:
            for (_, done), result in zip(group, results, strict=True):
                done.set_result(result)
            return
        for _, done in group:
            done.set_exception(outcome)

    def _commit(self, operations: Sequence[Operation]) -> list[int]:
        view = self._view
        seq = view.seq + 1
        group = _Group(self._catalog, view.n, seq)
        with _short_of_memory():
            results = [self._apply(group, operation, view) for operation in operations]
        if not group.points and not group.dead and not group.payloads:
            return results
        n = view.n + len(group.points)
        if n > limits.SLOTS_MAX:
            raise LimitExceeded("the collection is full", field="slots", value=n, limit=limits.SLOTS_MAX)
        self._store(operations, group, view, n)
        self._publish(seq, n, group)
        return results

    def _store(self, operations: Sequence[Operation], group: _Group, view: View, n: int) -> None:
        """Append, sync, commit. A full disk leaves everything as it was, except in the middle of a sync."""
        try:
            with _short_of_memory():
                self._append(operations, view.n)
            try:
                self._sync(view.seq)
            except StorageFull as error:  # the kernel may have dropped pages: what a retry says is worth nothing
                raise ReadOnly(f"a sync failed: {error}") from error
            self._catalog.commit(self._commit_row(view.seq + 1, n, group))
        except (StorageFull, InvalidArgument, Unavailable):  # after which `_write` lets writes go on
            for field in self._fields.values():
                field.rewind(view.n)
            raise

    def _apply(self, group: _Group, operation: Operation, view: View) -> int:
        if isinstance(operation, Upsert):
            return group.upsert(operation.batch, self._mask(operation.batch))
        ids = operation.ids if operation.resolve is None else operation.resolve(view)
        return group.rewrite(ids, operation.change) if isinstance(operation, Rewrite) else group.delete(ids)

    def _mask(self, batch: Batch) -> int:
        return sum(1 << bit for bit, name in enumerate(self._fields) if name in batch.parts)

    def _append(self, operations: Sequence[Operation], first: int) -> None:
        for operation in operations:
            if isinstance(operation, Upsert):
                batch = operation.batch
                for name, field in self._fields.items():
                    field.append(batch.parts.get(name), first, len(batch.ids))
                first += len(batch.ids)

    def _sync(self, previous_seq: int) -> None:
        for field in self._fields.values():
            for file in field.files.values():
                file.sync(previous_seq)

    def _commit_row(self, seq: int, n: int, group: _Group) -> Commit:
        files = {name: file for field in self._fields.values() for name, file in field.files.items()}
        crcs = {name: file.crcs_since() for name, file in files.items()}
        counts = {name: file.rows for name, file in files.items()}
        return Commit(
            seq=seq, rows=n, points=group.points, dead=group.dead, payloads=group.payloads, crcs=crcs, counts=counts
        )

    def _publish(self, seq: int, n: int, group: _Group) -> None:
        self._numbers = growable(self._numbers, n)
        for point in group.points:
            if isinstance(point.id, str):
                self._texts[point.slot] = point.id
            else:
                self._numbers[point.slot] = point.id
        dead_bits = self._view.dead
        if group.dead:
            self._dead = growable(self._dead, n)
            self._dead[group.dead] = True
            self._dead_count += len(group.dead)
        if self._dead_count:
            self._dead = growable(self._dead, n)
            dead_bits = bits_from_mask(self._dead[:n])
        with self._publishing:
            fields = {name: field.view(n) for name, field in self._fields.items()}
            ids = IdColumn(self._numbers, self._texts)
            changes = self._changes(seq, group.payloads)
            self._view = View(seq, n, n - self._dead_count, dead_bits, ids, fields, changes)
        self.published.set()

    def _changes(self, seq: int, payloads: Sequence[tuple[int, bytes | None]]) -> Changes:
        """The View's log of changed payloads with these added; readers of older Views keep theirs."""
        slots, seqs, total = self._view.changes
        if not payloads:
            return self._view.changes
        stop = total + len(payloads)
        slots, seqs = growable(slots, stop), growable(seqs, stop)
        slots[total:stop] = [slot for slot, _ in payloads]
        seqs[total:stop] = seq
        return Changes(slots, seqs, stop)
