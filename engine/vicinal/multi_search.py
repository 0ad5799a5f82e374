"""Search one multi-vector field: proxies find candidates, exact MaxSim orders them (MUVERA, arXiv 2405.19504).

Few matches are compared exactly at once. Slots whose proxy is not in the graph yet (the tail) are re-ranked too,
so a point is found by the next query after its upsert.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.multivector.search import exact_maxsim, rerank
from vicinal.planner import Found, Target, plan_search
from vicinal.searching import prepare
from vicinal.types import Bits, Metric, Rerank
from vicinal.view import MultiView, slots_from_bits

__all__ = ["MultiRequest", "search_multi"]

# exact MaxSim of so many points costs about what encoding, a proxy search and a re-rank of candidates do
EXACT_BELOW_POINTS = 2_000


class MultiRequest(NamedTuple):
    """What the caller asked for; query (t, dim) float32."""

    query: NDArray[np.float32]
    k: int
    candidates: int
    rerank: Rerank
    exact: bool


def search_multi(field: MultiView, n: int, allowed: Bits | None, request: MultiRequest) -> tuple[Found, dict[str, Any]]:
    """Slots (m,) with their MaxSim scores (m,) float32, best first, m = min(k, matches), and what was done."""
    started = perf_counter()
    slots = np.arange(n, dtype=np.uint32) if allowed is None else slots_from_bits(allowed, n)
    told: dict[str, Any] = {"cardinality": len(slots), "exact": True, "candidates": len(slots)}
    if request.exact or field.graph is None or len(slots) <= max(EXACT_BELOW_POINTS, request.k):
        found = Found(*exact_maxsim(request.query, field.tokens, request.k, slots))
    else:
        found, proxied = _by_proxy(field, n, allowed, request)
        told.update(exact=False, **proxied)
    told["search_ms"] = round((perf_counter() - started) * 1e3, 3)
    return found, told


def _by_proxy(field: MultiView, n: int, allowed: Bits | None, request: MultiRequest) -> tuple[Found, dict[str, Any]]:
    indexed = min(field.indexed, n)
    target = Target(Metric.DOT, field.proxies, field.graph, indexed, indexed, allowed)
    plan = plan_search(target, request.candidates, min(request.candidates, limits.EF_MAX), False)
    started = perf_counter()
    near = Found(*prepare(target, request.candidates, plan).one(field.encoder.encode_query(request.query)))
    proxied = plan.explain(perf_counter() - started)
    tail = np.arange(indexed, n, dtype=np.uint32)
    if allowed is not None:
        tail = tail[(allowed[tail >> 6] >> (tail & 63).astype(np.uint64)) & np.uint64(1) == 1]
    candidates = np.concatenate((near.slots, tail))
    told = {"proxy": proxied, "candidates": len(candidates)}
    if request.rerank == "none" and not len(tail):
        return Found(near.slots[: request.k], -near.distances[: request.k]), told
    return Found(*rerank(request.query, field.tokens, candidates, request.k, request.rerank)), told
