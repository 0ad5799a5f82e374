"""voyager (Spotify's descendant of hnswlib), M = 16, ef_construction = 200, float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import voyager

from bench.rivals.base import Floats, Rival, unit


class Voyager(Rival):
    """voyager.Index."""

    package = "voyager"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        self.index = voyager.Index(
            voyager.Space.Euclidean if space == "l2" else voyager.Space.InnerProduct,
            num_dimensions=rows.shape[1],
            M=16,
            ef_construction=200,
            max_elements=len(rows),
        )
        self.index.add_items(rows, num_threads=threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        self.index = voyager.Index.load(str(folder / "index"))

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.query(vector, k=k, num_threads=1, query_ef=max(self.setting, k))[0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.index.query(queries, k=k, num_threads=threads, query_ef=max(self.setting, k))[0]
