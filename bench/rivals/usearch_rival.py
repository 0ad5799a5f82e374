"""usearch, connectivity 16, expansion_add 200, float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index


class Usearch:
    """usearch.index.Index."""

    settings: list[Any] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400, 800]  # noqa: RUF012

    def build(self, base: NDArray[np.float32], metric: str, threads: int) -> None:
        kind = {"l2": "l2sq", "cosine": "cos", "dot": "ip"}[metric]
        self.index = Index(ndim=base.shape[1], metric=kind, dtype="f32", connectivity=16, expansion_add=200)
        self.index.add(np.arange(len(base)), base, threads=threads)

    def set(self, setting: Any) -> None:
        self.index.expansion_search = setting

    def query(self, vector: NDArray[np.float32], k: int) -> Any:
        return self.index.search(vector, k, threads=1).keys
