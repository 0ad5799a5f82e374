"""Several callers at the moment when a write fails: what waits behind it is refused, or carried out as if alone."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from vicinal.batch import Batch
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import InvalidArgument, ReadOnly, StorageFull, VicinalError
from vicinal.storage.catalog import Catalog
from vicinal.storage.files import Files, IoCall

Held = dict[int, float]  # id → what its vector is made of
BEFORE: Held = {0: 0, 1: 1, 2: 2}
HEAD_SLOTS = (512, 1024)


class Broken:
    """An observer that lets one call to a row file wait until others are queued behind it, and then fail."""

    def __init__(self, kind: str, code: int, offsets: tuple[int, ...]) -> None:
        self._kind, self._code, self._offsets = kind, code, offsets
        self.armed = False
        self.reached, self.go = threading.Event(), threading.Event()

    def before(self, call: IoCall) -> None:
        if self.armed and call.kind == self._kind and call.path.endswith(".vec") and self._meant(call):
            self.armed = False
            self.reached.set()
            assert self.go.wait(30)
            raise OSError(self._code, os.strerror(self._code), call.path)

    def _meant(self, call: IoCall) -> bool:
        return call.kind == "sync" or (call.offset in HEAD_SLOTS) == bool(self._offsets)


def vectors_of(*values: float) -> Any:
    return np.array([[value, value] for value in values], np.float32)


def held(collection: Collection) -> Held:
    points, _ = collection.scroll(limit=100, with_vectors=True)
    return {int(p.id): float(p.vector[0]) for p in points}


class Callers:
    """Calls in threads of their own, and what each was told: its result, or its error."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._threads: list[threading.Thread] = []
        self.told: dict[str, Any] = {}

    def call(self, name: str, call: Callable[[], Any], *, queued: bool = True) -> None:
        """Begin a call; returns when its operation waits in the queue, or at once."""

        def run() -> None:
            try:
                self.told[name] = call()
            except BaseException as error:  # noqa: BLE001
                self.told[name] = error

        queue = self._collection._generation.writer._queue
        before = len(queue)
        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()
        until = time.monotonic() + 30
        while queued and len(queue) == before and name not in self.told and time.monotonic() < until:
            time.sleep(0.001)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a caller waits for ever"


def queue_more(collection: Collection, callers: Callers) -> None:
    """What would be a group each: rows of its own, none, and what looks at the newest View."""
    callers.call("upsert", lambda: collection.upsert([88, 1], vectors_of(88, 11)))
    callers.call("delete", lambda: collection.delete([0]))
    callers.call("payload", lambda: collection.set_payload({"a": 1}, [2]))
    callers.call("by filter", lambda: collection.delete(filter="a = 1"))


def filled(root: Path) -> Database:
    database = Database(root)
    collection = database.create_collection("c", dim=2, metric="l2")
    for i, value in BEFORE.items():
        collection.upsert([i], vectors_of(value))
    return database


CASES = {
    "a sync fails": (partial(Broken, "sync", errno.EIO, ()), ReadOnly),
    "a full disk in the middle of a sync": (partial(Broken, "write", errno.ENOSPC, HEAD_SLOTS), ReadOnly),
    "the head cannot be written": (partial(Broken, "write", errno.EIO, HEAD_SLOTS), ReadOnly),
    "rows cannot be written": (partial(Broken, "write", errno.EIO, ()), ReadOnly),
    "a full disk under rows": (partial(Broken, "write", errno.ENOSPC, ()), StorageFull),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_queued_behind_a_failed_write(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure that leaves the disk unknown none of it is tried; after a full disk all of it is."""
    broken, refusal = CASES[case]
    observer = broken()
    Database(tmp_path / "other").close()  # so that SQLite's own files are not observed, in no test of this process
    monkeypatch.setattr("vicinal.database.Files", lambda: Files(observer))
    with filled(tmp_path / "db") as database:
        collection = database.collection("c")
        callers = Callers(collection)
        observer.armed = True
        callers.call("fails", lambda: collection.upsert([77], vectors_of(77)), queued=False)
        assert observer.reached.wait(30)
        queue_more(collection, callers)
        observer.go.set()
        callers.wait()
        assert isinstance(callers.told.pop("fails"), refusal)
        told, expected = callers.told, BEFORE
        if refusal is StorageFull:
            assert told == {"upsert": 4, "delete": 1, "payload": 1, "by filter": 1}
            expected = {1: 11, 88: 88}
        else:
            assert [type(outcome) for outcome in told.values()] == [ReadOnly] * 4
        assert collection.info().read_only == (refusal is ReadOnly)
        assert held(collection) == expected
    monkeypatch.undo()
    with Database(tmp_path / "db") as database:
        again = database.collection("c")
        assert held(again) == expected
        assert again.verify().ok
        again.upsert([5], vectors_of(5))
        assert held(again) == {**expected, 5: 5}


def refused_once(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The next commit finds a constraint that it does not keep, when told to go on."""
    reached, go = threading.Event(), threading.Event()
    real = Catalog._insert

    def refused(catalog: Catalog, commit: Any) -> None:
        if reached.is_set():
            return real(catalog, commit)
        reached.set()
        assert go.wait(30)
        raise apsw.ConstraintError("a live id that is taken")

    monkeypatch.setattr(Catalog, "_insert", refused)
    return reached, go


def test_a_commit_that_the_catalogue_refuses_leaves_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes go on after it, so those that follow must not come after rows that no commit holds."""
    with filled(tmp_path / "db") as database:
        collection = database.collection("c")
        reached, go = refused_once(monkeypatch)
        callers = Callers(collection)
        callers.call("fails", lambda: collection.upsert([77], vectors_of(77)), queued=False)
        assert reached.wait(30)
        queue_more(collection, callers)
        go.set()
        callers.wait()
        assert isinstance(callers.told.pop("fails"), InvalidArgument)
        assert callers.told == {"upsert": 4, "delete": 1, "payload": 1, "by filter": 1}
        assert held(collection) == {1: 11, 88: 88}
        assert collection.verify().ok
    with Database(tmp_path / "db") as database:
        assert held(database.collection("c")) == {1: 11, 88: 88}


@pytest.mark.parametrize("queued", [0, 3])
def test_no_memory_while_a_group_is_chosen_leaves_nobody_waiting(
    queued: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path / "db") as database:
        collection = database.collection("c")
        callers = Callers(collection)
        real: Any = Batch.nbytes
        left = [1]

        def nbytes(batch: Batch) -> int:
            if threading.current_thread().name == "vicinal-writer" and left[0]:
                left[0] -= 1
                raise MemoryError
            return int(real.fget(batch))

        monkeypatch.setattr(Batch, "nbytes", property(nbytes))
        with collection._generation.writer.paused():
            for i in range(10, 11 + queued):
                callers.call(f"{i}", lambda i=i: collection.upsert([i], vectors_of(i)))  # type: ignore[misc]
        callers.wait()
        refused = [name for name, outcome in callers.told.items() if isinstance(outcome, VicinalError)]
        assert refused == ["10"]
        assert isinstance(callers.told["10"], StorageFull)
        assert not collection.info().read_only
        assert collection.upsert([9], vectors_of(9)) > 3
        expected = {**BEFORE, 9: 9, **{i: i for i in range(11, 11 + queued)}}
        assert held(collection) == expected
    with Database(tmp_path / "db") as database:
        assert held(database.collection("c")) == expected
