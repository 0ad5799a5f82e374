"""vicinal's coded index: one query per call, one thread; floats resident, or mapped from their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.rivals.base import Floats, Rival
from vicinal.index.builder import build_links
from vicinal.index.coded import CodedIndex
from vicinal.types import Metric, Rows


def rows_of(base: Floats, metric: Metric) -> Rows:
    """Rows as the engine reads them, with inverse norms under cosine."""
    norms = np.empty(0, np.float32)
    if metric is Metric.COSINE:
        norms = 1 / np.sqrt(np.einsum("ij,ij->i", base, base))
    return Rows(base, norms)


SETTINGS = (10, 11, 12, 13, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 320, 400, 560, 800)


class Coded(Rival):
    """build_links and CodedIndex with their defaults; the setting is ef."""

    package = "vicinal"
    settings = SETTINGS

    def build(self, base: Floats, metric: str, threads: int) -> None:
        kind = Metric(metric)
        self.rows = rows_of(base, kind)
        made = build_links(self.rows, len(base), kind, fill=True, threads=threads)
        assert made is not None  # None only when cancelled
        self.links: NDArray[np.uint32] = made.links
        self.index = CodedIndex.build(self.rows, len(base), kind, self.links, threads=threads)

    def save(self, folder: Path) -> None:
        """Keep the links: floats are in the data set's own file, codes are made again on opening."""
        np.save(folder / "links.npy", self.links)

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        kind = Metric(metric)
        self.rows = rows_of(self._floats(base), kind)
        links = np.load(folder / "links.npy", allow_pickle=False, mmap_mode="r")
        self.index = CodedIndex.build(self.rows, len(base), kind, links)

    def _floats(self, base: Floats) -> Floats:
        return np.array(base)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector, k, self.setting, rows=self.rows)[0]

    def distances(self) -> float:
        """Nodes estimated by the last walk."""
        return float(self.index._free[-1].hops[1])  # noqa: SLF001 - the kernel's own counter, for benchmarks only


class Mapped(Coded):
    """The same with the floats left in their file, as an opened data directory has them."""

    def _floats(self, base: Floats) -> Floats:
        return base
