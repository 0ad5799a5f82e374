"""Processes that write to a database and say what was acknowledged, until they are killed.

They are children of one that has imported and compiled everything, so that a thousand take minutes. Standard output has
one JSON line per acknowledged operation; what is written there after the kill is lost, and so is the operation's claim
to have been acknowledged.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

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
COMPACTIONS, DELETES = 0.06, 0.3  # shares of what is done: the first, and both together
MADE = {"dense": vector_of, "multi": tokens_of}


def fields_of(kind: str) -> dict[str, Any]:
    """Fields "v", which every point has, and "unused", which none has: its files stay empty."""
    return {"v": FIELDS[kind], "unused": FIELDS["multi"]}


def tell(**entry: object) -> None:
    """One line, in one piece: parent and child write to the same pipe."""
    os.write(1, (json.dumps(entry) + "\n").encode())


def write_for_ever(directory: str, seed: int, kind: str) -> None:
    """Write batches: new points, new versions of old ones, and deletes; compact, close and open now and then."""
    rng = np.random.default_rng(seed)
    version = seed * 1_000_000
    while True:
        with Database(directory) as database:
            if "c" not in database.list_collections():
                database.create_collection("c", vectors=fields_of(kind))
            collection = database.collection("c")
            tell(open=collection.info().seq)
            for choice in rng.random(int(rng.integers(10, 80))).tolist():
                version += 1
                points = [int(p) for p in rng.choice(2000, int(rng.integers(1, 40)), replace=False)]
                if choice < COMPACTIONS:
                    points = []
                tell(begin=version, points=points, delete=choice < DELETES)
                if choice < COMPACTIONS:
                    collection.compact()
                elif choice < DELETES:
                    collection.delete(points)
                else:
                    vectors = [MADE[kind](p, version % 1_000_000) for p in points]
                    collection.upsert(points, {"v": vectors}, [{"version": version}] * len(points))
                tell(done=version)


def recover_for_ever(directory: str) -> None:
    """Open what a kill left, close it, and again."""
    while True:
        with Database(directory) as database:
            tell(open=database.collection("c").info().seq)


def main() -> None:
    """For each seed on standard input a child that writes until it is killed; tell its id, then how it ended.

    A seed of 0 only opens and closes.
    """
    directory, kind = sys.argv[1:]
    with Database(":memory:") as other:  # what is compiled or loaded here no child need do
        warmed = other.create_collection("c", vectors=fields_of(kind))
        warmed.upsert([0, 1], {"v": [MADE[kind](0, 3), MADE[kind](1, 3)]})
        warmed.delete([0])
        warmed.compact()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                if int(line):
                    write_for_ever(directory, int(line), kind)
                recover_for_ever(directory)
            finally:
                os._exit(1)
        tell(child=child)
        tell(ended=os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
