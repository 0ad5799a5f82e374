"""A burst of writes passes before the indexer works, but not for long, and not where somebody waits for the graphs."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from vicinal import indexer, limits
from vicinal.collection import Collection
from vicinal.database import Database

ROWS = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(indexer, "BURST_SECONDS", 60.0)
    monkeypatch.setattr(indexer, "PAUSE_SECONDS", 30.0)
    with Database(tmp_path / "db") as database:
        yield database.create_collection("c", dim=8, metric="l2")


def _write(collection: Collection) -> None:
    for first in range(0, len(ROWS), 100):
        collection.upsert(range(first, first + 100), ROWS[first : first + 100])


def _indexed(collection: Collection, seconds: float = 20) -> bool:
    """Whether the graphs come to have everything, with nobody waiting for them."""
    until = monotonic() + seconds
    while collection.info().tail and monotonic() < until:
        sleep(0.01)
    return not collection.info().tail


def test_a_burst_passes(made: Collection) -> None:
    _write(made)
    sleep(0.1)
    assert made.info().tail == len(ROWS)
    assert made.query(ROWS[1234], 1)[0].id == 1234


def test_somebody_who_waits_ends_it(made: Collection) -> None:
    _write(made)
    assert made.flush(20)
    assert made.info().tail == 0


def test_a_long_tail_ends_it(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAIL_SOFT_BYTES", 1000 * 8 * 4)
    monkeypatch.setattr(indexer, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr("vicinal.writer.Writer.idle_seconds", 0.0)  # it never ends
    _write(made)
    until = monotonic() + 20
    while made.info().tail >= 1000 and monotonic() < until:
        sleep(0.01)
    assert made.info().tail < 1000


def test_it_does_not_last(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BURST_SECONDS", 0.05)
    monkeypatch.setattr(indexer, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("vicinal.writer.Writer.idle_seconds", 0.0)
    _write(made)
    assert _indexed(made)


def test_a_pause_ends_it(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "PAUSE_SECONDS", 0.05)
    _write(made)
    assert _indexed(made)


def test_closing_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BURST_SECONDS", 600.0)
    monkeypatch.setattr("vicinal.writer.Writer.idle_seconds", 0.0)
    with Database(tmp_path / "db") as database:
        _write(database.create_collection("c", dim=8, metric="l2"))
    with Database(tmp_path / "db") as database:
        monkeypatch.undo()
        assert database.collection("c").count() == len(ROWS)
