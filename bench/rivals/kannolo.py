"""kANNolo (Rust): HNSW on half-precision vectors, and on RaBitQ codes with a half-precision re-rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kannolo
import numpy as np

from bench.rivals.base import EF, Floats, Rival, Unsupported, unit


def _space(metric: str) -> str:
    return "euclidean" if metric == "l2" else "dotproduct"


class Kannolo(Rival):
    """DensePlainHNSW, M = 16, ef_construction = 200."""

    package = "kannolo"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        rows, _ = unit(base, metric)
        self.index = kannolo.DensePlainHNSW.build_from_array(
            rows.ravel(), rows.shape[1], m=16, ef_construction=200, metric=_space(metric)
        )

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base
        self.index = kannolo.DensePlainHNSW.load(str(folder / "index"), metric=_space(metric))

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector, k, ef_search=self.setting)[1]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        found = self.index.batch_search(queries.ravel(), k, ef_search=self.setting, num_threads=threads)[1]
        return np.asarray(found).reshape(len(queries), -1)


class KannoloRabitq(Kannolo):
    """DenseRerankHNSW, M = 32, 4-bit RaBitQ; it wants a multiple of 64 dimensions."""

    settings = tuple((ef, n) for ef in EF for n in (10, 15, 20, 40, 80, 160, 320, 640, 900) if n <= max(20, ef))

    def build(self, base: Floats, metric: str, threads: int) -> None:
        if base.shape[1] % 64:
            raise Unsupported("RaBitQ here wants a multiple of 64 dimensions")
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        rows, _ = unit(base, metric)
        self.index = kannolo.DenseRerankHNSW.build_from_array(
            rows.ravel(),
            rows.shape[1],
            m=32,
            ef_construction=200,
            metric=_space(metric),
            encoder="rabitq-ext",
            rabitq_total_bits=4,
        )

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base
        self.index = kannolo.DenseRerankHNSW.load(str(folder / "index"), metric=_space(metric), encoder="rabitq-ext")

    def query(self, vector: Floats, k: int) -> Any:
        ef, candidates = self.setting
        return self.index.search(vector, k, k_candidates=candidates, ef_search=ef)[1]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        ef, candidates = self.setting
        found = self.index.batch_search(queries.ravel(), k, k_candidates=candidates, ef_search=ef, num_threads=threads)[
            1
        ]
        return np.asarray(found).reshape(len(queries), -1)
