"""One small class per engine, each run in a fresh process by `bench.worker`."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["RIVALS", "Rival", "make"]


class Rival(Protocol):
    """An engine under test. `settings` is its sweep from fast to accurate."""

    settings: list[Any]

    def build(self, base: NDArray[np.float32], metric: str, threads: int) -> None:
        """Index all rows; ids are row numbers."""

    def set(self, setting: Any) -> None:
        """Take one setting of the sweep."""

    def query(self, vector: NDArray[np.float32], k: int) -> Any:
        """Answer one query with one thread: ids, nearest first."""


RIVALS = {
    "vicinal": "bench.rivals.vicinal_graph:Graph",
    "vicinal-collection": "bench.rivals.vicinal_collection:InMemory",
    "hnswlib": "bench.rivals.hnswlib_rival:Hnswlib",
    "faiss": "bench.rivals.faiss_rival:Faiss",
    "usearch": "bench.rivals.usearch_rival:Usearch",
}


def make(name: str) -> Rival:
    """The engine of that name; its package is imported here and nowhere else."""
    module, _, cls = RIVALS[name].partition(":")
    made: Rival = getattr(import_module(module), cls)()
    return made
