"""Vectors to test with, and the slow, certain answers in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric, Rows

__all__ = ["EARTH_KM", "FLOAT_METRICS", "METRICS", "clustered", "nearest", "recall", "rows_of", "true_distances"]

METRICS = [Metric.COSINE, Metric.DOT, Metric.L2]  # of real numbers, walked on codes when there are many
FLOAT_METRICS = [*METRICS, Metric.L1]  # of any dimension, walked on floats
EARTH_KM = 6371.0088
Floats = NDArray[np.float32]


def rows_of(metric: Metric, vectors: Floats) -> Rows:
    """Rows as the engine holds them."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0).astype(np.float32)
    return Rows(np.ascontiguousarray(vectors), inverse if metric is Metric.COSINE else np.empty(0, np.float32))


def clustered(n: int, dim: int, seed: int, clusters: int = 20) -> Floats:
    """Rows around a few centres: nearer to real embeddings than one cloud."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dim))
    return (centres[rng.integers(0, clusters, n)] + 0.4 * rng.standard_normal((n, dim))).astype(np.float32)


def true_distances(metric: Metric, vectors: Floats, query: Floats) -> NDArray[np.float64]:
    """Internal distances (smaller is nearer) of all rows."""
    x, q = vectors.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(((x - q) ** 2).sum(axis=1))
    if metric is Metric.L1:
        return np.asarray(np.abs(x - q).sum(axis=1))
    if metric is Metric.HAVERSINE:
        return _great_circle(x, q)
    dots = np.asarray(x @ q)
    if metric is Metric.DOT:
        return -dots
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
    return np.asarray(1 - np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0))


def _great_circle(x: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kilometres along the sphere, from the angle between directions: another formula than the engine's."""

    def direction(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
        latitude, longitude = np.radians(degrees[..., 0]), np.radians(degrees[..., 1])
        flat = np.cos(latitude)
        return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=-1)

    u, v = direction(x), direction(q)
    return np.asarray(EARTH_KM * np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), u @ v))


def nearest(
    metric: Metric, vectors: Floats, query: Floats, k: int, among: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """The k nearest slots (of `among`) and their distances, ties by slot."""
    slots = np.arange(len(vectors)) if among is None else among
    distances = true_distances(metric, vectors, query)[slots]
    order = np.lexsort((slots, distances))[:k]
    return slots[order], distances[order]


def recall(found: NDArray[np.integer], expected: NDArray[np.integer]) -> float:
    """Share of the expected slots that were found."""
    return len(np.intersect1d(found, expected)) / max(len(expected), 1)
