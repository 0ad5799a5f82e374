"""Engines that take a bitmap or a mask: faiss, turbovec, and numpy alone. They are made of numpy columns inside."""
# ruff: noqa: ARG002 - not every engine needs all that it is given

from __future__ import annotations

from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.datasets import Dataset
from bench.fanns.columns import Table, mask_of
from bench.fanns.engines.base import EF, Filtered, Floats, Line, packed
from bench.rivals import make
from bench.rivals.base import unit

_FACTORS = (2, 4, 8, 16, 32)
_PROBES: Line = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)


class _Faiss(Filtered):
    package = "faiss-cpu"

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        assert self.reuses is not None
        rival: Any = make(self.reuses)
        rival.open(folder, data.base, data.metric)
        self._take(rival.index, table)

    def _take(self, index: Any, table: Table) -> None:
        self.faiss: Any = import_module("faiss")
        self.faiss.omp_set_num_threads(1)
        self.index, self.table = index, table

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        bits = packed(mask_of(phrased, self.table))
        selector = self.faiss.IDSelectorBitmap(len(bits), self.faiss.swig_ptr(bits))
        return self.index.search(vector[None], k, params=self._parameters(selector))[1][0]

    def _parameters(self, selector: Any) -> Any:
        raise NotImplementedError

    def _refined(self, inner: Any) -> Any:
        self._inner = inner  # the outer object keeps a bare pointer
        return self.faiss.IndexRefineSearchParameters(k_factor=self.setting[1], base_index_params=inner)


class FaissHnsw(_Faiss):
    """IndexHNSWFlat; ef."""

    reuses = "faiss-hnsw"
    lines = (EF,)

    def _parameters(self, selector: Any) -> Any:
        return self.faiss.SearchParametersHNSW(efSearch=self.setting, sel=selector)


class FaissHnswSq8(_Faiss):
    """IndexHNSWSQ under RefineFlat; ef x how many times k are re-ranked."""

    reuses = "faiss-hnsw-sq8"
    lines = tuple(tuple((ef, factor) for ef in EF) for factor in (1, 2, 4))

    def _parameters(self, selector: Any) -> Any:
        return self._refined(self.faiss.SearchParametersHNSW(efSearch=self.setting[0], sel=selector))


class FaissIvf(_Faiss):
    """IVF, PQ FastScan, RFlat; lists x how many times k are re-ranked."""

    reuses = "faiss-ivfpqfs"
    lines = tuple(tuple(product(_PROBES, (factor,))) for factor in _FACTORS)

    def _parameters(self, selector: Any) -> Any:
        return self._refined(self.faiss.SearchParametersIVF(nprobe=self.setting[0], sel=selector))


class FaissFlat(_Faiss):
    """IndexFlat: exact."""

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        faiss: Any = import_module("faiss")
        rows, space = unit(data.base, data.metric)
        index = faiss.IndexFlat(rows.shape[1], faiss.METRIC_L2 if space == "l2" else faiss.METRIC_INNER_PRODUCT)
        index.add(rows)
        self._take(index, table)

    def _parameters(self, selector: Any) -> Any:
        return self.faiss.SearchParameters(sel=selector)


class Numpy(Filtered):
    """Gather the matching rows, one matrix-vector product: exact."""

    package = "numpy"

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        self.rows, self.table = np.array(data.base), table
        self.halves = (self.rows**2).sum(axis=1) / 2

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        ids = np.flatnonzero(mask_of(phrased, self.table))
        scores = self.halves[ids] - self.rows[ids] @ vector
        if len(ids) > k:
            best = np.argpartition(scores, k)[:k]
            ids, scores = ids[best], scores[best]
        return ids[np.argsort(scores)]


class Turbovec(Filtered):
    """TurboQuant codes of 4 bits, its masked scan; the best by code are ranked by floats in numpy."""

    package = "turbovec"
    lines: ClassVar[tuple[Line, ...]] = ((10, 20, 30, 50, 100, 200, 400),)

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        turbovec: Any = import_module("turbovec")
        self.rows, self.table, self.l2 = np.array(data.base), table, data.metric == "l2"
        self.index = turbovec.TurboQuantIndex(self.rows.shape[1], bit_width=4)
        self.index.calibrate(self.rows[:20_000])
        self.index.add(self.rows)
        self.index.prepare()

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        mask = mask_of(phrased, self.table)
        ids = self.index.search(vector[None], max(k, self.setting), mask=mask)[1][0].astype(np.int64)
        ids = ids[ids >= 0]
        rows = self.rows[ids]
        far = ((rows - vector) ** 2).sum(axis=1) if self.l2 else -(rows @ vector)
        return ids[np.argsort(far)[:k]]
