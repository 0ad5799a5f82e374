"""Qdrant's segment engine in process (qdrant-edge-py): HNSW, m = 16, ef_construct = 200, 8-bit codes in memory.

The best are scored again on float32.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from bench.rivals.base import EF, Floats, Rival, unit

_BATCH = 1000


class QdrantEdge(Rival):
    """A shard of one segment; a setting is ef and how many times k are re-scored."""

    package = "qdrant-edge-py"
    settings = tuple((ef, factor) for ef in EF for factor in (1.0, 2.0, 4.0))

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        self.folder = Path(tempfile.mkdtemp()) / "shard"
        self.folder.mkdir()
        distance = qdrant.Distance.Euclid if space == "l2" else qdrant.Distance.Dot
        graph = qdrant.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10, max_indexing_threads=threads)
        optimizers = qdrant.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=100, max_segment_size=10**9
        )
        field = qdrant.EdgeVectorParams(size=rows.shape[1], distance=distance)
        codes = qdrant.ScalarQuantizationConfig(type=qdrant.ScalarType.Int8, quantile=0.99, always_ram=True)
        config = qdrant.EdgeConfig(vectors=field, hnsw_config=graph, quantization_config=codes, optimizers=optimizers)
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
        ef, factor = setting
        codes = qdrant.QuantizationSearchParams(rescore=True, oversampling=factor)
        self.parameters = qdrant.SearchParams(hnsw_ef=ef, quantization=codes)

    def query(self, vector: Floats, k: int) -> Any:
        wanted = qdrant.SearchRequest(query=qdrant.Query.Nearest(vector.tolist()), limit=k, params=self.parameters)
        return [point.id for point in self.shard.search(wanted)]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        del threads  # of its own choice
        asked = [
            qdrant.QueryRequest(limit=k, query=qdrant.Query.Nearest(vector), params=self.parameters)
            for vector in queries.tolist()
        ]
        answers = self.shard.query_batch(qdrant.QueryBatchRequest(asked))
        return [[point.id for point in points] for points in answers]
