"""kill -9 at a random moment, reopen, compare with what was acknowledged: nothing lost, nothing halved, no ghosts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.crash.writer_process import vector_of

from vicinal.database import Database
from vicinal.index.check import check_graph

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


def _kill_once(directory: Path, seed: int, seconds: float) -> list[str]:
    words = [sys.executable, str(WRITER), str(directory), str(seed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "the writer did not start"
        time.sleep(seconds)
        process.kill()
        rest = process.stdout.read()
    return [line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]


def _stored(directory: Path) -> dict[int, int]:
    with Database(directory) as database:
        collection = database.collection("c")
        points, rest = collection.scroll(limit=10_000, with_vectors=True)
        assert rest is None
        found = {}
        for p in points:
            assert p.payload is not None
            found[int(p.id)] = p.payload["version"]
            np.testing.assert_array_equal(p.vector, vector_of(int(p.id), p.payload["version"] % 1_000_000))
        assert collection.count() == len(found)
        if points:  # the newest answer is right at once, whatever the graph has
            hit = collection.query(points[0].vector, 1)[0]
            assert hit.id == points[0].id
        assert collection.flush(60)
        check_graph_of(collection)
    return found


def check_graph_of(collection: Any) -> None:
    """Graph invariants after recovery and rebuilding."""
    graph = collection._view.fields[""].graph
    if graph is not None:
        assert not check_graph(graph.picture).problems


def _cycles(tmp_path: Path, cycles: int) -> None:
    expected = Expected()
    acknowledged = 0
    directory = tmp_path / "db"
    rng = np.random.default_rng(1)
    for cycle in range(cycles):
        lines = _kill_once(directory, cycle + 1, float(rng.uniform(0.0, 0.25)))
        acknowledged += expected.read(lines)
        stored = _stored(directory)
        if stored != expected.versions and expected.begun is not None:
            expected.apply(expected.begun)  # it was committed, its acknowledgement was cut off: all of it, or none
        assert stored == expected.versions, f"after kill {cycle + 1}"
    assert acknowledged > 3 * cycles


@pytest.mark.timeout(300)
def test_twenty_kills(tmp_path: Path) -> None:
    _cycles(tmp_path, 20)


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_a_thousand_kills(tmp_path: Path) -> None:
    _cycles(tmp_path, 1000)
