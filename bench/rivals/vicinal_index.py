"""vicinal.Index: hnswlib's signatures over the coded index, as a user calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.rivals.base import Floats, Rival
from bench.rivals.vicinal_coded import SETTINGS
from vicinal.flat_api import Index


class FlatIndex(Rival):
    """init_index, add_items, knn_query with their defaults; building takes all cores whatever is asked."""

    package = "vicinal"
    settings = SETTINGS

    def build(self, base: Floats, metric: str, threads: int) -> None:
        self._empty(base.shape[1], metric)
        self.index.init_index(len(base))
        self.index.add_items(base, num_threads=threads)

    def _empty(self, dim: int, metric: str) -> None:
        self.index = Index({"l2": "l2", "cosine": "cosine", "dot": "ip"}[metric], dim)

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        self._empty(base.shape[1], metric)
        self.index.load_index(str(folder / "index"))

    def set(self, setting: Any) -> None:
        self.index.set_ef(setting)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.knn_query(vector, k)[0][0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.index.knn_query(queries, k, num_threads=threads)[0]
