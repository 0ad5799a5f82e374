"""zvec (Alibaba's Proxima as an embedded database): HNSW, M = 16, 8-bit codes, float refiner. No batch call."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import zvec

from bench.rivals.base import Floats, Rival, unit

_BATCH = 500


class Zvec(Rival):
    """A collection of one vector field."""

    package = "zvec"

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        zvec.init(query_threads=threads, optimize_threads=threads, log_level=zvec.LogLevel.WARN)
        self.folder = Path(tempfile.mkdtemp()) / "collection"
        index = zvec.HnswIndexParam(
            metric_type=zvec.MetricType.L2 if space == "l2" else zvec.MetricType.IP,
            m=16,
            ef_construction=200,
            quantize_type=zvec.QuantizeType.INT8,
            use_contiguous_memory=True,
        )
        field = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, rows.shape[1], index_param=index)
        number = zvec.FieldSchema("a", zvec.DataType.INT32, nullable=False)
        schema = zvec.CollectionSchema(name="b", fields=[number], vectors=field)
        self.collection = zvec.create_and_open(str(self.folder), schema)
        for first in range(0, len(rows), _BATCH):
            block = rows[first : first + _BATCH]
            docs = [zvec.Doc(id=str(first + i), vectors={"v": v}, fields={"a": 0}) for i, v in enumerate(block)]
            self.collection.insert(docs)
        self.collection.optimize(zvec.OptimizeOption(concurrency=threads))
        self.collection.flush()

    def save(self, folder: Path) -> None:
        del self.collection  # closes it
        shutil.move(self.folder, folder / "collection")
        self._open(folder)

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        zvec.init(query_threads=1, log_level=zvec.LogLevel.WARN)
        self._open(folder)

    def _open(self, folder: Path) -> None:
        self.collection = zvec.open(str(folder / "collection"), zvec.CollectionOption(read_only=True, enable_mmap=True))

    def set(self, setting: Any) -> None:
        self.parameters = zvec.HnswQueryParam(ef=setting, is_using_refiner=True)

    def query(self, vector: Floats, k: int) -> Any:
        return self.collection.query_internal_ids(zvec.Query("v", vector=vector, param=self.parameters), topk=k)
