"""Which generation of a collection is current, and how compaction puts the next one in its place.

The next generation is copied, indexed and saved beside the current one, which goes on answering and taking writes, and
is followed until few changes are left. Then the writer is held for the last of them, and one transaction lets the
collection's name lead to the new directory: before it a crash leaves the old generation, after it the new one, and the
other directory is removed on the next opening. What waited to be written goes to the new writer. The old files are
removed as soon as no call uses them.
"""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from vicinal import limits
from vicinal.copying import Abandoned, Copy
from vicinal.errors import Closed, ReadOnly, StorageFull, VicinalError
from vicinal.generation import Generation, Home, matcher_of
from vicinal.maintenance import Opened, close_files, create, save_snapshot
from vicinal.room import Room
from vicinal.view import View
from vicinal.writer import Operation

__all__ = ["Succession"]

_ROUNDS: Final = 8  # of following the writer before it is held
_FEW: Final = 1000  # changes that may be left for when it is held: some milliseconds
_REST_SECONDS: Final = 60.0  # after a compaction that failed
_REST_SHARE: Final = 3.0  # times as long as one took passes before the next: points replaced all the time take turns
_LET_GO_SECONDS: Final = 1.0  # that a compaction waits for calls that use the old generation
_POLL_SECONDS: Final = 0.005
_LOOK_SECONDS: Final = 0.1  # between looks for calls that took longer


class Succession:
    """The generations of one collection. Any thread may call; one compaction runs at a time."""

    def __init__(self, name: str, opened: Opened, home: Home, *, read_only: bool) -> None:
        self._name, self._home = name, home
        self._gate = threading.Lock()  # held while a writer takes the place of another, or of none
        self._turn = threading.Lock()  # held by a compaction
        self._stop = False
        self._not_before = 0.0
        self._retired: list[tuple[weakref.ref[Generation], Opened]] = []
        self._looking = False  # a thread waits for the last call that uses one of them
        self._read_only = read_only
        self._room = Room(None if opened.directory is None else opened.directory.parent)
        with self._gate:  # its indexer may find much to gain at once
            self.current = Generation(opened, self._watch, read_only=read_only)

    def require_room(self, rows: int, nbytes: int) -> None:
        """Raise StorageFull unless so many more rows, of so many bytes with their payloads, find room."""
        self._room.require(self.current.view, rows, nbytes)

    def submit(self, operation: Operation) -> Future[int]:
        """Queue an operation with the writer that counts."""
        with self._gate:
            return self.current.writer.submit(operation)

    def compact(self) -> int:
        """Rewrite the collection without its dead slots, whatever their number; returns how many went."""
        with self._turn:
            freed = self._replace()
            self._let_go(_LET_GO_SECONDS)
        return freed

    def close(self) -> None:
        """Break off a compaction, then close the current generation."""
        self._stop = True
        with self._turn:
            try:
                self.current.close()
            finally:
                self._let_go(_LET_GO_SECONDS)

    def _watch(self, view: View) -> None:
        """Begin a compaction in the background when there is much to gain; called by the indexer after every step."""
        dead, replaced = view.n - view.alive, view.changes.total  # since it was opened
        dead_many = dead >= limits.COMPACT_ROWS_MIN and dead > limits.COMPACT_SHARE * view.n
        replaced_many = replaced >= max(limits.COMPACT_ROWS_MIN, limits.COMPACT_PAYLOADS * view.n)
        if self._read_only or not (dead_many or replaced_many):
            return
        if time.monotonic() >= self._not_before and self._turn.acquire(blocking=False):
            try:
                threading.Thread(target=self._in_background, name="vicinal-compaction", daemon=True).start()
            except RuntimeError:  # no thread is left, or no memory for its stack
                self._not_before = time.monotonic() + _REST_SECONDS
                self._turn.release()

    def _in_background(self) -> None:
        """A compaction that nobody waits for: where it fails, all is as it was, and it is tried again later."""
        began = time.monotonic()
        try:
            with self._gate:
                pass  # there is a generation from now on
            if not self._stop:
                self._replace()
                self._let_go(_LET_GO_SECONDS)
            self._not_before = time.monotonic() + _REST_SHARE * (time.monotonic() - began)
        except (VicinalError, MemoryError):
            self._not_before = time.monotonic() + _REST_SECONDS
        finally:
            self._turn.release()

    def _replace(self) -> int:
        old = self.current
        if self._stop:
            raise Closed("the database is closed")
        if old.writer.read_only:
            raise ReadOnly("a collection that may not be written is not compacted: close and reopen the database")
        before, files = old.view.n, old.opened.files
        rows = [file for field in old.opened.fields.values() for file in field.files.values()]
        used = old.opened.catalog.disk_bytes + sum(file.rows * file.row_bytes for file in rows)
        self._room.require_copy(old.view, used)
        uid, place = self._home.new_place()
        target: Opened | None = None
        try:
            target = create(files, place, old.opened.schema)
            new = self._succeeded(old, target, uid)
        except BaseException as error:
            if self.current is not old:  # interrupted when all was done
                self._retire(old)
                raise
            if target is not None:
                close_files(target)
            if place is not None and not old.writer.read_only:  # else the name may lead there
                with suppress(VicinalError):
                    files.remove_tree(place)
            if isinstance(error, Abandoned):
                raise Closed("the database was closed before the compaction was done") from None
            raise
        self._retire(old)
        return before - new.view.n

    def _retire(self, old: Generation) -> None:
        self._retired.append((weakref.ref(old), old.opened))
        old.stop()

    def _succeeded(self, old: Generation, target: Opened, uid: str) -> Generation:
        """Copy the generation and put the copy in its place."""
        copy = Copy(old.opened, target, lambda: self._stop)
        for _ in range(_ROUNDS):
            copy.follow(old.view)
            copy.index()
            if copy.behind(old.view) <= _FEW:
                break
        opened = copy.opened()
        matcher = matcher_of(opened)
        matcher.keep_up(opened.view, lambda: self._stop)
        if opened.directory is not None:
            for name, field in opened.fields.items():
                save_snapshot(opened, name, field.snapshot(), field.indexed)
        with old.writer.paused():
            copy.follow(old.view)
            new = Generation(copy.opened(), self._watch, matcher=matcher)
            try:
                self._switch(old, new, uid)
            except BaseException:
                if self.current is old:
                    new.stop()
                raise
        return new

    def _switch(self, old: Generation, new: Generation, uid: str) -> None:
        with self._gate:
            try:
                self._home.switch(self._name, uid)
                self.current = new
                new.writer.take(old.writer.leave())
            except StorageFull:
                raise
            except BaseException as error:
                # the name may lead to either, and what only one of them has would be lost: so nothing more for this one
                old.writer.refuse(error)
                raise

    def _look_again(self) -> None:
        """Remove old generations when the calls that use them end."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._turn:
                if not self._stop:
                    self._let_go(0.0)
                if self._stop or not self._retired:
                    self._looking = False
                    return

    def _let_go(self, seconds: float) -> None:
        """Remove old generations that no call uses any more; wait for the others so long, then in the background."""
        until = time.monotonic() + seconds
        while self._retired:
            used = []
            for generation, opened in self._retired:
                if generation() is not None:
                    used.append((generation, opened))
                    continue
                with suppress(VicinalError):  # what stays is removed on the next opening
                    close_files(opened)
                    if opened.directory is not None:
                        opened.files.remove_tree(opened.directory)
            self._retired = used
            if self._retired:
                if time.monotonic() > until:
                    break
                time.sleep(_POLL_SECONDS)
        if self._retired and not self._looking and not self._stop:
            with suppress(RuntimeError):  # no thread is left: the next compaction looks again, and closing
                threading.Thread(target=self._look_again, name="vicinal-old-files", daemon=True).start()
                self._looking = True
