"""Engines for token matrices, each run in a fresh process by `bench.multi.worker`."""

from __future__ import annotations

from importlib import import_module

from bench.multi.base import MultiEngine

__all__ = ["ENGINES", "OURS", "RIVALS", "make"]

OURS = {
    "vicinal": "ours:Centroids",
    "vicinal-bit": "ours:Bits",
    "vicinal-pooled": "ours:Pooled",
    "vicinal-fde-32": "ours:Fde32",
    "vicinal-fde-8": "ours:Fde8",
    "vicinal-fde-4": "ours:Fde4",
    "vicinal-fde-1": "ours:Fde1",
    "vicinal-lemur": "ours:Lemur",
    "vicinal-exact": "ours:Exact",
}
RIVALS = {
    "muvera-hnswlib": "muvera:MuveraHnswlib",
    "fast-plaid": "plaid:FastPlaid",
    "numpy-exact": "brute:Numpy",
}
ENGINES = OURS | RIVALS


def make(name: str) -> MultiEngine:
    """The engine of that name; its package is imported here and nowhere else."""
    module, _, cls = ENGINES[name].partition(":")
    made: MultiEngine = getattr(import_module(f"bench.multi.{module}"), cls)()
    return made
