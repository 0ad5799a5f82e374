"""Answers of the engine as trees for the codec; arrays stay arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Hits, Point
from vicinal_server.native.codec import Ragged

__all__ = ["batch_tree", "hits_tree", "point_tree"]


def point_tree(point: Point) -> dict[str, Any]:
    """{"id", "payload", "vector"?}."""
    tree: dict[str, Any] = {"id": point.id, "payload": point.payload}
    if point.vector is not None:
        tree["vector"] = point.vector
    return tree


def hits_tree(hits: Hits, seconds: float) -> dict[str, Any]:
    """{"hits", "complete", "explain"?, "seconds"}."""
    rows = []
    for number, hit in enumerate(hits):
        row: dict[str, Any] = {"id": hit.id, "score": float(hit.score)}
        if hit.payload is not None:
            row["payload"] = hit.payload
        if hit.vector is not None:
            row["vector"] = hit.vector
        if hits.token_scores is not None:
            row["token_scores"] = hits.token_scores[number]
        rows.append(row)
    tree: dict[str, Any] = {"hits": rows, "complete": hits.complete, "seconds": seconds}
    if hits.explain is not None:
        tree["explain"] = dict(hits.explain)
    return tree


def batch_tree(ids: NDArray[Any], scores: NDArray[Any], counts: NDArray[Any], seconds: float) -> dict[str, Any]:
    """{"ids", "scores", "counts", "seconds"} from (n, k), (n, k), (n,)."""
    known = np.asarray(counts)
    return {
        "ids": Ragged(ids, known),
        "scores": Ragged(scores, known),
        "counts": known.tolist(),
        "seconds": seconds,
    }
