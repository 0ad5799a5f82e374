"""Fewer tokens per point: near ones are replaced by their mean (token pooling).

Clavié, Chaffin, Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
Pooling" (2024): Ward's clusters on cosine similarity, as many as tokens over the factor. The first token, which stands
for the whole text in ColBERT's models, is kept as it is. Departures: a mean takes the mean length of its tokens (unit
tokens stay unit tokens), and long documents are pooled in windows, so that memory does not grow with their square.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["WINDOW", "pool_tokens"]

WINDOW: Final = 1_024  # tokens clustered together: 8 MB of distances


def pool_tokens(
    tokens: NDArray[np.float32], ends: NDArray[np.int64], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """About one token in `factor` of each point: tokens (u, dim) and ends (n,); the first of each is kept."""
    if factor <= 1:
        return tokens, ends
    parts, counts = [], []
    start = 0
    for stop in ends.tolist():
        kept = [tokens[start : start + 1]] if stop > start else []
        windows = range(start + 1, stop, WINDOW)
        kept += [_pooled(tokens[low : min(low + WINDOW, stop)], factor) for low in windows]
        parts += kept
        counts.append(sum(map(len, kept)))
        start = stop
    pooled = np.concatenate(parts) if parts else tokens[:0]
    return pooled, np.cumsum(counts, dtype=np.int64)


def _pooled(tokens: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The means of len(tokens) // factor clusters, at least one."""
    from vicinal.kernels.pooling import ward_labels

    count = max(len(tokens) // factor, 1)
    if count == len(tokens):
        return tokens
    wide = tokens.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    unit = wide / np.maximum(lengths, 1e-30)[:, None]
    squares = np.maximum(2 - 2 * (unit @ unit.T), 0)
    labels = ward_labels(squares, count)
    members = np.bincount(labels, minlength=count)
    means = np.zeros((count, tokens.shape[1]))
    np.add.at(means, labels, wide)
    wanted = np.bincount(labels, lengths, count) / members
    means *= (wanted / np.maximum(np.sqrt(np.einsum("ij,ij->i", means, means)), 1e-30))[:, None]
    return means.astype(np.float32)
