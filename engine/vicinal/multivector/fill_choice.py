"""Whether empty buckets of an encoding are better filled: measured on some of the points.

MUVERA's bounds need the fill; on real tokens it may cost recall, as more of a document's buckets then hold tokens that
are near nothing of the bucket's. So both ways encode a sample, and some tokens of some points of it are the queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.search import exact_maxsim
from vicinal.multivector.stores import plain_tokens
from vicinal.multivector.tokens import dequantise_tokens
from vicinal.types import TokenRows

__all__ = ["POINTS_MIN", "recalls_of"]

POINTS_MIN: Final = 100  # fewer tell nothing
_POINTS: Final = 400
_QUERIES: Final = 40
_TOKENS: Final = 16  # of a query
_NEAREST: Final = 10
_CANDIDATES: Final = 40


def recalls_of(
    encoders: Sequence[FixedDimensionalEncoder], rows: TokenRows, stop: int, seed: int
) -> list[float] | None:
    """For each encoder the share of the 10 points of largest MaxSim among its 40 candidates; None of too few points.

    Points are drawn from slots 0 .. stop - 1.
    """
    rng = np.random.default_rng(seed)
    full = np.flatnonzero(np.diff(rows.ends[:stop], prepend=0) > 0)
    if len(full) < POINTS_MIN:
        return None
    sample = _values(rows, np.sort(rng.choice(full, min(len(full), _POINTS), replace=False)))
    asked = rng.choice(len(sample.ends), min(_QUERIES, len(sample.ends)), replace=False)
    queries = [_some(sample, int(point), rng) for point in asked]
    best = [
        set(exact_maxsim(query, sample, _NEAREST + 1, range(len(sample.ends))).slots.tolist()) - {int(point)}
        for query, point in zip(queries, asked, strict=True)
    ]
    return [_recall(encoder, sample, queries, asked, best) for encoder in encoders]


def _recall(
    encoder: FixedDimensionalEncoder,
    sample: TokenRows,
    queries: Sequence[NDArray[np.float32]],
    asked: NDArray[np.int64],
    best: Sequence[set[int]],
) -> float:
    documents = encoder.encode_documents(sample.tokens, sample.ends)
    found = 0
    for query, point, wanted in zip(queries, asked, best, strict=True):
        products = documents @ encoder.encode_query(query)
        products[point] = -np.inf
        found += len(wanted & set(np.argsort(-products, kind="stable")[:_CANDIDATES].tolist()))
    return found / sum(map(len, best))


def _values(rows: TokenRows, slots: NDArray[np.int64]) -> TokenRows:
    """Some points as float32."""
    starts = np.where(slots > 0, rows.ends[slots - 1], 0)
    parts = [rows.tokens[start : rows.ends[slot]] for start, slot in zip(starts.tolist(), slots.tolist(), strict=True)]
    ends = np.cumsum(rows.ends[slots] - starts)
    tokens = dequantise_tokens(plain_tokens(np.concatenate(parts)), ends, rows.scales[slots])
    return TokenRows(tokens, ends, np.ones(len(ends), np.float32))


def _some(sample: TokenRows, point: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Some tokens of a point, as a query."""
    start, stop = int(sample.ends[point - 1]) if point else 0, int(sample.ends[point])
    chosen: NDArray[np.float32] = sample.tokens[start + rng.permutation(stop - start)[:_TOKENS]]
    return chosen
