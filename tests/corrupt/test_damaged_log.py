"""A kill leaves the newest commits in SQLite's log alone: damage there is refused, and the log stays to be mended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.own_process import run_alone, scratch_folder

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import CorruptData

FRAME = 24 + 4096


def _killed(root: Path) -> Path:
    """One upsert, ten deletes, ten changed payloads, then the end of the process."""
    child = os.fork()
    if child == 0:
        try:
            collection = Database(root).create_collection("c", dim=4, metric="l2")
            collection.upsert(range(50), [[n, 0, 0, 0] for n in range(50)], [{"v": n} for n in range(50)])
            for n in range(10):
                collection.delete([n])
            for n in range(10, 20):
                collection.set_payload({"v": 1000}, [n])
        finally:
            os._exit(9)
    os.waitpid(child, 0)
    (log,) = (root / "collections").rglob("catalog.db-wal")
    return log


def _must_refuse(log: Path, content: bytes) -> None:
    log.write_bytes(content)
    for _ in range(2):  # the first refusal leaves everything as it is
        with pytest.raises(CorruptData), Database(log.parents[2]) as database:
            database.collection("c")
    assert log.read_bytes() == content


def damage() -> None:
    """A bit, and a zeroed page, in every frame but those of the last commit, one after another; then in these."""
    with scratch_folder() as scratch:
        log = _killed(Path(scratch) / "db")
        whole = log.read_bytes()
        starts = range(32, len(whole), FRAME)
        ends = [at for at in starts if any(whole[at + 4 : at + 8])]
        for at in range(starts[0], ends[-2] + 1, FRAME):
            for offset in (24 + at % 4096, 16 + at % 8):  # what is summed, and its sum
                content = bytearray(whole)
                content[at + offset] ^= 4
                _must_refuse(log, bytes(content))
            if at < ends[-2]:  # without the end of the last but one, both look like one that was torn
                _must_refuse(log, whole[:at] + bytes(4096) + whole[at + 4096 :])
        log.write_bytes(whole)
        _last_commit(Path(scratch), log, [at for at in starts if at > ends[-2]])
        with Database(log.parents[2]) as database:
            assert database.collection("c").count() == 40
            assert database.collection("c").count("v = 1000") == 10


def _last_commit(scratch: Path, log: Path, starts: list[int]) -> None:
    """Damage there looks like a write that a crash has torn: the commit is gone, and no part of it is there."""
    root, whole = log.parents[2], log.read_bytes()
    for at in starts:
        for flipped in (True, False):
            copied = scratch / "copy"
            shutil.copytree(root, copied)
            content = bytearray(whole)
            if flipped:
                content[at + 24 + 1000] ^= 4
            else:
                content[at : at + 4096] = bytes(4096)
            (copied / log.relative_to(root)).write_bytes(content)
            with Database(copied) as database:
                collection = database.collection("c")
                assert (collection.count(), collection.count("v = 1000")) == (40, 9)
                assert collection.flush(60)
                assert collection.verify().problems == ()
            shutil.rmtree(copied)


def half_written() -> None:
    """Power failed while the last commit was written: of its frames some are there, and of one garbage."""
    with scratch_folder() as scratch:
        log = _killed(Path(scratch) / "db")
        content = bytearray(log.read_bytes())
        starts = range(32, len(content), FRAME)
        before = [at for at in starts if any(content[at + 4 : at + 8])][-2]
        assert starts[-1] >= before + 2 * FRAME, "the last commit has frames enough"
        torn = before + FRAME
        content[torn : torn + 8] = b"\x30\xf0\x10\x0c\x64\xe8\x2f\x93"  # as sectors may end within a frame's head
        content[torn + 512 : torn + 1024] = os.urandom(512)
        log.write_bytes(content)
        with Database(log.parents[2]) as database:
            assert database.collection("c").count() == 40
            assert database.collection("c").count("v = 1000") == 9


def _ended(root: Path, work: Callable[[Collection], object]) -> None:
    """Work in a process that ends without closing."""
    child = os.fork()
    if child == 0:
        try:
            work(Database(root).collection("c"))
        finally:
            os._exit(9)
    os.waitpid(child, 0)


def _torn(log: Path) -> None:
    """Power failed while the last commit was written: its first frame is not there."""
    content = bytearray(log.read_bytes())
    read = range(32, len(content), FRAME)
    before = [at for at in read if any(content[at + 4 : at + 8])]
    at = before[-2] + FRAME
    content[at + 24 : at + FRAME] = os.urandom(4096)
    log.write_bytes(content)


def torn_again() -> None:
    """A commit is torn, then one that was written over a part of it: what is left of the first follows no other."""
    with scratch_folder() as scratch:
        log = _killed(Path(scratch) / "db")
        root = log.parents[2]
        _ended(root, lambda c: c.upsert(range(100, 400), [[n, 1, 1, 1] for n in range(300)], [{"v": "x" * 900}] * 300))
        whole = len(log.read_bytes())
        _torn(log)
        _ended(root, lambda c: c.delete([30]))
        assert len(log.read_bytes()) == whole, "the second was written over the first"
        content = bytearray(log.read_bytes())
        starts = [at for at in range(32, len(content), FRAME) if any(content[at + 4 : at + 8])]
        assert len(starts) > 3
        at = starts[-3] + FRAME  # behind the last commit that is whole
        content[at + 24 : at + FRAME] = os.urandom(4096)
        log.write_bytes(content)
        with Database(root) as database:
            assert database.collection("c").count() == 40


def test_a_commit_torn_over_another_torn_one_is_forgotten() -> None:
    run_alone(torn_again)


def test_a_commit_that_power_loss_left_half_is_forgotten() -> None:
    run_alone(half_written)


def test_damage_in_the_log_is_refused_and_nothing_is_thrown_away() -> None:
    run_alone(damage)
