"""vicinal in ann-benchmarks: copy this folder to `ann_benchmarks/algorithms/vicinal` there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.flat_api import Index

from ..base.module import BaseANN  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: TID252 - how ann-benchmarks finds it

SPACES = {"euclidean": "l2", "angular": "cosine"}


class Vicinal(BaseANN):  # type: ignore[misc]
    """vicinal.Index with its defaults; the only setting is ef."""

    def __init__(self, metric: str) -> None:
        self.space = SPACES[metric]
        self.name = "vicinal"

    def fit(self, X: NDArray[np.float32]) -> None:
        """Index all rows, and compile the search's kernels with one query."""
        self.index = Index(self.space, X.shape[1])
        self.index.init_index(len(X))
        self.index.add_items(np.ascontiguousarray(X, np.float32))
        self.index.knn_query(np.ascontiguousarray(X[0], np.float32), 10)

    def set_query_arguments(self, ef: int) -> None:
        self.index.set_ef(ef)
        self.name = f"vicinal(ef={ef})"

    def query(self, v: NDArray[np.float32], n: int) -> Any:
        return self.index.knn_query(v, n)[0][0]

    def batch_query(self, X: NDArray[np.float32], n: int) -> None:
        self.found = self.index.knn_query(np.ascontiguousarray(X, np.float32), n)[0]

    def get_batch_results(self) -> Any:
        return self.found

    def __str__(self) -> str:
        return self.name
