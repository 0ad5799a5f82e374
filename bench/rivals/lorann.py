"""LoRANN: clusters whose scores come from reduced-rank regression, 8-bit weights, exact re-rank."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import lorann

from bench.rivals.base import Floats, Rival, cluster_count, padded, unit

_LEAST = 64


class Lorann(Rival):
    """lorann.LorannIndex; a setting is (clusters searched, points re-ranked)."""

    package = "lorann"
    settings = tuple(
        product((1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192), (20, 40, 80, 120, 200, 400, 800, 1200))
    )

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        rows = padded(rows, _LEAST)
        dim = rows.shape[1]
        self.index = lorann.LorannIndex(
            rows,
            n_clusters=cluster_count(len(rows)),
            global_dim=None if dim < 200 else 128,
            quantization_bits=8,
            rank=32,
            train_size=5,
            distance=lorann.L2 if space == "l2" else lorann.IP,
            copy=True,
        )
        self.index.build(n_threads=threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        self.index = lorann.LorannIndex.load(str(folder / "index"))

    def prepare(self, queries: Floats) -> Floats:
        return padded(queries, _LEAST)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector, k, *self.setting, n_threads=1)

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.index.search(queries, k, *self.setting, n_threads=threads)
