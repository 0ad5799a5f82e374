"""Search one multi-vector field: proxies find candidates, exact MaxSim orders them.

Two stages as in MUVERA (arXiv 2405.19504) and PLAID (CIKM 2022). A filter is applied first; what matches is compared
exactly when it is no more than the candidates would be. Slots that have no proxy yet (the tail) are re-ranked too, so
a point is found by the next query after its upsert, and min(k, matches) points always come back.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import slots_from_bits
from vicinal.multivector.search import exact_maxsim, rerank
from vicinal.planner import Found
from vicinal.types import Bits, Rerank
from vicinal.view import MultiView

__all__ = ["MultiRequest", "default_candidates", "search_multi"]

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


def default_candidates(k: int) -> int:
    """How many points are re-ranked when the caller does not say."""
    return max(_CANDIDATES, _CANDIDATES_PER_RESULT * k)


def search_multi(field: MultiView, n: int, allowed: Bits | None, request: MultiRequest) -> tuple[Found, dict[str, Any]]:
    """Slots (m,) with their MaxSim scores (m,) float32, best first, m = min(k, matches), and what was done."""
    started = perf_counter()
    slots = np.arange(n, dtype=np.uint32) if allowed is None else slots_from_bits(allowed, n)
    told: dict[str, Any] = {"cardinality": len(slots), "exact": True, "candidates": len(slots), "proxies_evaluated": 0}
    if request.exact or field.proxies is None or len(slots) <= max(request.candidates, request.k):
        found = Found(*exact_maxsim(request.query, field.tokens, request.k, slots))
    else:
        found, proxied = _by_proxy(field, slots, request)
        told |= proxied
    told["search_ms"] = _since(started)
    return found, told


def _by_proxy(field: MultiView, slots: NDArray[np.uint32], request: MultiRequest) -> tuple[Found, dict[str, Any]]:
    """The best of the matching `slots`, ascending, of which those below `indexed` have proxies."""
    assert field.proxies is not None, "the caller looked"
    started = perf_counter()
    known = int(np.searchsorted(slots, min(field.indexed, field.proxies.n)))
    near, scores = field.proxies.nearest(request.query, request.candidates, slots[:known])
    candidates = np.concatenate((near, slots[known:]))
    told = {"exact": False, "candidates": len(candidates), "proxies_evaluated": known, "proxy_ms": _since(started)}
    if request.rerank == "none" and known == len(slots):
        return Found(near[: request.k], scores[: request.k]), told
    started = perf_counter()
    found = Found(*rerank(request.query, field.tokens, candidates, request.k, request.rerank))
    return found, told | {"rerank_ms": _since(started)}


def _since(started: float) -> float:
    return round((perf_counter() - started) * 1e3, 3)
