"""VSAG's HGraph: degree 32, ef_construction = 300, 8-bit codes with one scale, float32 re-order. No batch call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyvsag

from bench.rivals.base import Floats, Rival, unit


class Vsag(Rival):
    """pyvsag.Index("hgraph")."""

    package = "pyvsag"

    def _empty(self, dim: int, metric: str, threads: int) -> Any:
        pyvsag.set_logger_off()
        inner = {
            "base_quantization_type": "sq8_uniform",
            "max_degree": 32,
            "ef_construction": 300,
            "build_thread_count": threads,
            "use_reorder": True,
            "precise_quantization_type": "fp32",
        }
        space = "l2" if metric == "l2" else "ip"
        words = {"dtype": "float32", "metric_type": space, "dim": dim, "index_param": inner}
        return pyvsag.Index("hgraph", json.dumps(words))

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, _ = unit(base, metric)
        n, dim = rows.shape
        self.index = self._empty(dim, metric, threads)
        self.index.build(vectors=rows.ravel(), ids=np.arange(n, dtype=np.int64), num_elements=n, dim=dim)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        self.index = self._empty(base.shape[1], metric, 1)
        self.index.load(str(folder / "index"))

    def set(self, setting: Any) -> None:
        self.words = json.dumps({"hgraph": {"ef_search": setting}})

    def query(self, vector: Floats, k: int) -> Any:
        first, second = self.index.knn_search(vector=vector, k=k, parameters=self.words)
        return first if first.dtype.kind in "iu" else second
