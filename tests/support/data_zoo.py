"""Many kinds of data, made from seeds: what codes must stand, beside what embeddings look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric, Rows

__all__ = ["KINDS", "make", "rows_of"]

Floats = NDArray[np.float64]
Rng = np.random.Generator


def _gaussian(rng: Rng, n: int, dim: int) -> Floats:
    return rng.standard_normal((n, dim))


def _low_rank(rng: Rng, n: int, dim: int) -> Floats:
    rank = max(1, dim // 12)
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, dim)) + 0.02 * rng.standard_normal((n, dim))


def _decaying(rng: Rng, n: int, dim: int) -> Floats:
    return rng.standard_normal((n, dim)) / np.sqrt(1 + np.arange(dim)) + 0.2


def _clustered(rng: Rng, n: int, dim: int) -> Floats:
    centres = rng.standard_normal((n // 100, dim))
    return centres[rng.integers(0, len(centres), n)] + 0.35 * rng.standard_normal((n, dim))


def _tight(rng: Rng, n: int, dim: int) -> Floats:
    centres = rng.standard_normal((n // 200, dim))
    return centres[rng.integers(0, len(centres), n)] + 0.02 * rng.standard_normal((n, dim))


def _islands(rng: Rng, n: int, dim: int) -> Floats:
    centres = 100 * rng.standard_normal((max(n // 200, 4), dim))
    return centres[rng.integers(0, len(centres), n)] + 0.01 * rng.standard_normal((n, dim))


def _heavy(rng: Rng, n: int, dim: int) -> Floats:
    return rng.standard_t(2.0, (n, dim)) + 1e-3


def _outliers(rng: Rng, n: int, dim: int) -> Floats:
    x = rng.standard_normal((n, dim))
    x[rng.permutation(n)[: max(n // 500, 1)]] *= 1000
    return x


def _whole(rng: Rng, n: int, dim: int) -> Floats:
    centres = rng.integers(40, 216, (32, dim))
    return np.clip(np.rint(centres[rng.integers(0, 32, n)] + 25 * rng.standard_normal((n, dim))), 0, 255)


def _binary(rng: Rng, n: int, dim: int) -> Floats:
    protos = rng.random((64, dim)) < 0.5
    x = protos[rng.integers(0, 64, n)] ^ (rng.random((n, dim)) < 0.2)
    x[:, 0] |= ~x.any(1)
    return x.astype(np.float64)


def _sparse(rng: Rng, n: int, dim: int) -> Floats:
    share = 1 / (1 + np.arange(dim))
    share = np.minimum(share * (8 / share.sum() * 2), 0.6)
    topics = rng.random((40, dim)) ** 4 * 3
    x = (rng.random((n, dim)) < share * topics[rng.integers(0, 40, n)]) * rng.gamma(2.0, 1.0, (n, dim)) / np.sqrt(share)
    x[np.arange(n), rng.integers(0, dim, n)] += 1e-2
    return np.asarray(x)


def _constant(rng: Rng, n: int, dim: int) -> Floats:
    x = np.full((n, dim), 3.0)
    x[:, : (dim + 1) // 2] = rng.standard_normal((n, (dim + 1) // 2))
    return x


def _dominated(rng: Rng, n: int, dim: int) -> Floats:
    x = rng.standard_normal((n, dim))
    x[:, 0] = 1000 * rng.random(n)
    return x


def _offset(rng: Rng, n: int, dim: int) -> Floats:
    return rng.standard_normal((n, dim)) + 50


def _norms(rng: Rng, n: int, dim: int) -> Floats:
    return rng.standard_normal((n, dim)) * np.exp(rng.standard_normal((n, 1)))


def _families(rng: Rng, n: int, dim: int) -> Floats:
    parents = rng.standard_normal((n // 8, dim)) / np.sqrt(1 + np.arange(dim) / 16)
    return parents[rng.integers(0, len(parents), n)] + 0.01 * rng.standard_normal((n, dim))


def _copies(rng: Rng, n: int, dim: int) -> Floats:
    x = rng.standard_normal((n, dim))
    x[n // 2 :] = x[rng.integers(0, max(n // 100, 1), n - n // 2)]
    return x


def _mixed_scales(rng: Rng, n: int, dim: int) -> Floats:
    return rng.standard_normal((n, dim)) * 10.0 ** rng.uniform(-3, 3, dim)


def _tiny(rng: Rng, n: int, dim: int) -> Floats:
    return 1e-12 * rng.standard_normal((n, dim))


KINDS: Final[dict[str, Callable[[Rng, int, int], Floats]]] = {
    "gaussian": _gaussian,
    "low_rank": _low_rank,
    "decaying": _decaying,
    "clustered": _clustered,
    "tight": _tight,
    "islands": _islands,
    "heavy": _heavy,
    "outliers": _outliers,
    "whole": _whole,
    "binary": _binary,
    "sparse": _sparse,
    "constant": _constant,
    "dominated": _dominated,
    "offset": _offset,
    "norms": _norms,
    "families": _families,
    "copies": _copies,
    "mixed_scales": _mixed_scales,
    "tiny": _tiny,
}


def rows_of(vectors: NDArray[np.float32], metric: Metric) -> Rows:
    """Rows with what the metric needs beside them."""
    lengths = np.linalg.norm(vectors, axis=1) if metric is Metric.COSINE else np.zeros(0)
    return Rows(vectors, (1 / np.maximum(lengths, 1e-30)).astype(np.float32))


def make(
    kind: str, n: int, dim: int, metric: Metric, *, queries: int = 200, seed: int = 7
) -> tuple[Rows, NDArray[np.float32]]:
    """n rows of a kind, and queries that are drawn as they are."""
    made = KINDS[kind](np.random.default_rng([seed, n, dim]), n + queries, dim)
    order = np.random.default_rng(seed).permutation(len(made))
    vectors = np.ascontiguousarray(made[order], np.float32)
    return rows_of(vectors[:n], metric), vectors[n:]
