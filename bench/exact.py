"""Exact nearest rows by blocked matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["distances", "nearest"]

_QUERIES = 100  # at a time: 100 x n scores
_SPARE = 20  # candidates beyond the depth, ranked again in float64


def nearest(base: NDArray[np.float32], queries: NDArray[np.float32], metric: str, depth: int) -> NDArray[np.int64]:
    """Rows nearest to each query, nearest first: (m, depth). Single precision chooses, double precision ranks."""
    squares = np.einsum("ij,ij->i", base, base, dtype=np.float32) if metric == "l2" else None
    depth = min(depth, len(base))
    wide = min(depth + _SPARE, len(base))
    found = np.empty((len(queries), depth), np.int64)
    for first in range(0, len(queries), _QUERIES):
        block = queries[first : first + _QUERIES]
        scores = block @ base.T
        scores *= -1 if squares is None else -2
        if squares is not None:
            scores += squares
        near = np.argpartition(scores, wide - 1, axis=1)[:, :wide]
        for i, rows in enumerate(near):
            order = np.argsort(distances(base[rows], block[i], metric), kind="stable")
            found[first + i] = rows[order[:depth]]
    return found


def distances(rows: NDArray[np.float32], query: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """Exact distances of one query to rows, in double precision: squared Euclid, or 1 - the inner product."""
    wide, asked = rows.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        squares: NDArray[np.float64] = ((wide - asked) ** 2).sum(axis=1)
        return squares
    products: NDArray[np.float64] = 1 - wide @ asked
    return products
