"""Intel's Scalable Vector Search: Vamana, degree 32, window 128, on floats, LVQ and LeanVec codes.

LVQ and LeanVec run on Intel's processors only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import svs

from bench.rivals.base import Floats, Rival, Unsupported, unit


def _distance(metric: str) -> Any:
    return svs.DistanceType.L2 if metric == "l2" else svs.DistanceType.MIP


def _write_fvecs(rows: Floats, path: Path) -> None:
    """The form that SVS reads: each row led by its length as int32."""
    records = np.empty((len(rows), rows.shape[1] + 1), np.float32)
    records[:, 0] = np.int32(rows.shape[1]).view(np.float32)
    records[:, 1:] = rows
    records.tofile(path)


class _Vamana(Rival):
    """What the three share; `_data` gives the rows in their code."""

    package = "scalable-vs"

    def _data(self, rows: Floats, loader: Any) -> Any:
        raise NotImplementedError

    def _stored(self, folder: str) -> Any:
        raise NotImplementedError

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        parameters = svs.VamanaBuildParameters(
            graph_max_degree=32, window_size=128, alpha=1.2 if space == "l2" else 0.95
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.fvecs"
            _write_fvecs(rows, path)
            loader = svs.VectorDataLoader(str(path), svs.DataType.float32, dims=rows.shape[1])
            data = self._data(rows, loader)
            self.index = svs.Vamana.build(parameters, data, _distance(metric), num_threads=threads)
        self.index.num_threads = 1

    def save(self, folder: Path) -> None:
        self.index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base
        graph = svs.GraphLoader(str(folder / "graph"))
        data = self._stored(str(folder / "data"))
        self.index = svs.Vamana(str(folder / "config"), graph, data, _distance(metric), num_threads=1)

    def set(self, setting: Any) -> None:
        self.index.search_window_size = setting

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector[None], k)[0][0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        if self.index.num_threads != threads:
            self.index.num_threads = threads
        return self.index.search(queries, k)[0]


class VamanaFloat(_Vamana):
    """float32."""

    def _data(self, rows: Floats, loader: Any) -> Any:
        del loader
        return rows

    def _stored(self, folder: str) -> Any:
        return svs.VectorDataLoader(folder, svs.DataType.float32)


class VamanaLvq(_Vamana):
    """LVQ, 4 bits to walk and 8 bits of residual to re-rank."""

    def _data(self, rows: Floats, loader: Any) -> Any:
        del rows
        return svs.LVQLoader(loader, primary=4, residual=8, padding=32)

    def _stored(self, folder: str) -> Any:
        return svs.LVQLoader(folder, padding=32)


class VamanaLeanVec(_Vamana):
    """LeanVec: 160 principal dimensions on 8 bits to walk, all dimensions on 8 bits to re-rank."""

    def _data(self, rows: Floats, loader: Any) -> Any:
        if rows.shape[1] <= 160:
            raise Unsupported("LeanVec reduces 160 dimensions or more")
        kind = svs.LeanVecKind.lvq8
        return svs.LeanVecLoader(loader, leanvec_dims=160, primary_kind=kind, secondary_kind=kind)

    def _stored(self, folder: str) -> Any:
        return svs.LeanVecLoader(folder)
