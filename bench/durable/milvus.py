"""Milvus Lite: each `insert` is followed by `flush`, without which nothing is promised."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from bench.durable.common import Store, measure


def start(folder: Path, dim: int) -> Store:
    """Make a collection."""
    folder.mkdir()
    client = MilvusClient(str(folder / "milvus.db"))
    client.create_collection("bench", dimension=dim, metric_type="L2")

    def insert(first: int, rows: NDArray[np.float32]) -> None:
        points = [
            {"id": i, "vector": row, "number": i, "title": f"row {i}"}
            for i, row in enumerate(rows.tolist(), start=first)
        ]
        client.insert("bench", points)
        client.flush("bench")

    return Store(insert, close=client.close)


if __name__ == "__main__":
    measure("every insert followed by flush", version("milvus-lite"), start)
