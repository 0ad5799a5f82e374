"""One small class per engine, each run in a fresh process by `bench.worker`.

An engine that needs other versions than ours runs under another interpreter: the environment variable
`VICINAL_BENCH_PYTHON_<NAME>` (upper case, `-` as `_`) names it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from bench.rivals.base import Rival

__all__ = ["FOREIGN", "OURS", "RIVALS", "interpreter", "make"]

OURS = (
    "vicinal",
    "vicinal-mapped",
    "vicinal-index",
    "vicinal-hnsw",
    "vicinal-collection",
    "vicinal-opened",
    "vicinal-links",
    "vicinal-cells",
    "vicinal-cells-mapped",
)

RIVALS = {
    "vicinal": "vicinal_coded:Coded",
    "vicinal-mapped": "vicinal_coded:Mapped",
    "vicinal-index": "vicinal_index:FlatIndex",
    "vicinal-hnsw": "vicinal_hnsw:Hnsw",
    "vicinal-links": "vicinal_links:LinksOnFloats",
    "vicinal-collection": "vicinal_collection:InMemory",
    "vicinal-opened": "vicinal_collection:Opened",
    "vicinal-cells": "vicinal_cells:Cells",
    "vicinal-cells-mapped": "vicinal_cells:MappedCells",
    "hnswlib": "hnswlib:Hnswlib",
    "faiss": "faiss:HnswFlat",  # its plain HNSW under its short name too
    "faiss-hnsw": "faiss:HnswFlat",
    "faiss-hnsw-sq8": "faiss:HnswSq8",
    "faiss-ivfpqfs": "faiss:IvfPqFastScan",
    "usearch": "usearch:Usearch",
    "voyager": "voyager:Voyager",
    "symqg": "rabitqlib:SymphonyQG",
    "lorann": "lorann:Lorann",
    "pyvsag": "pyvsag:Vsag",
    "kannolo": "kannolo:Kannolo",
    "kannolo-rabitq": "kannolo:KannoloRabitq",
    "scann": "scann:Scann",
    "pyglass": "pyglass:Glass",
    "zvec": "zvec:Zvec",
    "svs": "svs:VamanaFloat",
    "svs-lvq": "svs:VamanaLvq",
    "svs-leanvec": "svs:VamanaLeanVec",
    "ngt": "ngt:Ngt",
    "pynndescent": "pynndescent:PyNNDescent",
    "qdrant-edge": "qdrant_edge:QdrantEdge",
}

FOREIGN = tuple(name for name in RIVALS if name not in (*OURS, "faiss"))


def interpreter(name: str) -> str:
    """The Python that runs an engine's worker."""
    return os.environ.get(f"VICINAL_BENCH_PYTHON_{name.upper().replace('-', '_')}", sys.executable)


def make(name: str) -> Rival:
    """The engine of that name; its package is imported here and nowhere else."""
    module, _, cls = RIVALS[name].partition(":")
    made: Rival = getattr(import_module(f"bench.rivals.{module}"), cls)()
    return made
