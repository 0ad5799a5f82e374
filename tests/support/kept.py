"""A collection with every kind of field, and all that it holds in a form that compares."""

from __future__ import annotations

from typing import Any

import numpy as np

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.schema import Dense, Multi
from vicinal.types import Metric

__all__ = ["FIELDS", "everything", "filled", "vectors_of"]

FIELDS: dict[str, Any] = {
    "cosine": Dense(5, Metric.COSINE),
    "half": Dense(4, Metric.L2, dtype="float16"),
    "bytes": Dense(3, Metric.DOT, dtype="int8"),
    "counts": Dense(3, Metric.L2, dtype="uint8"),
    "bits": Dense(16, Metric.HAMMING, dtype="bit"),
    "leading": Dense(8, Metric.COSINE, search_dims=4),
    "tokens": Multi(4),
    "floats": Multi(4, store="float32"),
    "halves": Multi(4, store="float16", pooling=2),
    "signs": Multi(16, store="bit", pooling=2, originals=True),
}


def vectors_of(name: str, n: int, rng: np.random.Generator) -> Any:
    """What n points may have in a field."""
    spec = FIELDS[name]
    if isinstance(spec, Multi):
        return [rng.standard_normal((int(t), spec.dim)) for t in rng.integers(1, 5, n)]
    if spec.dtype == "bit":
        return rng.integers(0, 256, (n, spec.columns)).astype(np.uint8)
    if spec.dtype in ("int8", "uint8"):
        return rng.integers(0, 100, (n, spec.dim)).astype(spec.dtype)
    return rng.standard_normal((n, spec.dim)).astype(spec.dtype)


def filled(database: Database, name: str = "c", seed: int = 5) -> Collection:
    """Points of which each has some of the fields, with deaths, second versions and changed payloads."""
    rng = np.random.default_rng(seed)
    collection = database.create_collection(name, vectors=dict(FIELDS))
    for first in range(0, 60, 10):
        names = rng.choice(list(FIELDS), int(rng.integers(1, len(FIELDS))), replace=False).tolist()
        ids = [f"text {i}" if i % 3 == 0 else i for i in range(first, first + 10)]
        payloads = [{"n": i} if i % 2 else None for i in range(10)]
        collection.upsert(ids, {each: vectors_of(each, 10, rng) for each in names}, payloads)
    collection.delete([1, 2, "text 3", 59])
    collection.upsert(["text 0", 4], {"cosine": vectors_of("cosine", 2, rng)}, [{"again": 1}, None])
    collection.set_payload({"late": True}, [5, "text 6"])
    return collection


def everything(collection: Collection) -> list[Any]:
    """All points by id: payloads, and vectors as bytes."""
    points, rest = collection.scroll(limit=10_000, with_vectors=True)
    assert rest is None
    plain = []
    for p in points:
        named = p.vector if isinstance(p.vector, dict) else {"": p.vector}
        plain.append((p.id, p.payload, {name: np.asarray(v).tobytes() for name, v in sorted(named.items())}))
    return plain
