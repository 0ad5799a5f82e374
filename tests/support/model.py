"""A collection as a dict and numpy: the oracle of the stateful tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.support.vectors_oracle import true_distances

from vicinal.types import Metric, PointId

__all__ = ["ModelCollection", "maxsim"]


def maxsim(query: NDArray[np.float32], tokens: NDArray[np.float32]) -> float:
    """Sum over query tokens of the largest dot product with a token."""
    return float((query.astype(np.float64) @ tokens.astype(np.float64).T).max(1).sum())


@dataclass
class ModelCollection:
    """Points in insertion order of their ids; every answer is computed afresh."""

    metric: Metric
    points: dict[PointId, tuple[NDArray[np.float32], dict[str, Any] | None]] = field(default_factory=dict)

    def upsert(self, ids: list[PointId], vectors: NDArray[np.float32], payloads: list[dict[str, Any] | None]) -> None:
        for i, vector, payload in zip(ids, vectors, payloads, strict=True):
            self.points[i] = (vector, payload)

    def delete(self, ids: list[PointId]) -> int:
        return sum(self.points.pop(i, None) is not None for i in dict.fromkeys(ids))

    def rewrite(self, ids: list[PointId], new: dict[str, Any], gone: list[str]) -> int:
        known = [i for i in dict.fromkeys(ids) if i in self.points]
        for i in known:
            vector, old = self.points[i]
            if old is not None or new:
                self.points[i] = (vector, {k: v for k, v in {**(old or {}), **new}.items() if k not in gone})
        return len(known)

    def nearest(self, query: NDArray[np.float32], keep: list[PointId] | None = None) -> dict[PointId, float]:
        """Distance of every point (of `keep`) by id."""
        ids = list(self.points) if keep is None else keep
        if not ids:
            return {}
        rows = np.array([self.points[i][0] for i in ids], np.float32)
        return dict(zip(ids, true_distances(self.metric, rows, query).tolist(), strict=True))
