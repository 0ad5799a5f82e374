"""vicinal's public API, in memory or opened from disk: what a user of the library gets, payloads left out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vicinal
from bench.rivals.base import Floats, Rival

_BATCH = 10_000


class InMemory(Rival):
    """connect(":memory:"), one collection, Collection.query."""

    package = "vicinal"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        """Upsert in batches and wait for the graph."""
        del threads
        self.database = vicinal.connect(self._place())
        self.collection = self.database.create_collection("bench", dim=base.shape[1], metric=metric)
        for first in range(0, len(base), _BATCH):
            block = base[first : first + _BATCH]
            self.collection.upsert(np.arange(first, first + len(block)), block)
        self.collection.flush()

    def _place(self) -> str:
        return ":memory:"

    def query(self, vector: Floats, k: int) -> Any:
        return self.collection.query(vector, k, ef=max(self.setting, k), with_payload=False).ids

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        del threads
        return self.collection.query_batch(queries, k, ef=max(self.setting, k))[0]


class Opened(InMemory):
    """A data directory, opened read-only: vectors stay in their file."""

    def _place(self) -> str:
        self.folder = tempfile.mkdtemp()
        return self.folder

    def save(self, folder: Path) -> None:
        self.database.close()
        shutil.move(self.folder, folder / "database")

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        self.database = vicinal.connect(folder / "database", read_only=True)
        self.collection = self.database.collection("bench")
