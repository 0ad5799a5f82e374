"""When the indexer lags, the tail stops growing: writers wait for it, readers never do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal import limits
from vicinal.database import Database
from vicinal.index.field_index import FieldIndex

DIM = 8
ROWS = 50


def test_writers_wait_and_readers_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    original = FieldIndex.extend

    def lagging(self: FieldIndex, *arguments: Any) -> None:
        go_on.wait(60)
        original(self, *arguments)

    monkeypatch.setattr(FieldIndex, "extend", lagging)
    monkeypatch.setattr(limits, "TAIL_HARD_BYTES", 10 * ROWS * DIM * 4)
    rows = np.random.default_rng(0).standard_normal((40 * ROWS, DIM)).astype(np.float32)
    written = 0
    progress = threading.Condition()

    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=DIM, metric="l2")

        def write() -> None:
            nonlocal written
            for first in range(0, len(rows), ROWS):
                collection.upsert(list(range(first, first + ROWS)), rows[first : first + ROWS])
                with progress:
                    written = first + ROWS
                    progress.notify_all()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        with progress:
            assert progress.wait_for(lambda: written >= 10 * ROWS, 30)
            if progress.wait_for(lambda: written > 10 * ROWS, 0.5):
                go_on.set()  # closing waits for the indexer
                pytest.fail("the tail grew beyond its bound")
        assert collection.info().tail == 10 * ROWS
        for i in (0, written - 1):  # answered at once, from the tail
            assert collection.query(rows[i], 1)[0].id == i
            assert collection.get([i], with_vectors=True)[0].vector.tolist() == rows[i].tolist()
        assert collection.delete([3]) == 1  # makes no tail, so it need not wait
        go_on.set()
        writer.join(60)
        assert (writer.is_alive(), collection.flush(60), collection.count()) == (False, True, len(rows) - 1)
