"""A collection of ours: each upsert is synced and committed when it returns; the graph is built meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vicinal
from bench.durable.common import Store, measure


def start(folder: Path, dim: int) -> Store:
    """Make a database."""
    database = vicinal.Database(folder)
    collection = database.create_collection("bench", dim=dim, metric="l2")

    def insert(first: int, rows: NDArray[np.float32]) -> None:
        ids = range(first, first + len(rows))
        collection.upsert(ids, rows, [{"number": i, "title": f"row {i}"} for i in ids])

    return Store(insert, collection.flush, database.close)


if __name__ == "__main__":
    measure("every upsert: fdatasync of rows, SQLite synchronous=FULL", vicinal.__version__, start)
