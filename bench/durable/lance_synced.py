"""LanceDB made durable from outside: after each `add` every new file and every folder is synced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import lancedb
import numpy as np
from numpy.typing import NDArray

from bench.durable import lance
from bench.durable.common import Insert, measure


def start(folder: Path, dim: int) -> tuple[Insert, Callable[[], None]]:
    """Make a table."""
    insert, close = lance.start(folder, dim)
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

    return insert_synced, close


if __name__ == "__main__":
    measure(
        "every add: a committed version; this suite syncs its files and folders; no index", lancedb.__version__, start
    )
