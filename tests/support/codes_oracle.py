"""Plain numpy versions of what the coded walk does, step by step and in the same float32 arithmetic."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import SENTINEL
from vicinal.index.coded_scratch import Scratch
from vicinal.kernels.walk_fields import IndexFields, Work
from vicinal.kernels.walk_ir import read_fields
from vicinal.kernels.walk_query import byte_query, enter, frame_query, nibble_query, project, sign_query
from vicinal.kernels.walk_rows import row_query
from vicinal.types import Metric, Rows

Floats = NDArray[np.float32]
_POPPED = (-np.inf, -1)
_NONE: tuple[float, int] = (np.inf, 1 << 31)


# --- data -----------------------------------------------------------------------------------------


def make_rows(n: int, dim: int, metric: Metric, seed: int, *, whole: bool = False, capacity: int = 0) -> Rows:
    """Rows of falling spread, off centre, as embeddings are; whole: 0 .. 255."""
    rng = np.random.default_rng(seed)
    spread = 1 / np.sqrt(1 + np.arange(dim) / 8)
    x = rng.standard_normal((max(n, capacity), dim)) * spread + 0.3
    if whole:
        x = np.clip(np.rint(x * 40 + 100), 0, 255)
    vectors = np.ascontiguousarray(x, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1) if metric is Metric.COSINE else np.zeros(0)
    return Rows(vectors, (1 / lengths).astype(np.float32))


def distances(metric: Metric, rows: Rows, query: Floats, n: int) -> NDArray[np.float64]:
    """Distances of rows [0, n) from a query, in float64."""
    x, q = rows.vectors[:n].astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(((x - q) ** 2).sum(1))
    if metric is Metric.DOT:
        return np.asarray(-(x @ q))
    return np.asarray(1 - (x @ q) / np.linalg.norm(x, axis=1) / np.linalg.norm(q))


def make_links(rows: Rows, n: int, metric: Metric, seed: int, *, near: int = 20, far: int = 6) -> NDArray[np.uint32]:
    """Nearest rows, a few at random, and SENTINEL in the rest."""
    rng = np.random.default_rng(seed)
    links = np.full((n, 32), SENTINEL, np.uint32)
    for slot in range(n):
        order = np.argsort(distances(metric, rows, rows.vectors[slot], n), kind="stable")
        kept = order[order != slot][:near]
        links[slot, : len(kept)] = kept
        links[slot, len(kept) : len(kept) + far] = rng.integers(0, n, far)
    return links


# --- a query as the kernels prepare it --------------------------------------------------------------


@njit(cache=False)
def _probe_signs(query, index_at, work_at, out):
    index, work = read_fields(IndexFields, index_at), read_fields(Work, work_at)
    framed = frame_query(query.ctypes.data, index, work)
    project(framed, index, work)
    cell = enter(framed, index, work)
    code, rows = sign_query(framed, index, work), row_query(framed, index, work)
    out[:] = (code.base, code.k0, code.k1, rows.base, rows.factor, rows.offset, rows.constant)
    return cell


@njit(cache=False)
def _probe_nibbles(query, index_at, work_at, out):
    index, work = read_fields(IndexFields, index_at), read_fields(Work, work_at)
    framed = frame_query(query.ctypes.data, index, work)
    project(framed, index, work)
    cell = enter(framed, index, work)
    code, rows = nibble_query(framed, index, work), row_query(framed, index, work)
    out[:] = (code.base, code.k0, code.k1, rows.base, rows.factor, rows.offset, rows.constant)
    return cell


@njit(cache=False)
def _probe_bytes(query, index_at, work_at, out):
    index, work = read_fields(IndexFields, index_at), read_fields(Work, work_at)
    framed = frame_query(query.ctypes.data, index, work)
    project(framed, index, work)
    cell = enter(framed, index, work)
    code, rows = byte_query(framed, index, work), row_query(framed, index, work)
    out[:] = (code.base, code.k0, code.k1, rows.base, rows.factor, rows.offset, rows.constant)
    return cell


_PROBES = {"signs": _probe_signs, "nibbles": _probe_nibbles, "bytes": _probe_bytes}


class Prepared(NamedTuple):
    """What preparing a query left behind."""

    cell: int
    numbers: Floats  # base, k0, k1 of the code; base, factor, offset, constant of rows
    lines: NDArray[np.uint8]
    scores: Floats
    bytes: NDArray[np.int8]
    vector: Floats


def prepare(index: CodedIndex, query: Floats) -> Prepared:
    """Prepare a query in scratch memory of its own."""
    scratch = fresh_scratch(index)
    numbers = np.zeros(7, np.float32)
    cell = _PROBES[index.info["code"]](query, index._arrays.at, scratch.at, numbers)
    held: dict[str, Any] = {name: array[0] for name, array in scratch._arrays.items()}
    return Prepared(
        int(cell),
        numbers,
        held["lines"].copy().reshape(4, 64),
        held["scores"].copy(),
        held["bytes"].copy(),
        held["vector"].copy(),
    )


def fresh_scratch(index: CodedIndex, pool: int = 512, results: int = 512) -> Scratch:
    """Scratch memory that nobody else has."""
    return index._scratch(index._arrays, pool, results)


# --- estimates and distances --------------------------------------------------------------------------


def sign_sums(codes: NDArray[np.uint8], lines: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Weighted disagreement of the first 384 bits with the planes."""
    total = np.zeros(len(codes), np.int64)
    for plane in range(4):
        total += np.bitwise_count(codes[:, :48] ^ lines[plane, :48]).sum(1, dtype=np.int64) << plane
    return total


def level_sums(codes: NDArray[np.uint8], lines: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """Dot product of the levels with the query's bytes."""
    total = np.zeros(len(codes), np.int64)
    for part in range(8 // bits):
        levels = (codes[:, :56] >> (bits * part)) & ((1 << bits) - 1)
        total += levels.astype(np.int64) @ lines[part, :56].view(np.int8).astype(np.int64)
    return total


def estimates(kind: str, codes: NDArray[np.uint8], prepared: Prepared) -> Floats:
    """Estimate the distances of code lines (n, 64)."""
    base, k0, k1 = prepared.numbers[:3]
    add, mul = codes[:, 56:60].copy().view(np.float32)[:, 0], codes[:, 60:64].copy().view(np.float32)[:, 0]
    add = add + base
    if kind == "signs":
        n = sign_sums(codes, prepared.lines)
        add = add + prepared.scores[codes[:, 48:52].copy().view(np.int32)[:, 0]]
    else:
        n = level_sums(codes, prepared.lines, {"nibbles": 4, "bytes": 8}[kind])
    return np.asarray(add + mul * (k0 + k1 * n.astype(np.float32)))


def row_scores(index: CodedIndex, prepared: Prepared) -> Floats:
    """Score every row from its bytes."""
    base, factor, offset, constant = prepared.numbers[3:]
    rows, floats, numbers = index._arrays.rows
    padded = rows.shape[1] - 192
    dot = rows[:, 192:].astype(np.int64) @ prepared.bytes[:padded].astype(np.int64)
    product = dot.astype(np.float32) + (offset * numbers[:, 2].astype(np.float32) - constant)
    return np.asarray(base + floats[:, 0] + factor * floats[:, 1] * product)


# --- the walk -----------------------------------------------------------------------------------------


class Walked(NamedTuple):
    """Results by (distance, slot), rows expanded, slots seen."""

    results: list[tuple[float, int]]
    hops: int
    listed: int


def _insert(keys: list[tuple[float, int]], key: tuple[float, int], room: int) -> None:
    bisect.insort(keys, key)
    del keys[room:]


def _rescore(
    rest: list[tuple[float, int]],
    results: list[tuple[float, int]],
    exact: Floats | None,
    effort: Any,
    passes: Callable[[int], bool],
    room: int,
) -> None:
    """Merge the nodes that were estimated and not expanded: the best by their rows, or all by their estimates."""
    kept = [key for key in rest if key != _NONE and passes(key[1])]
    for distance, slot in kept[: effort.rescore] if exact is not None else kept:
        _insert(results, (distance if exact is None else float(exact[slot]), slot), room)


def _unseen(row: NDArray[np.uint32], seen: set[int]) -> list[int]:
    """The linked slots not seen before, marked as seen only after all were looked at."""
    found = [int(slot) for slot in row if slot != SENTINEL and int(slot) not in seen]
    seen.update(found)
    return found


def walk(
    links: NDArray[np.uint32],
    entry: int,
    estimate: Floats,
    exact: Floats | None,
    effort: Any,
    passes: Callable[[int], bool],
    *,
    hidden: int = -1,
) -> Walked:
    """Walk as `kernels.walk` does: chosen one step ahead; without exact distances, codes are used a step late."""
    wanted = -(-max(effort.stop, effort.settle) // 8) * 8
    pool, results = [_NONE] * effort.pool, [_NONE] * wanted
    seen = {entry} | ({hidden} if hidden >= 0 else set())
    listed = 1 + (hidden >= 0)
    head = hops = 0
    pending: tuple[int, float] | None = (entry, float(estimate[entry]))
    waiting: list[int] = []
    while True:
        chosen: tuple[int, float] | None = None
        if head < effort.pool and pool[head] < results[effort.stop - 1]:
            chosen = pool[head][1], pool[head][0]
            pool[head] = _POPPED
            head += 1
        node, pending = pending, chosen
        fresh, waiting = waiting, []
        if node is not None:
            hops += 1
            found = _unseen(links[node[0]], seen)
            listed += len(found)
            fresh, waiting = (fresh, found) if exact is None else (found, [])
            distance = node[1] if exact is None else float(exact[node[0]])
            if passes(node[0]):
                _insert(results, (distance, node[0]), wanted)
        elif not fresh and chosen is None:
            break
        for slot in [slot for slot in fresh if estimate[slot] < pool[-1][0]]:
            _insert(pool, (float(estimate[slot]), slot), effort.pool)
    _rescore(pool[head:], results, exact, effort, passes, wanted)
    return Walked([key for key in results[: max(effort.settle, 1)] if key != _NONE], hops, listed)
