"""vicinal's graph search on floats, below the collection: one query per call, one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.types import HnswParams, Metric, Rows


class Graph:
    """HnswIndex, M = 16, ef_construction = 200."""

    settings: list[Any] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400, 800]  # noqa: RUF012

    def build(self, base: NDArray[np.float32], metric: str, threads: int) -> None:
        """Insert one by one; the paper's builder has one thread whatever is asked."""
        del threads
        self.metric = Metric(metric)
        norms = np.empty(0, np.float32)
        if self.metric is Metric.COSINE:
            norms = (1 / np.linalg.norm(base, axis=1)).astype(np.float32)
        self.rows = Rows(base, norms)
        index = HnswIndex(self.metric, base.shape[1], HnswParams())
        index.extend(self.rows, len(base))
        self.picture = index.picture()
        self.n = len(base)

    def set(self, setting: Any) -> None:
        self.ef = setting

    def query(self, vector: NDArray[np.float32], k: int) -> Any:
        return search_graph(self.picture, self.metric, self.rows, vector, k, self.ef, limit=self.n, allowed=None)[0]
