"""Each of the planner's ways alone, on one index: every match by its code, the nearest cells, a sweep of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.datasets import Dataset
from bench.fanns.columns import Predicate, Table
from bench.fanns.engines.base import Filtered, Floats
from bench.fanns.engines.typed import TypedColumns
from bench.rivals import make
from vicinal.index.cell_lists import CellLists, partition
from vicinal.index.code_scan import CodeScan
from vicinal.types import Metric

_RESCORES = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_QUOTAS = (100, 250, 500, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 12_000, 16_000, 24_000)


class _Coded(Filtered):
    package = "vicinal"
    reuses = "vicinal"
    with_cells = False

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        coded: Any = make("vicinal")
        coded.open(folder, data.base, data.metric)
        self.typed, self.n = TypedColumns(table), len(data.base)
        self.rows, self.index = coded.rows, coded.index
        lists = None
        if self.with_cells:
            metric = Metric(data.metric)
            cells = partition(self.rows, self.n, metric, seed=42, threads=2)
            lists = CellLists(self.rows, metric, self.index.choice, cells)
        self.scan = CodeScan(self.index, lists)

    @property
    def nbytes(self) -> int | None:
        return int(self.index.memory_bytes)

    def phrase(self, predicate: Predicate) -> Any:
        return self.typed.tree(predicate)


class ListScan(_Coded):
    """Every match is estimated; how many are settled on floats."""

    lines = (_RESCORES,)

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        bits = self.typed.bits(phrased)
        return self.scan.scan_list(vector, k, rows=self.rows, allowed=bits, rescore=max(k, self.setting)).slots


class CellScan(_Coded):
    """The nearest cells until a quota of matches; quota x how many are settled."""

    with_cells = True
    lines = tuple(tuple((quota, rescore) for quota in _QUOTAS) for rescore in (16, 32, 64, 128))

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        quota, rescore = self.setting
        bits, rows = self.typed.bits(phrased), self.rows
        return self.scan.scan_cells(vector, k, rows=rows, allowed=bits, quota=quota, rescore=max(k, rescore)).slots


class Sweep(_Coded):
    """The graph, with the filter on what enters the results; ef."""

    lines = ((10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400, 600),)

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        bits = self.typed.bits(phrased)
        return self.index.search(vector, k, max(k, self.setting), rows=self.rows, limit=self.n, allowed=bits)[0]
