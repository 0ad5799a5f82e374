"""SymphonyQG from the RaBitQ library, degree 32, ef_construction = 200.

It wants 64 dimensions or more: zeros are added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rabitqlib

from bench.rivals.base import Floats, Rival, padded, unit

_LEAST = 64


class SymphonyQG(Rival):
    """rabitqlib.SymqgIndex."""

    package = "rabitqlib"
    settings = (20, 28, 40, 56, 68, 80, 96, 112, 136, 160, 192, 224, 272, 320, 450, 640)

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        rows = padded(rows, _LEAST)
        self.index = rabitqlib.SymqgIndex(rows.shape[1], 32, metric=space)
        self.index.build(rows, 200, num_threads=threads)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        self.index = rabitqlib.SymqgIndex.load(str(folder / "index"))

    def prepare(self, queries: Floats) -> Floats:
        return padded(queries, _LEAST)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector[None], k, self.setting, num_threads=1)[0][0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        return self.index.search(queries, k, self.setting, num_threads=threads)[0]
