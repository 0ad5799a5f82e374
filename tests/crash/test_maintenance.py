"""Compaction, backup and restore while power fails after every I/O call, or while every call fails once.

A crash leaves the old generation or the new one, a whole archive or none, a whole restored collection or none.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.crash_images import Recorder, images, materialise
from tests.support.engine_script import NAME, Script, act, create, make_script, observed, read_state
from tests.support.faulty_files import FAULTS, Fault, FaultAt
from tests.support.own_process import run_alone, scratch_folder

from vicinal.database import Database
from vicinal.errors import Closed, CorruptData, ReadOnly, StorageFull
from vicinal.storage import vfs

SCRIPT = make_script(3, 9)
KINDS = ("compact", "backup", "restore")


def made(root: Path, script: Script) -> Database:
    """A database in which the script was played."""
    database = create(root).database
    assert database is not None
    for operation in script.operations:
        act(database.collection(NAME), operation)
    return database


def carry_out(database: Database, kind: str, root: Path) -> None:
    """Do what is tested."""
    if kind == "compact":
        database.collection(NAME).compact()
    elif kind == "backup":
        database.backup(root / "b.tar")
    else:
        database.restore(root.parent / "source.tar", {NAME: "again"})


def check(root: Path, kind: str, tried: bool, done: bool, script: Script) -> None:
    """What a directory holds: the collection as it was, and what was done whole or not at all."""
    with Database(root) as database:
        assert read_state(database.collection(NAME)) == script.states[-1]
        assert all(report.ok for report in database.verify())
        names = database.list_collections()
        assert len(list((root / "collections").iterdir())) == len(names), "a directory without a name stays"
        if kind == "compact":
            collection = database.collection(NAME)
            if done:
                assert collection.info().slots == len(script.states[-1])
            collection.upsert([5], {"v": [[1, 2, 3, 4]], "t": [[[1, 2, 3, 4]]]})
        elif kind == "restore":
            assert names in ([NAME], ["again", NAME])
            assert tried or names == [NAME]
            assert not done or "again" in names
            if "again" in names:
                assert len(database.collection("again")) == len(script.states[-1])
        elif (root / "b.tar").exists():
            assert database.restore(root / "b.tar", {NAME: "copy"})
            assert len(database.collection("copy")) == len(script.states[-1])
        else:
            assert not done, "the backup is gone"


def power_loss(kind: str, seeds: int, stride: int = 1) -> None:
    """Carry it out under the recorder, then open every `stride`-th image from there on."""
    vfs.register()
    with scratch_folder() as scratch:
        root, where = Path(scratch).resolve() / "run", Path(scratch) / "image"
        root.mkdir()
        recorder = Recorder()
        with observed(recorder, often=1000):
            database = made(root, SCRIPT)
            with observed(None, often=1000):
                database.backup(root.parent / "source.tar")
            recorder.calls = [call for call in recorder.calls if "source.tar" not in call.path]
            began = len(recorder.calls)
            recorder.note("tried", 1)
            carry_out(database, kind, root)
            recorder.note("acknowledged", 1)
            ended = len(recorder.calls)
            database.close()
        opened = 0
        with observed(None, often=1000):
            for number, (at, seed, mode, image) in enumerate(images(recorder, root, seeds)):
                if at < began or number % stride:
                    continue
                materialise(image, where)
                try:
                    check(where, kind, at > began, at >= ended, SCRIPT)
                except Exception as error:
                    call = recorder.calls[at - 1]
                    raise AssertionError(
                        f"{kind}: {mode} image {seed} after call {at} of {began}..{ended} ({call})"
                    ) from error
                opened += 1
                shutil.rmtree(where)
        print(f"{kind}: {ended - began} calls, {opened} images opened")
        assert opened > (ended - began) // 2 // stride


def one_fault(kind: str, at: int, fault: Fault) -> FaultAt:
    """Let one call fail; everything must be as before or done, now and after reopening."""
    with scratch_folder() as scratch:
        root = Path(scratch) / "run"
        root.mkdir()
        with observed(None, often=1000):
            database = made(root, SCRIPT)
            database.backup(root.parent / "source.tar")
            database.close()
        observer = FaultAt(1 << 60, fault)
        with observed(observer, often=1000):
            database = Database(root)
            collection = database.collection(NAME)
            collection.flush(60)
            observer.calls, observer.at = 0, at
            done = True
            try:
                carry_out(database, kind, root)
            except (StorageFull, ReadOnly, CorruptData, Closed) as error:
                done = False
                if observer.hit is None:
                    raise AssertionError("nothing failed") from error
            observer.at = 1 << 60
            assert read_state(database.collection(NAME)) == SCRIPT.states[-1]
            if not collection.info().read_only:
                collection.set_payload({"late": 1}, filter="n < 0")
            else:
                assert not done or kind == "compact"
            database.close()
        with observed(None, often=1000):
            check(root, kind, True, done, SCRIPT)
    return observer


def fail_every_call(kind: str, stride: int) -> None:
    """Fail each `stride`-th call, in every way."""
    vfs.register()
    for fault in FAULTS:
        at, hits = 0, 0
        while True:
            try:
                observer = one_fault(kind, at, fault)
            except Exception as error:
                raise AssertionError(f"{kind}: {fault} at call {at}") from error
            if observer.hit is None and at >= observer.calls:
                break
            hits += observer.hit is not None
            at += stride
        print(f"{kind}, {fault}: {hits} calls failed")
        assert hits


def two_together(first: Callable[[], None], second: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_backup_beside_a_compaction(tmp_path: Path) -> None:
    with made(tmp_path / "db", SCRIPT) as database:
        two_together(database.collection(NAME).compact, lambda: database.backup(tmp_path / "b.tar"))  # type: ignore[arg-type]
        assert read_state(database.collection(NAME)) == SCRIPT.states[-1]
        database.restore(tmp_path / "b.tar", {NAME: "again"})
        assert len(database.collection("again")) == len(SCRIPT.states[-1])


def power_loss_of_all(seeds: int, stride: int) -> None:
    """All kinds in one process, which takes longest to begin."""
    for kind in KINDS:
        power_loss(kind, seeds, stride)


def fail_some_calls(stride: int) -> None:
    """All kinds in one process."""
    for kind in KINDS:
        fail_every_call(kind, stride)


def test_power_loss() -> None:
    print(run_alone(power_loss_of_all, 1, 5))


def test_some_calls_fail() -> None:
    print(run_alone(fail_some_calls, 79))


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", KINDS)
def test_power_loss_in_many_ways(kind: str) -> None:
    print(run_alone(power_loss, kind, 8, timeout=2900))


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_fails(kind: str) -> None:
    print(run_alone(fail_every_call, kind, 1, timeout=1450))
