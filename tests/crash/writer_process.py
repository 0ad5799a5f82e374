"""Processes that write to a database and say what was acknowledged, until they are killed.

They are children of one that has imported and compiled everything, so that a thousand take minutes. Standard output has
one JSON line per acknowledged operation; what is written there after the kill is lost, and so is the operation's claim
to have been acknowledged.
"""

from __future__ import annotations

import json
import os
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


def tell(**entry: object) -> None:
    """One line, in one piece: parent and child write to the same pipe."""
    os.write(1, (json.dumps(entry) + "\n").encode())


def write_for_ever(directory: str, seed: int, kind: str) -> None:
    """Write batches: new points, new versions of old ones, and deletes."""
    rng = np.random.default_rng(seed)
    with Database(directory) as database:
        if "c" not in database.list_collections():
            database.create_collection("c", vectors={"v": FIELDS[kind]})
        collection = database.collection("c")
        version = int(seed) * 1_000_000
        tell(open=collection.info().seq)
        while True:
            version += 1
            points = [int(p) for p in rng.choice(2000, int(rng.integers(1, 40)), replace=False)]
            deletes = rng.random() < 0.25
            tell(begin=version, points=points, delete=deletes)
            if deletes:
                collection.delete(points)
            else:
                vectors = [MADE[kind](p, version % 1_000_000) for p in points]
                collection.upsert(points, {"v": vectors}, [{"version": version}] * len(points))
            tell(done=version)


def main() -> None:
    """For each seed on standard input a child that writes until it is killed; tell its id, then how it ended."""
    directory, kind = sys.argv[1:]
    with Database(":memory:") as other:  # what is compiled or loaded here no child need do
        other.create_collection("c", vectors={"v": FIELDS[kind]}).upsert([0], {"v": [MADE[kind](0, 3)]})
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(directory, int(line), kind)
            finally:
                os._exit(1)
        tell(child=child)
        tell(ended=os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
