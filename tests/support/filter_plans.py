"""A collection whose filtered queries are planned, and masks that a planner must not fall for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.kernels.bitset import slots_to_bits
from vicinal.planner import Target
from vicinal.types import Metric
from vicinal.view import View

__all__ = [
    "CENTRES",
    "CLUSTER",
    "DIM",
    "HEART",
    "NUMBER",
    "QUERIES",
    "VECTORS",
    "N",
    "distances_of",
    "far_clusters",
    "fill",
    "hits_of",
    "near_mask",
    "random_mask",
    "target_of",
    "view_of",
    "without_near",
]  # fmt: skip

N, DIM, CENTRES = 20_000, 48, 60
_RNG = np.random.default_rng(3)
HEART = _RNG.standard_normal((CENTRES, DIM)) * 1.2
CLUSTER = _RNG.integers(0, CENTRES, N)
VECTORS = (HEART[CLUSTER] + _RNG.standard_normal((N, DIM))).astype(np.float32)
VECTORS[100:140] = VECTORS[100]  # copies
_OF_QUERY = _RNG.integers(0, CENTRES, 60)
QUERIES = (HEART[_OF_QUERY] + _RNG.standard_normal((60, DIM))).astype(np.float32)
NUMBER = _RNG.permutation(N)


def fill(database: Database) -> Collection:
    """Points with a number, a cluster and two labels of 20 %, all in the graph."""
    collection = database.create_collection("c", dim=DIM, metric="l2")
    payloads = [
        {"n": int(NUMBER[i]), "c": int(CLUSTER[i]), "a": int(NUMBER[i]) % 5, "b": int(NUMBER[i]) // 5 % 5}
        for i in range(N)
    ]
    collection.upsert(np.arange(N), VECTORS, payloads)
    assert collection.flush(300)
    assert view_of(collection).fields[""].graph.filtered is not None  # type: ignore[union-attr]
    return collection


def view_of(collection: Collection) -> View:
    """Its newest picture."""
    return collection._view


def target_of(collection: Collection, mask: NDArray[np.bool_]) -> Target:
    """The collection as a query under the mask sees it."""
    view = view_of(collection)
    field: Any = view.fields[""]
    return Target(
        Metric.L2, field.rows, field.graph, field.indexed, view.n, slots_to_bits(np.flatnonzero(mask), N), True
    )


def distances_of(query: NDArray[np.float32]) -> NDArray[np.float64]:
    """True squared distances of all rows; not to be written to."""
    return _distances(query.tobytes())


@lru_cache(maxsize=100)
def _distances(query: bytes) -> NDArray[np.float64]:
    found: NDArray[np.float64] = ((VECTORS.astype(np.float64) - np.frombuffer(query, np.float32)) ** 2).sum(1)
    return found


def hits_of(found: Any, mask: NDArray[np.bool_], query: NDArray[np.float32], k: int) -> float:
    """The share of the nearest that was found; whatever was found is right in itself."""
    slots, distances = found
    wanted = min(k, int(mask.sum()))
    assert len(slots) == len(set(slots.tolist())) == wanted
    assert mask[slots].all()
    true = distances_of(query)
    np.testing.assert_allclose(distances, true[slots], rtol=1e-4)
    assert (np.diff(distances) >= 0).all()
    last = np.sort(true[mask])[wanted - 1] if wanted else 0.0
    return float((true[slots] <= last * (1 + 1e-6)).mean()) if wanted else 1.0


def random_mask(share: float, seed: int = 1) -> NDArray[np.bool_]:
    """A share of rows that goes with nothing."""
    mask = np.zeros(N, np.bool_)
    mask[np.random.default_rng(seed).permutation(N)[: max(int(share * N), 1)]] = True
    return mask


def near_mask(query: NDArray[np.float32], share: float, *, far: bool) -> NDArray[np.bool_]:
    """The nearest, or the farthest, share of rows, of which half were thrown out at random."""
    order = np.argsort(distances_of(query))
    mask = np.zeros(N, np.bool_)
    count = min(max(int(2 * share * N), 2), N)
    mask[order[-count:] if far else order[:count]] = True
    return mask & (random_mask(0.5, 9) if share < 0.5 else random_mask(share, 9))


def without_near(query: NDArray[np.float32]) -> NDArray[np.bool_]:
    """All rows but the query's near field."""
    mask = np.ones(N, np.bool_)
    mask[np.argsort(distances_of(query))[: N // 50]] = False
    return mask


def far_clusters(query: NDArray[np.float32], count: int = 3) -> NDArray[np.bool_]:
    """The rows of the farthest clusters."""
    return np.isin(CLUSTER, np.argsort(((HEART - query) ** 2).sum(1))[-count:])
