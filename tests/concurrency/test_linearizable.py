"""Eight readers and two writers at once: no read is stale, none mixes two commits, nothing hangs."""

from __future__ import annotations

import faulthandler
import random
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.support.histories import DIM, SIZE, Group, vector_of
from tests.support.walked import walked

from vicinal.collection import Collection
from vicinal.database import Database

GROUPS = 40
HANG = 30.0  # seconds after which a thread that has not come round counts as hanging


class _Crew:
    """Threads that repeat a step until told to stop, watched for failures and for hanging."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.failures: list[str] = []
        self._beats: dict[str, float] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, name: str, step: Callable[[random.Random], None]) -> None:
        thread = threading.Thread(target=self._repeat, args=(name, step), name=name, daemon=True)
        self._beats[name], self.steps[name] = monotonic(), 0
        self._threads.append(thread)

    def _repeat(self, name: str, step: Callable[[random.Random], None]) -> None:
        rng = random.Random(name)
        try:
            while not self._stop.is_set():
                step(rng)
                self.steps[name] += 1
                self._beats[name] = monotonic()
        except BaseException:  # noqa: BLE001 - told by `run`
            self.failures.append(f"{name}:\n{traceback.format_exc()}")
            self._stop.set()

    def run(self, seconds: float) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)  # as the service does: else ten threads make each other wait
        try:
            self._run(seconds)
        finally:
            sys.setswitchinterval(interval)

    def _run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        until = monotonic() + seconds
        while monotonic() < until and not self._stop.wait(0.2):
            self._watch()
        self._stop.set()
        for thread in self._threads:
            thread.join(HANG)
            self._watch()
        assert not self.failures, "\n".join(self.failures)

    def _watch(self) -> None:
        late = [name for name, beat in self._beats.items() if monotonic() - beat > HANG]
        alive = {thread.name for thread in self._threads if thread.is_alive()}
        if alive & set(late):
            faulthandler.dump_traceback(file=2)
            pytest.fail(f"{late} hang")


def _write(collection: Collection, group: Group, rng: random.Random) -> None:
    kind = rng.choice(("upsert", "upsert", "set_payload", "delete"))
    version = group.begin(kind)
    if kind == "upsert":
        vectors = np.array([vector_of(group.number, member, version) for member in range(SIZE)])
        collection.upsert(group.ids, vectors, [{"group": group.number, "version": version}] * SIZE)
    elif kind == "delete":
        if rng.random() < 0.5:
            collection.delete(group.ids)
        else:
            collection.delete(filter=f"group = {group.number}")
    elif rng.random() < 0.5:
        collection.set_payload({"version": version}, group.ids)
    else:
        collection.set_payload({"version": version}, filter=f"group = {group.number}")
    group.acknowledge(version)


def _write_any(collection: Collection, groups: Sequence[Group], rng: random.Random) -> None:
    _write(collection, rng.choice(groups), rng)


def _read(collection: Collection, group: Group, rng: random.Random) -> None:
    kind = rng.choice(("get", "scroll", "filtered", "exact", "near", "count"))
    where = vector_of(group.number, 0, group.begun)
    filter_ = f"group = {group.number}"
    seen = group.start()
    if kind == "get":
        group.check(seen, collection.get(group.ids, with_vectors=True))
    elif kind == "scroll":
        group.check(seen, collection.scroll(filter_, with_vectors=True)[0])
    elif kind == "count":
        assert collection.count(filter_) in (0, SIZE)
    elif kind == "near":
        hits = collection.query(where, SIZE, with_vectors=True)
        group.check(seen, [h for h in hits if h.id in group.ids], whole=False)
    else:
        hits = collection.query(where, 2 * SIZE, filter=filter_, exact=kind == "exact", with_vectors=True)
        group.check(seen, list(hits))


def _shake(database: Database, seconds: float, background: int) -> dict[str, int]:
    collection = database.create_collection("c", dim=DIM, metric="l2")
    noise = np.random.default_rng(0).standard_normal((background, DIM)).astype(np.float32)
    for first in range(0, background, 1000):
        ids = list(range(1_000_000 + first, 1_000_000 + first + len(noise[first : first + 1000])))
        collection.upsert(ids, noise[first : first + 1000], [{"group": -1, "version": 0}] * len(ids))
    collection.flush()
    groups = [Group(number) for number in range(GROUPS)]
    rng = random.Random(0)
    for _ in range(40):  # what is compiled under way looks like hanging where the processor is busy
        _write(collection, groups[0], rng)
        _read(collection, groups[0], rng)
    crew = _Crew()
    for writer in range(2):
        crew.add(f"writer {writer}", partial(_write_any, collection, groups[writer::2]))
    for reader in range(8):
        crew.add(f"reader {reader}", lambda rng: _read(collection, rng.choice(groups), rng))
    crew.run(seconds)
    for group in groups:
        group.check(group.start(), collection.get(group.ids, with_vectors=True))
    assert collection.flush(60)
    assert collection.verify().problems == ()
    return crew.steps


def test_reads_and_writes_for_twenty_seconds(tmp_path: Path) -> None:
    with walked(), Database(tmp_path / "db") as database:
        steps = _shake(database, 20, 1500)
    assert all(count > 3 for count in steps.values()), steps


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_reads_and_writes_for_ten_minutes(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        steps = _shake(database, 600, 15_000)
    print(steps)
    assert all(count > 1000 for count in steps.values()), steps
