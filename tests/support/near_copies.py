"""Rows with near-copies, and a plain account of which rows are like which."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric

__all__ = ["apart", "near_copies"]


def near_copies(originals: int, copies: int, dim: int, noise: float, seed: int) -> NDArray[np.float32]:
    """Rows of about length 1 in families of `copies`, each `noise` from its family's centre, in random order."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((originals, dim)) / np.sqrt(dim)
    spread = rng.standard_normal((originals * copies, dim)) * (noise / np.sqrt(dim))
    rows = np.repeat(centres, copies, axis=0) + spread
    return rows[rng.permutation(len(rows))].astype(np.float32)


def apart(metric: Metric, leader: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float64]:
    """How far rows are from a leader, as parts of the tolerance's measure."""
    if metric.of_bits:
        one, many = np.unpackbits(leader) > 0, np.unpackbits(rows, axis=1) > 0
        unlike = np.asarray((one ^ many).sum(axis=1), np.float64)
        return unlike / (one.size if metric is Metric.HAMMING else np.maximum((one | many).sum(axis=1), 1))
    a, b = leader.astype(np.float64), rows.astype(np.float64)
    if metric is Metric.L1:
        return np.asarray(np.abs(a - b).sum(axis=1) / np.abs(a).sum())
    if metric is Metric.COSINE:
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b, axis=1)[:, None]
    return np.asarray(np.linalg.norm(a - b, axis=1) / np.linalg.norm(a))
