"""MaxSim over stored token matrices: re-rank candidates, or compare every point.

Score: the sum, over query tokens, of the largest inner product with one of the point's tokens (Chamfer similarity).
Scores reported are those of the *stored* tokens in float32: an int8 token stands for scale * code.

Where tokens are codes, products of integers come first. They differ from float32 only by what rounding the query to
codes took away, at most (the length of what was taken) * (longest token of the point). So a point is compared in
float32 only if it may be among the k best of those before it, and only tokens that may be a query token's best: the
answer is that of comparing all of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.coded_query import CodedQuery, carve_query, code_query
from vicinal.multivector.stores import RawTokens, plain_tokens, raw_tokens
from vicinal.multivector.tokens import dequantise_tokens, owned
from vicinal.types import Rerank, TokenRows

__all__ = ["SPARE", "Ranked", "Sent", "exact_maxsim", "rerank", "token_scores"]

SPARE: Final = 8  # points beyond k that are settled where codes give no bound
_FEW: Final = 256  # points that are sorted without looking for those that matter


class Ranked(NamedTuple):
    """Slots (m,) uint32 with scores (m,) float32, best first, ties by slot; `settled` were compared in float32."""

    slots: NDArray[np.uint32]
    scores: NDArray[np.float32]
    settled: int


class Sent(NamedTuple):
    """A query (m, dim) as it was sent and the tokens of points as they were sent, which settle what codes ordered."""

    query: NDArray[np.float32]
    rows: TokenRows


def exact_maxsim(
    query: NDArray[np.float32],
    rows: TokenRows,
    k: int,
    slots: NDArray[np.uint32] | range,
    sent: Sent | None = None,
) -> Ranked:
    """The k best of the points `slots` by exact float32 MaxSim of the stored tokens, or of those `sent`.

    `query` (m, dim) float32, checked. Points without tokens are left out.
    """
    listed, raw = _listed(slots, rows), raw_tokens(rows)
    if sent is not None:
        query, raw = sent.query, raw_tokens(sent.rows)
    elif raw.coded:
        return _settled(query, code_query(query), raw, listed, k)
    return _best(listed, _float_scores(query, raw, listed), k)


def rerank(
    query: NDArray[np.float32],
    rows: TokenRows,
    slots: NDArray[np.uint32],
    k: int,
    rerank: Rerank = "int8",
    carve: float | None = None,
    sent: Sent | None = None,
) -> Ranked:
    """The k best of the candidates `slots` by MaxSim.

    "int8" orders all of them by codes and settles the best in float32, until no other can be among the k; "float32"
    compares all in float32, "none" leaves out the settling: scores are those of codes. Tokens stored as floats have no
    codes and are compared as they are. `carve` shortens the query for the first step (`carve_query`); then, and where
    tokens as `sent` settle, k + 8 points are (4 k + 8 of bits). Points without tokens are left out.
    """
    listed, raw = _listed(slots, rows), raw_tokens(rows)
    final_query, final = (query, raw) if sent is None else (sent.query, raw_tokens(sent.rows))
    if rerank == "float32" or (not raw.coded and sent is None):
        return _best(listed, _float_scores(final_query, final, listed), k)
    short = query if carve is None or rerank == "none" else carve_query(query, carve)
    coded = code_query(short) if raw.coded else None
    if coded is not None and carve is None and sent is None and rerank != "none":
        return _settled(query, coded, raw, listed, k)
    first = _float_scores(short, raw, listed) if coded is None else _code_scores(coded, raw, listed)
    if rerank == "none":
        return _best(listed, first, k)._replace(settled=0)
    near = _best(listed, first, (4 * k if rows.tokens.dtype == np.uint8 else k) + SPARE).slots
    return _best(near, _float_scores(final_query, final, near), k)


def token_scores(query: NDArray[np.float32], rows: TokenRows, slot: int) -> NDArray[np.float32]:
    """Inner products (m, t) float32 of every query token with every token of one point, for highlighting."""
    start = int(rows.ends[slot - 1]) if slot else 0
    some = plain_tokens(rows.tokens[start : int(rows.ends[slot])])
    ends = np.array([len(some)], np.int64)
    products: NDArray[np.float32] = query @ dequantise_tokens(some, ends, rows.scales[slot : slot + 1]).T
    return products


def _listed(slots: NDArray[np.uint32] | range, rows: TokenRows) -> NDArray[np.uint32]:
    """The slots as an array the kernels take; they must have ends."""
    listed = owned(slots, np.uint32)
    assert not len(listed) or int(listed.max()) < len(rows.ends), "a slot beyond the last point"
    return listed


def _settled(
    query: NDArray[np.float32], coded: CodedQuery, raw: RawTokens, slots: NDArray[np.uint32], k: int
) -> Ranked:
    """The k best by float32, of which codes tell the points and the tokens that have to be looked at."""
    from vicinal.kernels.maxsim_settle import settle

    out = np.empty(len(slots), np.float32)
    settled = settle(*raw, slots, query, *coded[:4], k, out)
    return _best(slots, out, k)._replace(settled=settled)


def _code_scores(coded: CodedQuery, raw: RawTokens, slots: NDArray[np.uint32]) -> NDArray[np.float32]:
    """MaxSim by codes of both sides; -inf for a point without tokens."""
    from vicinal.kernels.maxsim import code_scores

    out = np.empty(len(slots), np.float32)
    code_scores(*raw, slots, *coded[:3], out)
    return out


def _float_scores(query: NDArray[np.float32], raw: RawTokens, slots: NDArray[np.uint32]) -> NDArray[np.float32]:
    """MaxSim in float32; -inf for a point without tokens."""
    from vicinal.kernels.maxsim import float_scores, pack_floats
    from vicinal.kernels.maxsim_settle import settle

    slots, out = owned(slots, np.uint32), np.empty(len(slots), np.float32)
    if raw.coded:
        settle(*raw, slots, query, *code_query(query)[:4], max(len(slots), 1), out)
    else:
        float_scores(*raw, slots, pack_floats(query), len(query), out)
    return out


def _best(slots: NDArray[np.uint32], scores: NDArray[np.float32], k: int) -> Ranked:
    """The k largest scores above -inf, ties by slot, of points all of which were compared so."""
    count = len(slots)
    if count > max(k, _FEW):
        near = np.flatnonzero(scores >= np.partition(scores, count - k)[count - k])
        slots, scores = slots[near], scores[near]
    order = np.lexsort((slots, -scores))[:k]
    slots, scores = slots[order], scores[order]
    if len(scores) and scores[-1] == -np.inf:
        order = np.flatnonzero(scores > -np.inf)
        slots, scores = slots[order], scores[order]
    return Ranked(slots, scores, count)
