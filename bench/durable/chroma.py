"""Chroma's persistent client: each `add` is a transaction of its SQLite log; its graph is kept up in the same call."""

from __future__ import annotations

from pathlib import Path

import chromadb
import numpy as np
from numpy.typing import NDArray

from bench.durable.common import Store, measure


def start(folder: Path, _: int) -> Store:
    """Make a collection."""
    settings = chromadb.Settings(anonymized_telemetry=False)
    collection = chromadb.PersistentClient(str(folder), settings).create_collection("bench", embedding_function=None)

    def insert(first: int, rows: NDArray[np.float32]) -> None:
        numbers = range(first, first + len(rows))
        payloads = [{"number": i, "title": f"row {i}"} for i in numbers]
        collection.add(ids=[str(i) for i in numbers], embeddings=rows, metadatas=payloads)

    return Store(insert)


if __name__ == "__main__":
    measure("every add: a transaction of its SQLite log", chromadb.__version__, start)
