"""faiss HNSWFlat, M = 16, efConstruction = 200; unit vectors and inner product under cosine."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


class Faiss:
    """IndexHNSWFlat."""

    settings: list[Any] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400, 800]  # noqa: RUF012

    def build(self, base: NDArray[np.float32], metric: str, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.IndexHNSWFlat(base.shape[1], 16, kind)
        self.index.hnsw.efConstruction = 200
        self.cosine = metric == "cosine"
        rows = base / np.linalg.norm(base, axis=1, keepdims=True) if self.cosine else base
        self.index.add(np.ascontiguousarray(rows, np.float32))
        faiss.omp_set_num_threads(1)

    def set(self, setting: Any) -> None:
        self.index.hnsw.efSearch = setting

    def query(self, vector: NDArray[np.float32], k: int) -> Any:
        return self.index.search(vector[None], k)[1][0]
