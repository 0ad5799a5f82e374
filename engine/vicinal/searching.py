"""Carry a plan out, for one query or for many over threads: min(k, matches) nearest slots, always.

What depends on the plan alone is done once (`prepare`), so that a View can keep it for the queries that follow. A walk
that comes back short is answered again by an exact scan. Slots that the graph does not have yet (the tail) are scanned
exactly and merged. Over threads each thread calls kernels that release the GIL.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import slots_from_bits
from vicinal.filtering import answer_filtered
from vicinal.index.coded_batch import search_share
from vicinal.index.exact import exact_search, exact_search_list, merge
from vicinal.index.field_index import CodedSearcher
from vicinal.planner import Plan, Target

__all__ = ["Answer", "Batch", "answer_all", "prepare"]

Pair = tuple[NDArray[np.uint32], NDArray[np.float32]]
One = Callable[[NDArray[Any]], Pair]
SLOW_FLOATS: Final = 1 << 18  # of a scan that takes some 15 microseconds
_ROWS_PER_TURN: Final = 16  # at least
_TURNS: Final = 4  # that a thread would take if all were as large as the next
_ROWS_PER_THREAD: Final = 16  # fewer are answered before a thread has begun


class Batch(NamedTuple):
    """Slots and distances (rows, k); row i holds counts[i] of them, distances beyond are infinite."""

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    counts: NDArray[np.int64]


Share = Callable[[NDArray[Any], Batch, int, int], int]
Told = Callable[[NDArray[Any]], tuple[Pair, dict[str, Any]]]


class Answer(NamedTuple):
    """How queries of one plan are answered.

    `one` gives the answer to a checked query of the field's dtype, whole. `share` answers rows [first, last) of many
    in one kernel call, where that is possible: any rows, of which it gives how many mean nothing unless they pass the
    check; some may come out short. `slow`: `one` takes long enough for threads to be worth it. `told` answers as `one`
    does and says what that took, where there is more to say than the plan does. `looks`: `one` itself refuses arrays of
    the right shape and dtype that cannot be compared.
    """

    one: One
    share: Share | None = None
    slow: bool = False
    told: Told | None = None
    looks: bool = False


def prepare(target: Target, k: int, plan: Plan) -> Answer:
    """How to find the min(k, plan.matches) nearest slots of any query by this plan."""
    metric, rows, n, allowed = target.metric, target.rows, target.n, target.allowed
    wanted, dim = min(k, plan.matches), rows.vectors.shape[1]
    if plan.way is not None:
        one, told = answer_filtered(target, plan.matches, wanted, plan.way)
        return Answer(one, slow=True, told=told)
    if plan.kind in ("sweep", "cells"):
        return _sweeping(target, wanted, plan)
    if not wanted:
        return Answer(lambda _: (np.empty(0, np.uint32), np.empty(0, np.float32)))
    if plan.kind == "list" and allowed is not None:
        listed = slots_from_bits(allowed, n)
        slow = len(listed) * dim > SLOW_FLOATS
        return Answer(lambda query: exact_search_list(metric, rows, query, wanted, listed), slow=slow)
    return Answer(
        lambda query: exact_search(metric, rows, query, wanted, start=0, stop=n, allowed=allowed),
        slow=n * dim > SLOW_FLOATS,
    )


def _sweeping(target: Target, wanted: int, plan: Plan) -> Answer:
    """How a graph is walked, and what follows where it does not hold all slots or comes back short."""
    metric, rows, graph, indexed, n, allowed, _ = target
    assert graph is not None, "a sweep is planned only where a graph is"
    walk, ef, stop = graph.search, plan.ef, min(indexed, n)

    def again(query: NDArray[Any]) -> Pair:
        plan.fallback = True  # the walk ended in a part of the graph with too few matches
        return exact_search(metric, rows, query, wanted, start=0, stop=n, allowed=allowed)

    def sweep(query: NDArray[Any]) -> Pair:
        found = walk(query, wanted, ef, rows=rows, limit=stop, allowed=allowed)
        return found if len(found[0]) == wanted else again(query)

    def with_tail(query: NDArray[Any]) -> Pair:
        found = walk(query, wanted, ef, rows=rows, limit=stop, allowed=allowed)
        found = merge(found, tail(query), wanted)
        return found if len(found[0]) == wanted else again(query)

    def tail(query: NDArray[Any]) -> Pair:
        return exact_search(metric, rows, query, wanted, start=stop, stop=n, allowed=allowed)

    one = sweep if stop == n else with_tail
    if not isinstance(graph, CodedSearcher) or rows.vectors.dtype != np.float32:
        return Answer(one, slow=True)
    index = graph.index

    def share(queries: NDArray[Any], batch: Batch, first: int, last: int) -> int:
        unsure = search_share(
            index, queries, ef, first, last, rows=rows, limit=stop, allowed=allowed, **batch._asdict()
        )
        for row in range(first, last) if stop < n and not unsure else ():
            m = batch.counts[row]
            near = merge((batch.slots[row, :m], batch.distances[row, :m]), tail(queries[row]), wanted)
            m = batch.counts[row] = len(near[0])
            batch.slots[row, :m], batch.distances[row, :m] = near
        return unsure

    return Answer(one, share, looks=stop == n)


def _turns(rows: int, threads: int) -> list[tuple[int, int]]:
    """Parts of `rows`, ever smaller: few calls, and no thread is long alone at the end (Polychronopoulos 1987)."""
    turns, first = [], 0
    while first < rows:
        size = rows if threads == 1 else max((rows - first) // (threads * _TURNS), _ROWS_PER_TURN)
        turns.append((first, min(first + size, rows)))
        first += size
    return turns


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="vicinal-query")


def answer_all(
    queries: NDArray[Any], k: int, answers: Sequence[Answer], threads: int, check: Callable[[], object]
) -> Batch:
    """The k nearest of each query; `answers` holds one for all queries or one for each.

    check: raises where a query cannot be compared; it reads all queries, and kernels that read them anyway spare it.
    """
    rows = len(queries)
    batch = Batch(np.zeros((rows, k), np.uint32), np.full((rows, k), np.inf, np.float32), np.zeros(rows, np.int64))
    share = answers[0].share if len(answers) == 1 else None
    if share is None:
        check()
        again = np.arange(rows)
    else:
        unsure: list[int] = []
        _over_threads(rows, threads, lambda first, last: unsure.append(share(queries, batch, first, last)))
        again = np.flatnonzero(batch.counts < k)
        if any(unsure):  # whoever passes the check after all is answered alone, tail and all
            check()
            again = np.arange(rows)
        batch.distances[again] = np.inf

    def one_by_one(first: int, last: int) -> None:
        for row in again[first:last].tolist():
            answer = answers[row if len(answers) > 1 else 0]
            found, near = answer.one(queries[row])
            m = batch.counts[row] = len(found)
            batch.slots[row, :m], batch.distances[row, :m] = found, near

    slow = any(answer.slow for answer in answers)
    _over_threads(len(again), threads if slow else 1, one_by_one)
    return batch


def _over_threads(rows: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call `work(first, last)` for parts of `rows` until all are done."""
    used = max(min(threads, os.cpu_count() or 1, rows // _ROWS_PER_THREAD), 1)
    turns = iter(_turns(rows, used))  # `next` is atomic

    def take_turns() -> None:
        for first, last in turns:
            work(first, last)

    others = [_pool().submit(take_turns) for _ in range(used - 1)]
    take_turns()
    for other in others:
        other.result()
