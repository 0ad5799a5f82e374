"""LanceDB made durable from outside: after each `add` every new file and every folder is synced."""

from __future__ import annotations

import os
from pathlib import Path

import lancedb
import numpy as np
from numpy.typing import NDArray

from bench.durable import lance
from bench.durable.common import Store, measure


def start(folder: Path, dim: int) -> Store:
    """Make a table."""
    insert = lance.start(folder, dim).insert
    known: set[Path] = set()

    def insert_synced(first: int, rows: NDArray[np.float32]) -> None:
        insert(first, rows)
        places = [folder, *folder.rglob("*")]
        for place in places:
            if place.is_dir() or place not in known:
                fd = os.open(place, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
        known.update(places)

    return Store(insert_synced)


if __name__ == "__main__":
    measure(
        "every add: a committed version; this suite syncs its files and folders; no index", lancedb.__version__, start
    )
