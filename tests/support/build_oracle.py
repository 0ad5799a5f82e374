"""Plain numpy answers for what the graph builder's kernels compute, and checks of whole graphs."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.builder import Links
from vicinal.kernels import rows8
from vicinal.kernels.rows8 import SPARE, Codes
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric

__all__ = [
    "check_shape",
    "half_distances",
    "heuristic",
    "make_codes",
    "nearest",
    "reached",
    "recall",
    "scores_of",
    "walk",
]


def make_codes(values: NDArray[np.int8]) -> Codes:
    """Codes of int8 rows, padded to whole cache lines; norms by numpy, not by the kernel under test."""
    n, dim = values.shape
    rows = np.zeros((n + SPARE, -(-dim // 64) * 64), np.int8)
    rows[:n, :dim] = values
    wide = rows.astype(np.int64)
    half = (wide * wide).sum(1) // 2
    return Codes(rows, half.astype(np.int32), (half + 128 * wide.sum(1)).astype(np.int32))


def random_codes(n: int, dim: int, seed: int, low: int = -127) -> Codes:
    """Random codes over the full range, the first rows at both ends of it."""
    values = np.random.default_rng(seed).integers(low, 128, (n, dim)).astype(np.int8)
    values[: min(n, 2)] = [[127], [-127]][: min(n, 2)]
    return make_codes(values)


def scores_of(codes: Codes, rows: NDArray[np.integer], lanes: NDArray[np.integer]) -> NDArray[np.int64]:
    """score(i, j) = dot(i, j) + 128 sum(i) - half(j)."""
    a, b = codes.rows[rows].astype(np.int64), codes.rows[lanes].astype(np.int64)
    return a @ b.T + 128 * a.sum(1)[:, None] - codes.half[lanes]


def half_distances(codes: Codes, rows: NDArray[np.integer], lanes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Half squared distances as the integers the builder compares."""
    return codes.offset[rows].astype(np.int64)[:, None] - scores_of(codes, rows, lanes)


def nearest(codes: Codes, n: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k nearest other rows of each row, by (distance, row): ids and half distances."""
    everything = np.arange(n)
    dist = half_distances(codes, everything, everything)
    dist[everything, everything] = np.iinfo(np.int64).max
    ids = np.argsort(dist, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(dist, ids, 1)


def heuristic(codes: Codes, ids: list[int], dist: list[int], most: int, num: int, den: int) -> list[int]:
    """Algorithm 4 of HNSW on integers: positions kept of candidates in order of distance."""
    kept: list[int] = []
    for j, row in enumerate(ids):
        if len(kept) == most:
            break
        between = [int(half_distances(codes, np.array([ids[s]]), np.array([row]))[0, 0]) for s in kept]
        if all(b >= dist[j] * num // den for b in between):
            kept.append(j)
    return kept


def reached(links: NDArray[np.uint32], entry: int) -> NDArray[np.bool_]:
    """Which slots a walk over `links` from `entry` can reach."""
    seen = np.zeros(len(links), bool)
    seen[entry] = True
    front = np.array([entry])
    while len(front):
        following = np.unique(links[front])
        following = following[following != SENTINEL]
        front = following[~seen[following]]
        seen[front] = True
    return seen


def check_shape(graph: Links, n: int, slots: NDArray[np.integer] | None = None) -> None:
    """Every promise of `Links` that does not depend on the vectors."""
    linked = np.arange(n) if slots is None else np.asarray(slots)
    used = graph.links != SENTINEL
    assert graph.links.shape == (n, 32) and graph.links.dtype == np.uint32
    assert (used.sum(1) == graph.degree).all()
    assert (used == (np.arange(32) < graph.degree[:, None])).all()  # no gaps
    assert np.isin(graph.links[used], linked).all()
    assert (graph.links != np.arange(n, dtype=np.uint32)[:, None]).all()  # no link to itself
    for row, count in zip(graph.links[linked[:2000]], graph.degree[linked[:2000]], strict=True):
        assert len(set(row[:count].tolist())) == count
    if len(linked) == 0:
        return
    assert (reached(graph.links, graph.entry) == np.isin(np.arange(n), linked)).all()
    assert graph.level[graph.entry] == graph.level.max() == len(graph.upper)
    assert ((graph.upper_row >= 0) == (graph.level > 0)).all()
    for level, upper in enumerate(graph.upper, 1):
        rows = np.flatnonzero(graph.level >= level)
        inside = upper[graph.upper_row[rows]]
        assert np.isin(inside[inside != SENTINEL], rows).all()
        wide = np.full((n, 16), SENTINEL, np.uint32)
        wide[rows] = inside
        assert reached(wide, graph.entry)[rows].all()
    assert len(graph.order) == graph.cells[-1] and (np.diff(graph.cells) >= 0).all()
    assert np.isin(graph.order, linked).all() and len(np.unique(graph.order)) == len(graph.order)


def distances_to(vectors: NDArray[np.floating], query: NDArray[np.floating], metric: Metric) -> Any:
    """Squared distances, or minus the products."""
    if metric is Metric.DOT:
        return -(vectors @ query)
    away = vectors - query
    return np.einsum("ij,ij->i", away, away)


def walk(links: NDArray[np.uint32], entry: int, vectors: Any, query: Any, k: int, ef: int, metric: Metric) -> list[int]:
    """Beam search on level 0, as the textbook has it."""
    start = float(distances_to(vectors[entry : entry + 1], query, metric)[0])
    seen = {entry}
    front, best = [(start, entry)], [(-start, entry)]
    while front:
        d, slot = heapq.heappop(front)
        if len(best) >= ef and d > -best[0][0]:
            break
        row = links[slot]
        fresh = [int(s) for s in row[row != SENTINEL] if int(s) not in seen]
        seen.update(fresh)
        if not fresh:
            continue
        for e, s in zip(distances_to(vectors[fresh], query, metric).tolist(), fresh, strict=True):
            if len(best) < ef or e < -best[0][0]:
                heapq.heappush(front, (e, s))
                heapq.heappush(best, (-e, s))
                if len(best) > ef:
                    heapq.heappop(best)
    return [s for _, s in sorted((-d, s) for d, s in best)][:k]


def recall(
    links: NDArray[np.uint32],
    entry: int,
    vectors: NDArray[np.floating],
    queries: NDArray[np.floating],
    k: int,
    ef: int,
    metric: Metric = Metric.L2,
) -> float:
    """Share of the true k nearest distances that the walk finds; equal distances count."""
    hits = 0
    for query in queries:
        away = distances_to(vectors, query, metric)
        bound = np.sort(away)[k - 1]
        bound += 1e-5 * abs(bound) + 1e-9
        hits += sum(away[s] <= bound for s in walk(links, entry, vectors, query, k, ef, metric))
    return hits / (k * len(queries))


def measured(codes: Codes, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """half and offset as the kernel fills them, on a copy."""
    copy = Codes(codes.rows, np.zeros_like(codes.half), np.zeros_like(codes.offset))
    rows8.measure(copy, 0, n)
    return copy.half[:n], copy.offset[:n]
