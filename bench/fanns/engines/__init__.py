"""One small class per engine of filtered search; each runs in a process of its own."""

from __future__ import annotations

from importlib import import_module

from bench.fanns.engines.base import Filtered

__all__ = ["ENGINES", "METHODS", "OURS", "RIVALS", "engine_class"]

OURS = {
    "vicinal": "planned:Kernel",
    "vicinal-collection": "planned:ByText",
    "vicinal-cached": "planned:Cached",
    "vicinal-churned": "planned:Churned",
}
METHODS = {
    "list": "plans:ListScan",
    "cells": "plans:CellScan",
    "sweep": "plans:Sweep",
    "acorn-1": "methods:Acorn1",
    "acorn-gamma": "methods:AcornGamma",
    "filtered-vamana": "methods:FilteredVamana",
    "stitched-vamana": "methods:StitchedVamana",
    "ung": "methods:LabelGraph",
    "serf": "methods:SegmentGraph",
    "irangegraph": "methods:RangeTree",
    "ivf2": "methods:LabelCells",
}
RIVALS = {
    "hnswlib": "callbacks:Hnswlib",
    "hnswlib-churned": "callbacks:ChurnedHnswlib",
    "kannolo-acorn-1": "callbacks:KannoloAcorn1",
    "kannolo-acorn-gamma": "callbacks:KannoloAcornGamma",
    "faiss-hnsw": "selectors:FaissHnsw",
    "faiss-hnsw-sq8": "selectors:FaissHnswSq8",
    "faiss-ivfpqfs": "selectors:FaissIvf",
    "faiss-flat": "selectors:FaissFlat",
    "numpy": "selectors:Numpy",
    "turbovec": "selectors:Turbovec",
    "zvec": "databases:Zvec",
    "qdrant-edge": "databases:QdrantEdge",
    "pgvector": "postgres:Pgvector",
}
ENGINES = {**OURS, **METHODS, **RIVALS}


def engine_class(name: str) -> type[Filtered]:
    """The engine of that name; its package is imported here and nowhere else."""
    module, _, cls = ENGINES[name].partition(":")
    made: type[Filtered] = getattr(import_module(f"bench.fanns.engines.{module}"), cls)
    return made
