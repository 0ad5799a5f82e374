"""MaxSim over stored token matrices: re-rank candidates, or compare every point.

Score: the sum, over query tokens, of the largest inner product with one of the point's tokens (Chamfer similarity).
Scores reported are those of the *stored* tokens in float32: an int8 token stands for scale * code.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.tokens import dequantise_tokens, frozen, quantise_tokens
from vicinal.types import Rerank, TokenRows

__all__ = ["SPARE", "carve_query", "exact_maxsim", "rerank", "token_scores"]

Ranked = tuple[NDArray[np.uint32], NDArray[np.float32]]
SPARE: Final = 8  # points beyond k that are settled in float32: int8 scores may swap neighbours


def exact_maxsim(query: NDArray[np.float32], rows: TokenRows, k: int, slots: NDArray[np.uint32] | range) -> Ranked:
    """The k best of the points `slots` by exact float32 MaxSim: slots and scores, best first, ties by slot.

    `query` (m, dim) float32, checked. Points without tokens are left out.
    """
    listed = _listed(slots, rows)
    return _best(listed, _float_scores(query, rows, listed), k)


def rerank(
    query: NDArray[np.float32],
    rows: TokenRows,
    slots: NDArray[np.uint32],
    k: int,
    rerank: Rerank = "int8",
    carve: float | None = None,
) -> Ranked:
    """The k best of the candidates `slots` by MaxSim: slots and scores, best first, ties by slot.

    "int8" orders all of them by codes and settles the last k + 8 in float32, "float32" compares all in float32, "none"
    leaves out the settling: scores are those of codes. Tokens stored as float32 have no codes and are compared as they
    are. `carve` shortens the query for the first step (`carve_query`). Points without tokens are left out.
    """
    listed = _listed(slots, rows)
    coded = rows.tokens.dtype == np.int8 and rows.tokens.shape[1] >= 4
    if rerank == "float32" or not coded:
        return _best(listed, _float_scores(query, rows, listed), k)
    short = query if carve is None else carve_query(query, carve)
    first = _code_scores(short, rows, listed)
    if rerank == "none":
        return _best(listed, first, k)
    near, _ = _best(listed, first, k + SPARE)
    return _best(near, _float_scores(query, rows, near), k)


def carve_query(query: NDArray[np.float32], least: float = 0.7) -> NDArray[np.float32]:
    """A shorter query (at most m, dim): greedy balls of tokens with inner product >= `least`, each replaced by its sum.

    MUVERA, section 3.1 (ball carving), for tokens of unit length: MaxSim of the carved query is near that of the query.
    """
    products = query @ query.T
    left = np.ones(len(query), bool)
    sums = []
    for token in range(len(query)):
        if left[token]:
            ball = left & (products[token] >= least)
            ball[token] = True
            sums.append(query[ball].sum(axis=0))
            left &= ~ball
    return np.array(sums, np.float32)


def token_scores(query: NDArray[np.float32], rows: TokenRows, slot: int) -> NDArray[np.float32]:
    """Inner products (m, t) float32 of every query token with every token of one point, for highlighting."""
    start = int(rows.ends[slot - 1]) if slot else 0
    some = rows.tokens[start : int(rows.ends[slot])]
    ends = np.array([len(some)], np.int64)
    products: NDArray[np.float32] = query @ dequantise_tokens(some, ends, rows.scales[slot : slot + 1]).T
    return products


def _listed(slots: NDArray[np.uint32] | range, rows: TokenRows) -> NDArray[np.uint32]:
    """The slots as an array the kernels take; they must have ends."""
    listed = np.require(slots, np.uint32, ["C", "W"])
    assert not len(listed) or int(listed.max()) < len(rows.ends), "a slot beyond the last point"
    return listed


def _code_scores(query: NDArray[np.float32], rows: TokenRows, slots: NDArray[np.uint32]) -> NDArray[np.float32]:
    """MaxSim by codes of both sides, each query token with its own scale; -inf for a point without tokens."""
    from vicinal.kernels.maxsim import code_scores, pack_codes

    codes, scales = quantise_tokens(query, np.arange(1, len(query) + 1, dtype=np.int64))
    out = np.empty(len(slots), np.float32)
    code_scores(*map(frozen, rows), slots, *pack_codes(codes), scales, out)
    return out


def _float_scores(query: NDArray[np.float32], rows: TokenRows, slots: NDArray[np.uint32]) -> NDArray[np.float32]:
    """MaxSim in float32; -inf for a point without tokens."""
    from vicinal.kernels.maxsim import float_scores, pack_floats

    out = np.empty(len(slots), np.float32)
    float_scores(*map(frozen, rows), slots, pack_floats(query), len(query), out)
    return out


def _best(slots: NDArray[np.uint32], scores: NDArray[np.float32], k: int) -> Ranked:
    """The k largest scores above -inf, ties by slot."""
    keep = np.flatnonzero(scores > -np.inf)
    if len(keep) > k:
        least = np.partition(scores[keep], len(keep) - k)[len(keep) - k]
        keep = keep[scores[keep] >= least]
    order = keep[np.lexsort((slots[keep], -scores[keep]))][:k]
    return slots[order], scores[order]
