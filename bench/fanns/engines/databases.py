"""Embedded databases that evaluate filters themselves: zvec and Qdrant's segment engine. Attributes are integers."""
# ruff: noqa: ARG002 - not every engine needs all that it is given

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.datasets import Dataset
from bench.fanns.columns import Among, Both, Either, Never, Predicate, Table, Within
from bench.fanns.engines.base import EF, Filtered, Floats
from bench.rivals.base import Unsupported, unit

_BATCH = 500


def _blocks(rows: Floats, table: Table) -> Iterator[list[tuple[int, Floats, dict[str, Any]]]]:
    """Rows with their codes, some at a time."""
    for first in range(0, len(rows), _BATCH):
        block = range(first, min(first + _BATCH, len(rows)))
        yield [(i, rows[i], {name: column.row(i) for name, column in table.columns.items()}) for i in block]


class Zvec(Filtered):
    """HNSW on 8 bits with its refiner, inverted indexes on the attributes; ef."""

    package = "zvec"
    saves = True
    lines = (EF[:13],)

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        zvec: Any = import_module("zvec")
        rows, space = unit(data.base, data.metric)
        zvec.init(query_threads=threads, optimize_threads=threads, log_level=zvec.LogLevel.WARN)
        self.folder, self.table = Path(tempfile.mkdtemp()) / "collection", table
        metric = zvec.MetricType.L2 if space == "l2" else zvec.MetricType.IP
        index = zvec.HnswIndexParam(
            metric_type=metric, m=16, ef_construction=200, quantize_type=zvec.QuantizeType.INT8,
            use_contiguous_memory=True,
        )  # fmt: skip
        field = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, rows.shape[1], index_param=index)
        inverted = zvec.InvertIndexParam(enable_range_optimization=True)
        kinds = {True: zvec.DataType.INT32, False: zvec.DataType.ARRAY_INT32}
        fields = [
            zvec.FieldSchema(name, kinds[column.ends is None], nullable=False, index_param=inverted)
            for name, column in table.columns.items()
        ]
        schema = zvec.CollectionSchema(name="b", fields=fields, vectors=field)
        made = zvec.create_and_open(str(self.folder), schema)
        for block in _blocks(rows, table):
            made.insert([zvec.Doc(id=str(i), vectors={"v": row}, fields=held) for i, row, held in block])
        made.optimize(zvec.OptimizeOption(concurrency=threads))
        made.flush()
        self.collection = made

    def save(self, folder: Path) -> None:
        del self.collection  # closes it
        shutil.move(self.folder, folder / "collection")

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        self.zvec: Any = import_module("zvec")
        self.zvec.init(query_threads=1, log_level=self.zvec.LogLevel.WARN)
        option = self.zvec.CollectionOption(read_only=True, enable_mmap=True)
        self.collection, self.table = self.zvec.open(str(folder / "collection"), option), table

    def set(self, setting: Any) -> None:
        self.parameters = self.zvec.HnswQueryParam(ef=setting, is_using_refiner=True)

    def phrase(self, predicate: Predicate) -> str:
        match predicate:
            case Among(name, codes):
                listed = ", ".join(map(str, codes))
                if self.table.columns[name].ends is not None:
                    return f"{name} contain_any ({listed})"
                return f"{name} in ({listed})" if len(codes) > 1 else f"{name} = {listed}"
            case Within(name, low, high):
                return f"{name} >= {low} and {name} <= {high}"
            case Never(Among(name, codes)):
                listed = ", ".join(map(str, codes))
                words = "not contain_any" if self.table.columns[name].ends is not None else "not in"
                return f"{name} {words} ({listed})"
            case Both(parts):
                return " and ".join(f"({self.phrase(part)})" for part in parts)
            case Either(parts):
                return " or ".join(f"({self.phrase(part)})" for part in parts)
        raise Unsupported("negates single conditions only")

    def query(self, vector: Floats, phrased: str, k: int) -> Any:
        wanted = self.zvec.Query("v", vector=vector, param=self.parameters)
        return self.collection.query_internal_ids(wanted, topk=k, filter=phrased)


class QdrantEdge(Filtered):
    """A shard of one segment: HNSW with links per indexed value, 8-bit codes re-scored; ef x oversampling."""

    package = "qdrant-edge-py"
    saves = True
    lines = tuple(tuple((ef, factor) for ef in EF[:13]) for factor in (1.0, 2.0))

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        qdrant: Any = import_module("qdrant_edge")
        rows, space = unit(data.base, data.metric)
        self.folder = Path(tempfile.mkdtemp()) / "shard"
        self.folder.mkdir()
        distance = qdrant.Distance.Euclid if space == "l2" else qdrant.Distance.Dot
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(size=rows.shape[1], distance=distance),
            hnsw_config=qdrant.HnswIndexConfig(
                m=16, ef_construct=200, full_scan_threshold=10_000, max_indexing_threads=threads
            ),
            quantization_config=qdrant.ScalarQuantizationConfig(
                type=qdrant.ScalarType.Int8, quantile=0.99, always_ram=True
            ),
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1, indexing_threshold=100, max_segment_size=10**9
            ),
        )
        self.shard = qdrant.EdgeShard.create(str(self.folder), config)
        for name in table.columns:
            self.shard.update(qdrant.UpdateOperation.create_field_index(name, qdrant.PayloadSchemaType.Integer))
        for block in _blocks(rows, table):
            points = [qdrant.Point(i, row.tolist(), held) for i, row, held in block]
            self.shard.update(qdrant.UpdateOperation.upsert_points(points))
        while self.shard.optimize():
            pass
        self.shard.flush()

    def save(self, folder: Path) -> None:
        self.shard.close()
        shutil.move(self.folder, folder / "shard")

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        self.qdrant: Any = import_module("qdrant_edge")
        self.shard = self.qdrant.EdgeShard.load(str(folder / "shard"))

    def set(self, setting: Any) -> None:
        ef, factor = setting
        codes = self.qdrant.QuantizationSearchParams(rescore=True, oversampling=factor)
        self.parameters = self.qdrant.SearchParams(hnsw_ef=ef, quantization=codes)

    def phrase(self, predicate: Predicate) -> Any:
        qdrant = self.qdrant
        match predicate:
            case Both(parts):
                return qdrant.Filter(must=[self._clause(part) for part in parts])
            case Either(parts):
                return qdrant.Filter(should=[self._clause(part) for part in parts])
            case Never(part):
                return qdrant.Filter(must_not=[self._clause(part)])
        return qdrant.Filter(must=[self._clause(predicate)])

    def _clause(self, predicate: Predicate) -> Any:
        qdrant = self.qdrant
        match predicate:
            case Among(name, codes):
                return qdrant.FieldCondition(name, match=qdrant.MatchAny(any=list(codes)))
            case Within(name, low, high):
                return qdrant.FieldCondition(name, range=qdrant.RangeFloat(gte=float(low), lte=float(high)))
        return self.phrase(predicate)

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        nearest = self.qdrant.Query.Nearest(vector.tolist())
        wanted = self.qdrant.SearchRequest(query=nearest, limit=k, params=self.parameters, filter=phrased)
        return [point.id for point in self.shard.search(wanted)]
