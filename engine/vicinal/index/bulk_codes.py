"""Vectors to int8 codes whose integer distances stand for the metric's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_cells import new_codes
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import rows8
from vicinal.kernels.gemm import BLOCK
from vicinal.kernels.rows8 import AS_IS, UNIT, Codes
from vicinal.types import Metric

__all__ = ["encode_rows"]

_SAMPLE = 4096
_CLIPPED = 0.99  # share of rows none of whose values is clipped


def encode_rows(vectors: NDArray[np.float32], slots: NDArray[np.int64], metric: Metric, pieces: Pieces) -> Codes:
    """Encode vectors[slots] with the mean of a sample and one scale for all dimensions.

    One in a hundred sample rows, the farthest out, do not count, so that a few outliers cost the others no resolution:
    the scale maps the largest deviation of the rest to 127. Only mean and scale are floating point, and they depend on
    the data alone.
    """
    mode = UNIT if metric is Metric.COSINE else AS_IS
    n, dim = len(slots), vectors.shape[1]
    sample = vectors[slots[:: max(1, n // _SAMPLE)]].astype(np.float32)
    if mode == UNIT:
        sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), np.float32(1e-30))
    away = ((sample - sample.mean(0)) ** 2).sum(1)
    inner = sample[away <= np.sort(away)[int(_CLIPPED * (len(sample) - 1))]]
    mean = inner.mean(0, dtype=np.float64).astype(np.float32)
    widest = np.sort(np.abs(sample - mean).max(1))[int(_CLIPPED * (len(sample) - 1))]
    scale = np.float32(127 / max(float(widest), 1e-30))
    codes = new_codes(n, -(-dim // BLOCK) * BLOCK)
    codes.rows[:, dim:] = 0
    pieces.run(n, 8192, lambda a, b: rows8.encode(vectors, slots, mean, scale, mode, 0.0, codes, a, b))
    return codes
