"""vicinal's cells layout: code lines and lists of cells; floats resident, or mapped from their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.rivals.base import Floats, Rival
from bench.rivals.vicinal_coded import rows_of
from vicinal.index.cells import CellsIndex
from vicinal.types import Metric

__all__ = ["Cells", "MappedCells"]


class Cells(Rival):
    """CellsIndex with its defaults; the setting is ef."""

    package = "vicinal"
    settings = (8, 12, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 400, 560, 800, 1200)

    def build(self, base: Floats, metric: str, threads: int) -> None:
        kind = Metric(metric)
        self.rows = rows_of(base, kind)
        made = CellsIndex.build(self.rows, len(base), kind, threads=threads)
        assert made is not None  # None only when cancelled
        self.index = made

    def save(self, folder: Path) -> None:
        """Keep who is in which cell: floats are in the data set's own file, codes are made again on opening."""
        (folder / "cells").write_bytes(self.index.encode())

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        kind = Metric(metric)
        self.rows = rows_of(self._floats(base), kind)
        self.index = CellsIndex.decode((folder / "cells").read_bytes(), self.rows, kind, len(base))

    def _floats(self, base: Floats) -> Floats:
        return np.array(base)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector, k, self.setting, rows=self.rows)[0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        found = self.index.search_batch(queries, k, self.setting, rows=self.rows, threads=threads)
        return [slots for slots, _ in found]


class MappedCells(Cells):
    """The same with the floats left in their file, as an opened data directory has them."""

    def _floats(self, base: Floats) -> Floats:
        return base
