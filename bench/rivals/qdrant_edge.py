"""Qdrant's segment engine in process (qdrant-edge-py): HNSW, m = 16, ef_construct = 200, float32. No batch call."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from bench.rivals.base import EF, Floats, Rival, unit

_BATCH = 1000


class QdrantEdge(Rival):
    """A shard of one segment."""

    package = "qdrant-edge-py"
    settings = EF[:11]

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        self.folder = Path(tempfile.mkdtemp()) / "shard"
        self.folder.mkdir()
        distance = qdrant.Distance.Euclid if space == "l2" else qdrant.Distance.Dot
        graph = qdrant.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10, max_indexing_threads=threads)
        optimizers = qdrant.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=1000, max_segment_size=10**9
        )
        field = qdrant.EdgeVectorParams(size=rows.shape[1], distance=distance)
        config = qdrant.EdgeConfig(vectors=field, hnsw_config=graph, optimizers=optimizers)
        self.shard = qdrant.EdgeShard.create(str(self.folder), config)
        for first in range(0, len(rows), _BATCH):
            block = rows[first : first + _BATCH].tolist()
            points = [qdrant.Point(first + i, row, {}) for i, row in enumerate(block)]
            self.shard.update(qdrant.UpdateOperation.upsert_points(points))
        while self.shard.optimize():
            pass
        self.shard.flush()

    def save(self, folder: Path) -> None:
        self.shard.close()
        shutil.move(self.folder, folder / "shard")
        self.shard = qdrant.EdgeShard.load(str(folder / "shard"))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        self.shard = qdrant.EdgeShard.load(str(folder / "shard"))

    def set(self, setting: Any) -> None:
        self.parameters = qdrant.SearchParams(hnsw_ef=setting)

    def query(self, vector: Floats, k: int) -> Any:
        wanted = qdrant.SearchRequest(query=qdrant.Query.Nearest(vector.tolist()), limit=k, params=self.parameters)
        return [point.id for point in self.shard.search(wanted)]
