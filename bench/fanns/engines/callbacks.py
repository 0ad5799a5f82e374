"""Engines that ask a Python callback for each row: hnswlib, and kANNolo's ACORN."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.datasets import Dataset
from bench.fanns.columns import Table, mask_of
from bench.fanns.engines.base import EF, Filtered, Floats
from bench.rivals import make
from bench.rivals.base import unit

_GAMMA = 4  # the larger end of what kANNolo's documentation calls a good start


class Hnswlib(Filtered):
    """knn_query(filter=...): the callback looks the row up in bytes, the cheapest form that Python has."""

    package = "hnswlib"
    reuses: ClassVar[str | None] = "hnswlib"
    lines = (EF,)

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        rival: Any = make("hnswlib")
        rival.open(folder, data.base, data.metric)
        self.index, self.table = rival.index, table

    def set(self, setting: Any) -> None:
        self.index.set_ef(setting)

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        allowed = mask_of(phrased, self.table).tobytes().__getitem__
        try:
            return self.index.knn_query(vector, k=k, num_threads=1, filter=allowed)[0][0]
        except RuntimeError:  # fewer than k were found
            return ()


class ChurnedHnswlib(Hnswlib):
    """The same after a fifth of the rows were replaced: first inserted with other vectors, then updated in place."""

    reuses: ClassVar[str | None] = None
    saves = True

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        hnswlib: Any = import_module("hnswlib")
        rows, space = unit(data.base, data.metric)
        n, some = len(rows), len(rows) // 5
        self.index, self.table = hnswlib.Index(space, rows.shape[1]), table
        self.index.init_index(n, M=16, ef_construction=200, random_seed=7)
        self.index.add_items(np.concatenate((rows[-some:], rows[some:])), np.arange(n), num_threads=threads)
        self.index.add_items(rows[:some], np.arange(some), num_threads=threads)

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index"))


class KannoloAcorn1(Filtered):
    """DensePlainHNSW.search_filtered: ACORN-1 on half precision."""

    package = "kannolo"
    reuses = "kannolo"
    lines = (EF,)

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        rival: Any = make("kannolo")
        rival.open(folder, data.base, data.metric)
        self.index, self.table = rival.index, table
        self.search = self.index.search_filtered

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        allowed = mask_of(phrased, self.table).tolist().__getitem__
        return self.search(vector, k, allowed, ef_search=self.setting)[1]


class KannoloAcornGamma(KannoloAcorn1):
    """DensePlainHNSW.search_filtered_gamma."""

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        super().open(folder, data, table)
        self.index.build_acorn_gamma(_GAMMA)
        self.search = self.index.search_filtered_gamma
