"""kill -9 at a random moment, reopen, compare with what was acknowledged: nothing lost, nothing halved, no ghosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from tests.crash.writer_process import MADE
from tests.support.model import maxsim

from vicinal.database import Database

WRITER = Path(__file__).parent / "writer_process.py"


class Expected:
    """Versions by point after the acknowledged operations, and the one operation that was under way."""

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}
        self.begun: dict[str, Any] | None = None

    def read(self, lines: list[str]) -> int:
        """Take the log of one process; returns how many operations were acknowledged."""
        done = 0
        self.begun = None
        for line in lines:
            entry = json.loads(line)
            if "begin" in entry:
                self.begun = entry
            elif "done" in entry:
                assert self.begun is not None
                self.apply(self.begun)
                self.begun = None
                done += 1
        return done

    def apply(self, entry: dict[str, Any]) -> None:
        for point in entry["points"]:
            if entry["delete"]:
                self.versions.pop(point, None)
            else:
                self.versions[point] = entry["begin"]


class Writers:
    """Writing processes, one at a time; a context manager."""

    def __init__(self, directory: Path, kind: str) -> None:
        words = [sys.executable, str(WRITER), str(directory), kind]
        self._parent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._parent as parent:
            parent.kill()

    def kill_one(self, seed: int, seconds: float, *, early: bool = False) -> list[str]:
        """Let one write for so long after it has opened the database, or `early` begun to; gives what it told."""
        stdin, stdout = self._parent.stdin, self._parent.stdout
        assert stdin is not None
        assert stdout is not None
        print(seed, file=stdin, flush=True)
        told: list[str] = []
        child = 0
        while not (child and (early or any("open" in line for line in told))):
            line = stdout.readline()
            assert line, "the writer did not start"
            assert "ended" not in line, "the writer ended by itself"
            child = json.loads(line).get("child", child)
            told.append(line)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        while "ended" not in (line := stdout.readline()):
            assert line
            told.append(line)
        assert os.WTERMSIG(json.loads(line)["ended"]) == signal.SIGKILL, "the writer ended by itself"
        return told


def _stored(directory: Path, kind: str) -> dict[int, int]:
    with Database(directory) as database:
        collection = database.collection("c")
        points, rest = collection.scroll(limit=10_000, with_vectors=True)
        assert rest is None
        found = {}
        for p in points:
            assert p.payload is not None
            found[int(p.id)] = p.payload["version"]
            np.testing.assert_array_equal(p.vector["v"], MADE[kind](int(p.id), p.payload["version"] % 1_000_000))
        assert collection.count() == len(found)
        if points:  # the newest answer is right at once, whatever the graph has
            _check_answer(collection, points, kind)
        assert collection.flush(60)
        assert collection.verify().problems == ()  # the graph reaches every point, whatever it was recovered from
        if kind != "dense" and points:
            _check_answer(collection, points, kind)
    return found


def _check_answer(collection: Any, points: list[Any], kind: str) -> None:
    query = points[0].vector["v"]
    if kind == "dense":
        assert collection.query(query, 1, using="v")[0].id == points[0].id
        return
    scores = {p.id: maxsim(query, p.vector["v"]) for p in points}
    best = sorted(scores.values(), reverse=True)[:10]
    for exact in (False, True):  # by proxies not all of the best need be found, but what is found is scored right
        hits = collection.query_multi(query, 10, using="v", exact=exact)
        assert len(hits) == len(best)
        np.testing.assert_allclose(hits.scores, [scores[i] for i in hits.ids], rtol=1e-6)
    np.testing.assert_allclose(hits.scores, best, rtol=1e-6)


def _cycles(tmp_path: Path, cycles: int, kind: str) -> None:
    expected = Expected()
    acknowledged = 0
    directory = tmp_path / "db"
    rng = np.random.default_rng(1)
    with Writers(directory, kind) as writers:
        for cycle in range(cycles):
            early = cycle % 4 == 3  # while it is opened, perhaps
            told = writers.kill_one(cycle + 1, float(rng.uniform(0.0, 0.25)), early=early)
            acknowledged += expected.read(told)
            if cycle % 2:  # and once more while that is mended, or closed
                writers.kill_one(0, float(rng.uniform(0.0, 0.1)), early=True)
            stored = _stored(directory, kind)
            if stored != expected.versions and expected.begun is not None:
                expected.apply(expected.begun)  # it was committed, its acknowledgement was cut off: all of it, or none
            assert stored == expected.versions, f"after kill {cycle + 1}"
    assert acknowledged > 3 * cycles


@pytest.mark.timeout(300)
def test_twenty_kills(tmp_path: Path) -> None:
    _cycles(tmp_path, 20, "dense")


@pytest.mark.timeout(300)
def test_six_kills_of_token_matrices(tmp_path: Path) -> None:
    _cycles(tmp_path, 6, "multi")


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", list(MADE))
def test_a_thousand_kills(kind: str, tmp_path: Path) -> None:
    _cycles(tmp_path, 1000, kind)
