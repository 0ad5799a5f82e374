"""Rows of every dtype, and their distances in plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric, Rows

__all__ = ["PAIRS", "distances", "rows_of", "some_rows", "stored_rows"]

# every (dtype, metric) that a field may have
PAIRS = [
    *((dtype, m) for dtype in ("float32", "float16", "int8", "uint8") for m in (Metric.L2, Metric.DOT, Metric.COSINE)),
    ("bit", Metric.HAMMING),
    ("bit", Metric.JACCARD),
]


def some_rows(dtype: str, n: int, dim: int, seed: int = 0) -> NDArray[Any]:
    """What a user may send: (n, dim) in clusters, of bools for bits; the whole range of int8 and uint8 occurs."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(dim).standard_normal((24, dim))  # the same for every seed: queries lie among rows
    real = middles[rng.integers(0, 24, n)] + 0.5 * rng.standard_normal((n, dim))
    if dtype == "bit":
        return np.asarray(real > 0)
    if dtype == "int8":
        return np.asarray(np.clip(np.rint(real * 45), -128, 127), np.int8)
    if dtype == "uint8":
        return np.asarray(np.clip(np.rint(real * 45 + 128), 0, 255), np.uint8)
    return real.astype(dtype)


def stored_rows(dtype: str, rows: NDArray[Any]) -> NDArray[Any]:
    """The rows as a field keeps them."""
    return np.packbits(rows, axis=1) if dtype == "bit" else rows


def rows_of(metric: Metric, stored: NDArray[Any]) -> Rows:
    """What kernels take; a row of zeros has an inverse norm of 0."""
    norms = np.empty(0, np.float32)
    if metric is Metric.COSINE:
        lengths = np.linalg.norm(stored.astype(np.float64), axis=1)
        norms = np.divide(1, lengths, out=np.zeros(len(stored)), where=lengths > 0).astype(np.float32)
    return Rows(stored, norms)


def distances(metric: Metric, rows: NDArray[Any], query: NDArray[Any]) -> NDArray[np.float64]:
    """Distances of rows as sent (bools for bits), in float64."""
    if metric.of_bits:
        either, both = (rows | query).sum(1), (rows & query).sum(1)
        if metric is Metric.HAMMING:
            return (either - both).astype(np.float64)
        return np.where(either == 0, 0.0, 1 - both / np.maximum(either, 1))
    x, q = rows.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(((x - q) ** 2).sum(1))
    inner = x @ q
    return -inner if metric is Metric.DOT else 1 - inner / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
