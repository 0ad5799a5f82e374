"""vicinal's public API in memory: what a user of the library gets, payloads left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import vicinal


class InMemory:
    """connect(":memory:"), one collection, Collection.query."""

    settings: list[Any] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400, 800]  # noqa: RUF012

    def build(self, base: NDArray[np.float32], metric: str, threads: int) -> None:
        """Upsert in batches and wait for the graph."""
        del threads
        self.collection = vicinal.Database(":memory:").create_collection("bench", dim=base.shape[1], metric=metric)
        for first in range(0, len(base), 10_000):
            block = base[first : first + 10_000]
            self.collection.upsert(np.arange(first, first + len(block)), block)
        self.collection.flush()

    def set(self, setting: Any) -> None:
        self.ef = setting

    def query(self, vector: NDArray[np.float32], k: int) -> Any:
        return self.collection.query(vector, k, ef=self.ef, with_payload=False).ids
