"""The background indexer of a collection: takes the tail into the graphs, publishes, and writes snapshots.

Nothing here is needed for a right answer: the tail is scanned exactly until the graph has it, and a lost snapshot
is rebuilt. So the indexer may be stopped or killed at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final

from vicinal import limits
from vicinal.bits import mask_from_bits
from vicinal.errors import Unavailable
from vicinal.fields import FieldStore
from vicinal.view import View
from vicinal.writer import Writer

__all__ = ["Indexer"]

SNAPSHOT_ROWS: Final = 20_000
SNAPSHOT_SHARE: Final = 0.1
REST_SECONDS: Final = 5.0  # after a build that found too little memory
BURST_SECONDS: Final = 0.25  # for which a burst of writes has the processor to itself
PAUSE_SECONDS: Final = 0.01  # without a write, after which a burst is over

SaveSnapshot = Callable[[str, Sequence[bytes | memoryview], int], bool]


class Indexer:
    """One thread per collection.

    `save` stores a field's snapshot: (field, bytes, slots covered); False when it could not. `keep_up` derives what
    else there is from a View when the graphs have everything; `watch` sees a View after every step, also of a burst
    that never ends.
    """

    def __init__(
        self,
        writer: Writer,
        fields: Mapping[str, FieldStore],
        save: SaveSnapshot | None,
        keep_up: Callable[[View, Callable[[], bool]], None],
        watch: Callable[[View], None],
    ) -> None:
        self._keep_up, self._watch = keep_up, watch
        self._writer, self._fields, self._save = writer, fields, save
        self._saved = {name: field.indexed for name, field in fields.items()}
        self._tried = dict(self._saved)  # a full disk is not written to again after every chunk
        self._progress = threading.Condition()
        self._working = threading.Lock()  # held while graphs change
        self._awaited = 0  # callers who wait for the graphs
        self._stop = False
        self._followed = -1  # the commit that all graphs have followed as far as they mean to
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vicinal-indexer", daemon=True)
        self._thread.start()

    def close(self, *, save: bool = True) -> None:
        """Stop after the current chunk and `save` what is worth saving."""
        self._stop = True
        self._writer.published.set()
        self._thread.join()
        for name, field in self._fields.items():
            if save and self.failure is None and field.indexed > self._saved[name]:
                self._snapshot(name, field)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let no graph change inside the block."""
        with self._working:
            yield

    def tail(self) -> int:
        """Slots that some field's graph does not have yet."""
        n = self._writer.view.n
        return max(n - field.indexed for field in self._fields.values())

    def wait_empty(self, timeout: float | None = None) -> bool:
        """Wait until the published graph has everything committed before this call; False after `timeout` seconds."""
        n = self._writer.view.n
        # the View's count, not the field's: the graph may have grown a moment before readers can see it
        return self._wait(lambda: min(f.indexed for f in self._writer.view.fields.values()) >= n, timeout)

    def wait_retired(self, timeout: float | None = None) -> bool:
        """Wait until the graphs have done all they mean to for the View of now; False after `timeout` seconds."""
        seq = self._writer.view.seq
        return self._wait(lambda: self._followed >= seq, timeout)

    def wait_room(self) -> None:
        """Hold a writer back while the tail is at its hard bound."""
        if not self._has_room():
            self._wait(self._has_room, None)

    def _has_room(self) -> bool:
        return self._tail_bytes() < limits.TAIL_HARD_BYTES

    def _tail_bytes(self) -> int:
        n = self._writer.view.n
        return sum(field.tail_bytes(n) for field in self._fields.values())

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        with self._progress:
            self._awaited += 1
            self._progress.notify_all()
            try:
                done = self._progress.wait_for(lambda: ready() or self._stop or self.failure is not None, timeout)
            finally:
                self._awaited -= 1
        if self.failure is not None:
            raise Unavailable(f"the indexer stopped: {self.failure}") from self.failure
        return done and ready()

    def _let_pass(self) -> None:
        """Wait while a burst of writes goes on, which would be slowed and makes a better piece of work as a whole.

        Not for long, not once scanning the tail takes its time, and not while somebody waits for the graphs.
        """
        until = monotonic() + BURST_SECONDS
        with self._progress:
            while self._writer.idle_seconds < PAUSE_SECONDS and monotonic() < until:
                if self._stop or self._awaited or self._tail_bytes() >= limits.TAIL_SOFT_BYTES:
                    return
                self._progress.wait(PAUSE_SECONDS)

    def _run(self) -> None:
        published = self._writer.published
        try:
            while True:
                published.clear()
                if self._stop:  # looked at after the clear, which may take away what would wake the wait below
                    break
                self._let_pass()
                try:
                    with self._working:
                        worked = self._step()
                    if not worked:
                        self._keep_up(self._writer.view, lambda: self._stop)
                    if not self._stop:
                        self._watch(self._writer.view)
                except MemoryError:  # the tail is scanned meanwhile, and writers are told when it cannot grow
                    published.wait(REST_SECONDS)
                    continue
                if not worked:
                    published.wait()
        except BaseException as error:  # noqa: BLE001  answers stay right without a graph; waiters must learn of it
            self.failure = error
        with self._progress:
            self._progress.notify_all()

    def _step(self) -> bool:
        """Take a chunk of every field's tail into its graph and dead slots out; False when there was nothing to do."""
        worked, seq = False, self._writer.view.seq
        for name, field in self._fields.items():
            if self._stop or not self._change(field):
                continue
            self._writer.publish_index(name)
            worked = True
            if field.indexed - self._tried[name] >= max(SNAPSHOT_ROWS, int(field.indexed * SNAPSHOT_SHARE)):
                self._snapshot(name, field)
        with self._progress:
            if not worked and not self._stop:
                self._followed = seq
            self._progress.notify_all()
        return worked

    def _change(self, field: FieldStore) -> bool:
        """Let one field's graph follow the View a step; False when it has."""
        view = self._writer.view
        dead = None if view.dead is None else mask_from_bits(view.dead, view.n)
        grew = field.indexed < view.n
        if grew:
            field.extend_index(view.n, lambda: self._stop, dead)
        return field.retire(view.n, dead, lambda: self._stop) or grew

    def _snapshot(self, name: str, field: FieldStore) -> None:
        if self._save is not None:
            covered = self._tried[name] = field.indexed
            if self._save(name, field.snapshot(), covered):
                self._saved[name] = covered
