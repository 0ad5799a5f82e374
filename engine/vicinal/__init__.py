"""vicinal: a vector search engine in Python.

    import vicinal
    db = vicinal.connect("./data")
    papers = db.create_collection("papers", dim=384)
    papers.upsert(ids, vectors, payloads)
    papers.query(vector, k=10, filter="year >= 2020")

Importing the package imports neither numba nor a web framework: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vicinal.client import connect_async
    from vicinal.collection import Collection
    from vicinal.connection import connect
    from vicinal.database import Database
    from vicinal.flat_api import BFIndex, Bitmap, Index
    from vicinal.index.functions import register_metric
    from vicinal.multivector.fde import FixedDimensionalEncoder
    from vicinal.schema import Dense, Multi
    from vicinal.types import BackupInfo, CollectionInfo, Hit, Hits, Metric, Point, VerifyReport

__all__ = [
    "BFIndex",
    "BackupInfo",
    "Bitmap",
    "Collection",
    "CollectionInfo",
    "Database",
    "Dense",
    "FixedDimensionalEncoder",
    "Hit",
    "Hits",
    "Index",
    "Metric",
    "Multi",
    "Point",
    "VerifyReport",
    "__version__",
    "connect",
    "connect_async",
    "register_metric",
]

__version__ = "0.1.0"

_HOMES = {
    "BFIndex": "vicinal.flat_api",
    "BackupInfo": "vicinal.types",
    "Bitmap": "vicinal.flat_api",
    "Collection": "vicinal.collection",
    "CollectionInfo": "vicinal.types",
    "Database": "vicinal.database",
    "Dense": "vicinal.schema",
    "FixedDimensionalEncoder": "vicinal.multivector.fde",
    "Hit": "vicinal.types",
    "Hits": "vicinal.types",
    "Index": "vicinal.flat_api",
    "Metric": "vicinal.types",
    "Multi": "vicinal.schema",
    "Point": "vicinal.types",
    "VerifyReport": "vicinal.types",
    "connect": "vicinal.connection",
    "connect_async": "vicinal.client",
    "register_metric": "vicinal.index.functions",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vicinal' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return __all__
