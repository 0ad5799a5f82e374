"""hnswlib (Malkov & Yashunin's own library), M = 16, ef_construction = 200."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib

from bench.rivals.base import Floats, Rival, unit


class Hnswlib(Rival):
    """hnswlib.Index; built from source here, so with this processor's instructions."""

    package = "hnswlib"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        self.index = hnswlib.Index(space, rows.shape[1])
        self.index.init_index(len(rows), M=16, ef_construction=200, random_seed=7)
        self.index.add_items(rows, num_threads=threads)
        self.index.set_num_threads(1)

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        self.index = hnswlib.Index("l2" if metric == "l2" else "ip", base.shape[1])
        self.index.load_index(str(folder / "index"))
        self.index.set_num_threads(1)

    def set(self, setting: Any) -> None:
        self.index.set_ef(setting)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.knn_query(vector, k=k, num_threads=1)[0][0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.index.knn_query(queries, k=k, num_threads=threads)[0]
