"""A kill leaves the newest commits in SQLite's log alone: damage there is refused, and the log stays to be mended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.own_process import run_alone, scratch_folder

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


def damage() -> None:
    """A bit in every frame but those of the last commit, one after another."""
    with scratch_folder() as scratch:
        log = _killed(Path(scratch) / "db")
        whole = log.read_bytes()
        starts = range(32, len(whole), FRAME)
        ends = [at for at in starts if any(whole[at + 4 : at + 8])]
        for at in range(starts[0], ends[-2] + 1, FRAME):
            content = bytearray(whole)
            content[at + 24 + at % 4096] ^= 4
            log.write_bytes(content)
            for _ in range(2):  # the first refusal leaves everything as it is
                with pytest.raises(CorruptData), Database(log.parents[2]) as database:
                    database.collection("c")
            assert log.read_bytes() == bytes(content)
        log.write_bytes(whole)
        with Database(log.parents[2]) as database:
            assert database.collection("c").count() == 40
            assert database.collection("c").count("v = 1000") == 10


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


def test_a_commit_that_power_loss_left_half_is_forgotten() -> None:
    run_alone(half_written)


def test_damage_in_the_log_is_refused_and_nothing_is_thrown_away() -> None:
    run_alone(damage)
