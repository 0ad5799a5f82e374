"""NGT: ONNG, its graph made for search, from an ANNG of 100 edges."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import ngtpy
import numpy as np

from bench.rivals.base import Floats, Rival


class Ngt(Rival):
    """ngtpy.Index on floats; a setting is the relative search radius."""

    package = "ngt"
    settings = (-0.1, -0.05, -0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4)

    def build(self, base: Floats, metric: str, threads: int) -> None:
        folder = Path(tempfile.mkdtemp())
        anng, self.folder = folder / "anng", folder / "onng"
        kind = "L2" if metric == "l2" else "Normalized Cosine"  # rows have unit length
        ngtpy.create(
            str(anng).encode(), base.shape[1], edge_size_for_creation=100, edge_size_for_search=40, distance_type=kind
        )
        index = ngtpy.Index(str(anng))
        index.batch_insert(base, num_threads=threads, debug=False)
        index.save()
        index.close()
        optimizer = ngtpy.Optimizer(num_of_outgoings=10, num_of_incomings=120, log_disabled=True)
        optimizer.set_processing_modes(
            shortcut_reduction=True,
            search_parameter_optimization=False,
            prefetch_parameter_optimization=False,
            accuracy_table_generation=False,
        )
        optimizer.execute(str(anng), str(self.folder))
        shutil.rmtree(anng)
        self.index = ngtpy.Index(str(self.folder), read_only=True)

    def save(self, folder: Path) -> None:
        shutil.copytree(self.folder, folder / "onng")

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        self.index = ngtpy.Index(str(folder / "onng"), read_only=True)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.search(vector, size=k, epsilon=self.setting, with_distance=False)

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        del threads  # as many as OpenMP has
        self.index.set(num_of_search_objects=k, search_radius=-1, epsilon=self.setting)
        found = ngtpy.BatchResults()
        self.index.batch_search(queries, found, k, with_distance=False)
        return np.asarray(found.get_ids())
