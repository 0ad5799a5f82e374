"""What every engine under test offers, and what several of them need."""

# ruff: noqa: ARG002 - the defaults refuse whatever they are given

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["EF", "Floats", "Rival", "Unsupported", "cluster_count", "padded", "unit"]

Floats = NDArray[np.float32]

EF = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640, 900)


class Unsupported(RuntimeError):
    """The engine cannot do this; the suite leaves the figure out."""


class Rival:
    """An engine under test: build or open, then `set` a setting and `query`. Ids are row numbers.

    `settings` is its sweep from fast to accurate; `package` the distribution whose version is recorded.
    """

    package: ClassVar[str] = ""
    settings: ClassVar[tuple[Any, ...]] = EF

    def build(self, base: Floats, metric: str, threads: int) -> None:
        """Index all rows (n, d); under cosine they have unit length already."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the built index into an empty folder, so that another process can open it."""
        raise Unsupported("cannot be saved")

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        """Read a saved index; `base` is there for engines that keep no vectors of their own."""
        raise Unsupported("cannot be opened")

    def prepare(self, queries: Floats) -> Floats:
        """Give queries the form that the engine wants, outside the clock."""
        return queries

    def set(self, setting: Any) -> None:
        """Take one setting of the sweep."""
        self.setting = setting

    def query(self, vector: Floats, k: int) -> Any:
        """Answer one query with one thread: ids, nearest first."""
        raise NotImplementedError

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        """Answer many queries by the engine's own batch call: ids, one row per query."""
        raise Unsupported("has no batch call")

    def distances(self) -> float:
        """Rows that the last query was compared with, where the engine counts."""
        raise Unsupported("does not count distances")


def unit(base: Floats, metric: str) -> tuple[Floats, str]:
    """Rows and the metric to give to an engine: cosine as the inner product of unit rows, which is faster."""
    if metric != "cosine":
        return np.ascontiguousarray(base, np.float32), {"l2": "l2", "dot": "ip"}[metric]
    return np.ascontiguousarray(base / np.linalg.norm(base, axis=1, keepdims=True), np.float32), "ip"


def padded(vectors: Floats, least: int) -> Floats:
    """Vectors with zeros appended up to `least` dimensions; distances stay what they were."""
    missing = least - vectors.shape[-1]
    if missing <= 0:
        return vectors
    return np.pad(vectors, ((0, 0), (0, missing)))


def cluster_count(n: int) -> int:
    """Clusters for engines that want the number: about the square root of n, a power of two."""
    return 256 if n < 80_000 else 512 if n < 250_000 else 1024
