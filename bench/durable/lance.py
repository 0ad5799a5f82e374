"""LanceDB: each `add` commits a new version of the table, whose manifest is put in place last; nothing is synced."""

from __future__ import annotations

from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.durable.common import Store, measure


def start(folder: Path, dim: int) -> Store:
    """Make a table."""
    kinds = [("id", pa.uint64()), ("vector", pa.list_(pa.float32(), dim)), ("number", pa.int64()), ("title", pa.utf8())]
    schema = pa.schema(kinds)
    table = lancedb.connect(str(folder)).create_table("bench", schema=schema)

    def insert(first: int, rows: NDArray[np.float32]) -> None:
        ids = np.arange(first, first + len(rows))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), dim)
        columns = [pa.array(ids, pa.uint64()), vectors, pa.array(ids), pa.array([f"row {i}" for i in ids])]
        table.add(pa.Table.from_arrays(columns, schema=schema))

    return Store(insert)


if __name__ == "__main__":
    measure("every add: a committed version, not synced; no index", lancedb.__version__, start)
