"""usearch, connectivity 16, expansion_add 200, half precision (faster here than its float32)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from usearch.index import Index

from bench.rivals.base import Floats, Rival, unit


class Usearch(Rival):
    """usearch.index.Index."""

    package = "usearch"

    def _empty(self, dim: int, metric: str) -> Any:
        space = "l2sq" if metric == "l2" else "ip"
        return Index(ndim=dim, metric=space, dtype="f16", connectivity=16, expansion_add=200, enable_key_lookups=False)

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, _ = unit(base, metric)
        self.index = self._empty(rows.shape[1], metric)
        self.index.add(np.arange(len(rows), dtype=np.uint64), rows, threads=threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        self.index = self._empty(base.shape[1], metric)
        self.index.load(str(folder / "index"))

    def set(self, setting: Any) -> None:
        self.index.expansion_search = setting

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector, k, threads=1).keys

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.index.search(queries, k, threads=threads).keys
