"""Search one multi-vector field: proxies find candidates, exact MaxSim orders them.

Two stages as in MUVERA (arXiv 2405.19504) and PLAID (CIKM 2022). A filter is applied first; what matches is compared
exactly when it is no more than the candidates would be. Slots that have no proxy yet (the tail) are re-ranked too, so
a point is found by the next query after its upsert, and min(k, matches) points always come back.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import slots_from_bits
from vicinal.errors import InvalidArgument
from vicinal.multivector.search import Ranked, Sent, exact_maxsim, rerank, token_scores
from vicinal.multivector.stores import rotated
from vicinal.planner import Found
from vicinal.types import Bits, Rerank
from vicinal.view import MultiView

__all__ = ["MultiRequest", "check_carve", "default_candidates", "search_multi", "token_scores_of"]

# of the ten best by exact MaxSim so many hold .985 on 100,000 documents of 64 tokens
_CANDIDATES: Final = 500
_CANDIDATES_PER_RESULT: Final = 20


class MultiRequest(NamedTuple):
    """What the caller asked for; query (t, dim) float32."""

    query: NDArray[np.float32]
    k: int
    candidates: int
    rerank: Rerank
    exact: bool
    carve: float | None = None


def default_candidates(k: int) -> int:
    """How many points are re-ranked when the caller does not say."""
    return max(_CANDIDATES, _CANDIDATES_PER_RESULT * k)


def check_carve(carve: Any) -> float | None:
    """The inner product above which tokens of a query are one, as a float; InvalidArgument unless it is a number."""
    if carve is None:
        return None
    if not isinstance(carve, float | int) or isinstance(carve, bool) or not math.isfinite(carve):
        raise InvalidArgument("carve must be a number, for unit tokens from 0 to 1", field="carve", value=carve)
    return float(carve)


def search_multi(field: MultiView, n: int, allowed: Bits | None, request: MultiRequest) -> tuple[Found, dict[str, Any]]:
    """Slots (m,) with their MaxSim scores (m,) float32, best first, m = min(k, matches), and what was done."""
    started = perf_counter()
    slots = np.arange(n, dtype=np.uint32) if allowed is None else slots_from_bits(allowed, n)
    told: dict[str, Any] = {"cardinality": len(slots), "exact": True, "candidates": len(slots), "proxies_evaluated": 0}
    sent = None if field.originals is None else Sent(request.query, field.originals)
    request = request._replace(query=rotated(field.signs, request.query))
    if request.exact or field.proxies is None or len(slots) <= max(request.candidates, request.k):
        ranked = exact_maxsim(request.query, field.tokens, request.k, slots, sent)
    else:
        ranked, proxied = _by_proxy(field, slots, request, sent)
        told |= proxied
    found = Found(ranked.slots, ranked.scores)
    told["settled"] = ranked.settled
    told["search_ms"] = _since(started)
    return found, told


def _by_proxy(
    field: MultiView, slots: NDArray[np.uint32], request: MultiRequest, sent: Sent | None
) -> tuple[Ranked, dict[str, Any]]:
    """The best of the matching `slots`, ascending, of which those below `indexed` have proxies."""
    assert field.proxies is not None, "the caller looked"
    started = perf_counter()
    known = int(np.searchsorted(slots, min(field.indexed, field.proxies.n)))
    near, scores = field.proxies.nearest(request.query, request.candidates, slots[:known])
    candidates = near if known == len(slots) else np.concatenate((near, slots[known:]))
    told = {"exact": False, "candidates": len(candidates), "proxies_evaluated": known, "proxy_ms": _since(started)}
    if request.rerank == "none" and known == len(slots):
        return Ranked(near[: request.k], scores[: request.k], 0), told
    started = perf_counter()
    way = request.k, request.rerank, request.carve
    found = rerank(request.query, field.tokens, candidates, *way, sent)
    return found, told | {"rerank_ms": _since(started)}


def token_scores_of(
    field: MultiView, query: NDArray[np.float32], slots: NDArray[np.uint32]
) -> list[NDArray[np.float32]]:
    """Products (m, t) float32 of the query's tokens with each point's, those of which its score is made."""
    if field.originals is not None:
        return [token_scores(query, field.originals, slot) for slot in slots.tolist()]
    query = rotated(field.signs, query)
    return [token_scores(query, field.tokens, slot) for slot in slots.tolist()]


def _since(started: float) -> float:
    return round((perf_counter() - started) * 1e3, 3)
