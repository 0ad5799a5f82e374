"""hnswlib (Malkov & Yashunin's own library)."""

from __future__ import annotations

from typing import Any

import hnswlib
import numpy as np
from numpy.typing import NDArray


class Hnswlib:
    """M = 16, ef_construction = 200."""

    settings: list[Any] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400, 800]  # noqa: RUF012

    def build(self, base: NDArray[np.float32], metric: str, threads: int) -> None:
        self.index = hnswlib.Index({"l2": "l2", "cosine": "cosine", "dot": "ip"}[metric], base.shape[1])
        self.index.init_index(len(base), M=16, ef_construction=200, random_seed=7)
        self.index.add_items(base, num_threads=threads)
        self.index.set_num_threads(1)

    def set(self, setting: Any) -> None:
        self.index.set_ef(setting)

    def query(self, vector: NDArray[np.float32], k: int) -> Any:
        return self.index.knn_query(vector, k=k, num_threads=1)[0][0]
