"""Snapshots with right checksums and wrong content: the collection opens, and builds again what it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vicinal.database import Database
from vicinal.index.hnsw import HnswIndex
from vicinal.storage import snapshots
from vicinal.storage.files import Files
from vicinal.types import HnswParams, Metric

N = 3000
ROWS = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)


def made(root: Path) -> Path:
    """A collection with a graph of several levels; gives its snapshot."""
    with Database(root) as database:
        collection = database.create_collection("c", dim=8, metric="l2")
        collection.upsert(range(N), ROWS)
        assert collection.flush(60)
    (path,) = root.rglob("*.snapshot")
    return path


def put(path: Path, body: bytes) -> None:
    path.unlink()
    snapshots.publish(Files(), path.parent, path.name.removesuffix(".snapshot"), [body])


def finds_all(root: Path) -> None:
    with Database(root) as database:
        collection = database.collection("c")
        for _ in range(2):  # before and after it is built again
            assert [collection.query(ROWS[i], 1)[0].id for i in range(0, N, 100)] == list(range(0, N, 100))
            assert collection.flush(60)
        assert collection.verify().ok


def test_an_upper_link_to_a_copy(tmp_path: Path) -> None:
    path = made(tmp_path / "db")
    body = bytes(snapshots.load(Files(), path))
    index = HnswIndex.decode(body, Metric.L2, 8, HnswParams(), N)
    upper = index.picture().arrays.upper
    row = np.argwhere(upper[:, 0] != 0xFFFFFFFF)[0][0]
    upper[row, 0] |= np.uint32(1 << 31)
    put(path, index.encode())
    finds_all(tmp_path / "db")
