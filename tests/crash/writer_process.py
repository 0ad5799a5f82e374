"""A process that writes to a database and says what was acknowledged, until it is killed.

Standard output has one JSON line per acknowledged operation; what is written there after the kill is lost, and so is
the operation's claim to have been acknowledged.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from vicinal.database import Database

DIM = 16


def vector_of(point: int, version: int) -> list[float]:
    """The vector that version `version` of a point has: both numbers can be read back from it."""
    return [float(point), float(version), *([1.0] * (DIM - 2))]


def tokens_of(point: int, version: int) -> list[list[float]]:
    """One to four tokens from which both numbers can be read back."""
    return [[float(point), float(version), float(row), *([1.0] * (DIM - 3))] for row in range(version % 4 + 1)]


FIELDS = {
    "dense": {"kind": "dense", "dim": DIM, "metric": "l2", "M": 8, "ef_construction": 32},
    "multi": {"kind": "multi", "dim": DIM, "pooling": 2, "originals": True},
}
MADE = {"dense": vector_of, "multi": tokens_of}


def main() -> None:
    """Write batches for ever: new points, new versions of old ones, and deletes."""
    directory, seed, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    rng = np.random.default_rng(seed)
    if kind == "multi":  # what it compiles or loads would take the time before the kill
        with Database(":memory:") as other:
            other.create_collection("c", vectors={"v": FIELDS[kind]}).upsert([0], {"v": [tokens_of(0, 3)]})
    with Database(directory) as database:
        if "c" not in database.list_collections():
            database.create_collection("c", vectors={"v": FIELDS[kind]})
        collection = database.collection("c")
        version = int(seed) * 1_000_000
        print(json.dumps({"open": collection.info().seq}), flush=True)
        while True:
            version += 1
            points = [int(p) for p in rng.choice(2000, int(rng.integers(1, 40)), replace=False)]
            deletes = rng.random() < 0.25
            print(json.dumps({"begin": version, "points": points, "delete": deletes}), flush=True)
            if deletes:
                collection.delete(points)
            else:
                vectors = [MADE[kind](p, version % 1_000_000) for p in points]
                collection.upsert(points, {"v": vectors}, [{"version": version}] * len(points))
            print(json.dumps({"done": version}), flush=True)


if __name__ == "__main__":
    main()
