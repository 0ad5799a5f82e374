"""faiss: HNSW on floats, HNSW on 8-bit codes with a float re-rank, and IVF-PQ FastScan with a float re-rank."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from bench.rivals.base import EF, Floats, Rival, cluster_count, unit

faiss: Any = import_module("faiss")  # its type information lacks half of the names used here


class _Faiss(Rival):
    """What faiss indexes share; a setting becomes search parameters once, outside the clock."""

    package = "faiss-cpu"

    def _make(self, n: int, dim: int, metric: int) -> Any:
        raise NotImplementedError

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        faiss.omp_set_num_threads(threads)
        kind = faiss.METRIC_L2 if space == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = self._make(len(rows), rows.shape[1], kind)
        if not self.index.is_trained:
            self.index.train(rows)
        self.index.add(rows)
        faiss.omp_set_num_threads(1)

    def save(self, folder: Path) -> None:
        faiss.write_index(self.index, str(folder / "index"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(str(folder / "index"))

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector[None], k, params=self.parameters)[1][0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        faiss.omp_set_num_threads(threads)
        return self.index.search(queries, k, params=self.parameters)[1]

    def set(self, setting: Any) -> None:
        self.parameters = faiss.SearchParametersHNSW(efSearch=setting)

    def _set_refined(self, factor: int, inner: Any) -> None:
        self._inner = inner  # the outer object keeps a bare pointer
        self.parameters = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)


class HnswFlat(_Faiss):
    """IndexHNSWFlat, M = 16, efConstruction = 200; it counts its distances."""

    _counted = 0

    def _make(self, n: int, dim: int, metric: int) -> Any:
        del n
        index = faiss.IndexHNSWFlat(dim, 16, metric)
        index.hnsw.efConstruction = 200
        return index

    def distances(self) -> float:
        before, self._counted = self._counted, faiss.cvar.hnsw_stats.ndis
        return float(self._counted - before)


class HnswSq8(_Faiss):
    """IndexHNSWSQ on 8 bits under IndexRefineFlat; ef and how many times k are re-ranked."""

    settings = tuple((ef, factor) for ef in EF for factor in (1, 2, 3, 5, 8, 12, 20) if factor * 10 <= max(20, ef))

    def _make(self, n: int, dim: int, metric: int) -> Any:
        del n
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, 16, metric)
        index.hnsw.efConstruction = 200
        self._held = index
        return faiss.IndexRefineFlat(index)

    def set(self, setting: Any) -> None:
        self._set_refined(setting[1], faiss.SearchParametersHNSW(efSearch=setting[0]))


class IvfPqFastScan(_Faiss):
    """IVF, PQ with 4-bit codes in registers, RFlat; nprobe and how many times k are re-ranked."""

    settings = tuple(product((1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192), (2, 4, 6, 10, 15, 20, 30, 50)))

    def _make(self, n: int, dim: int, metric: int) -> Any:
        parts = dim // 4 if dim >= 128 else dim // 2
        return faiss.index_factory(dim, f"IVF{cluster_count(n)},PQ{parts}x4fs,RFlat", metric)

    def set(self, setting: Any) -> None:
        self._set_refined(setting[1], faiss.SearchParametersIVF(nprobe=setting[0]))
