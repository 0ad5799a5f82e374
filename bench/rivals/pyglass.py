"""pyglass (the portable wheel: AVX2): HNSW of degree 32, L = 200, 8-bit codes with one scale, half-precision refine.

Its codes give wrong distances where dimensions are no multiple of 16 (recall .71 at 50): zeros are added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import glass
import numpy as np

from bench.rivals.base import Floats, Rival, padded, unit


def _whole(vectors: Floats) -> Floats:
    return padded(vectors, -(-vectors.shape[1] // 16) * 16)


class Glass(Rival):
    """glass.Searcher; it tunes its prefetching on the data when it opens."""

    package = "pyglass-portable"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        rows = _whole(rows)
        glass.set_num_threads(threads)
        self.graph = glass.Index("HNSW", space.upper(), "SQ8U", 32, 200).build(rows)
        self.parts = self.graph, rows, space.upper()

    def _search_over(self, graph: Any, rows: Floats, space: str) -> None:
        """Make the searcher; it empties the graph, which can therefore not be saved afterwards."""
        self.searcher = glass.Searcher(graph, rows, space, "SQ8U", "FP16")
        self.searcher.set_ef(64)
        self.searcher.optimize(1)

    def save(self, folder: Path) -> None:
        self.graph.save(str(folder / "graph"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        rows, space = unit(np.array(base), metric)
        rows = _whole(rows)
        self.parts = glass.Graph(str(folder / "graph")), rows, space.upper()
        self._search_over(*self.parts)

    def prepare(self, queries: Floats) -> Floats:
        return _whole(queries)

    def set(self, setting: Any) -> None:
        if not hasattr(self, "searcher"):
            self._search_over(*self.parts)
        self.searcher.set_ef(setting)

    def query(self, vector: Floats, k: int) -> Any:
        return self.searcher.search(vector, k)[0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.searcher.batch_search(queries, k, threads)[0]
