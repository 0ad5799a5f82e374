"""vicinal's graph search on floats, below the collection: one query per call, one thread."""

from __future__ import annotations

from typing import Any

from bench.rivals.base import Floats, Rival
from bench.rivals.vicinal_coded import rows_of
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.types import HnswParams, Metric


class Hnsw(Rival):
    """HnswIndex, M = 16, ef_construction = 200."""

    package = "vicinal"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        """Insert one by one; the paper's builder has one thread whatever is asked."""
        del threads
        self.metric = Metric(metric)
        self.rows = rows_of(base, self.metric)
        index = HnswIndex(self.metric, base.shape[1], HnswParams())
        index.extend(self.rows, len(base))
        self.picture = index.picture()
        self.n = len(base)

    def query(self, vector: Floats, k: int) -> Any:
        ef = max(self.setting, k)
        return search_graph(self.picture, self.metric, self.rows, vector, k, ef, limit=self.n, allowed=None)[0]
