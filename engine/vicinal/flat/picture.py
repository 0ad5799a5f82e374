"""What a reader of an index sees: one immutable picture, and how one query is answered over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.coded_batch import search_share
from vicinal.index.exact import Found, exact_search, exact_search_list
from vicinal.index.field_index import CodedSearcher, Searcher
from vicinal.limits import EF_MAX, K_MAX
from vicinal.planner import Target, plan_search
from vicinal.types import Bits, Metric, Rows
from vicinal.view import slots_from_bits

__all__ = ["Answer", "Batch", "Picture", "answering", "answering_lazily", "walks"]

One = Callable[[NDArray[np.float32]], Found]
SLOW_FLOATS: Final = 1 << 18  # of a scan that takes some 15 microseconds
SCAN_ROWS: Final = 512  # so few rows are scanned sooner than a graph is walked


class Picture(NamedTuple):
    """Slots [0, n) of an index after one change; later changes make another.

    `alive` has a bit for each slot, None when all are; it may lose and gain bits as points are marked deleted and
    unmarked. `walk` is the graph's search where walking it beats scanning for a query without a filter, else None.
    `plain`: every slot's label is its number.
    """

    metric: Metric
    rows: Rows
    graph: Searcher | None
    n: int
    labels: NDArray[np.uint64]
    alive: Bits | None
    alive_count: int
    plain: bool
    walk: Callable[..., Found] | None


def walks(graph: Searcher | None, n: int, count: int) -> Callable[..., Found] | None:
    """The graph's search, unless so few of n slots are alive that the plan must be chosen per call."""
    return graph.search if graph is not None and n > SCAN_ROWS and count * 2 >= n else None


class Batch(NamedTuple):
    """Slots and distances (rows, k); row i holds counts[i] of them, distances beyond are infinite."""

    slots: NDArray[np.uint32]
    distances: NDArray[np.float32]
    counts: NDArray[np.int64]


class Answer(NamedTuple):
    """How queries are answered over one picture.

    `one` gives the answer to a query (dim,), whole. `share` answers rows [first, last) of many in one kernel call,
    where that is possible; some may come out short. `slow`: `one` takes long enough for threads to be worth it.
    """

    one: One
    share: Callable[[NDArray[np.float32], Batch, int, int], None] | None = None
    slow: bool = False


def answering(picture: Picture, k: int, ef: int, allowed: Bits | None, *, narrowed: bool) -> Answer:
    """How to find the k nearest allowed slots for any query: min(k, matches) of them, always.

    allowed: bits of the slots that may be returned, None for all; `narrowed` says that a filter took some away.
    """
    metric, rows, n, graph = picture.metric, picture.rows, picture.n, picture.graph
    ef = min(ef, EF_MAX)

    def scan(query: NDArray[np.float32]) -> Found:
        return exact_search(metric, rows, query, k, start=0, stop=n, allowed=allowed)

    scanning = Answer(scan, slow=n * rows.vectors.shape[1] > SLOW_FLOATS)
    if k > K_MAX or graph is None:
        return scanning
    if picture.walk is None or narrowed or k > picture.alive_count:
        plan = plan_search(Target(metric, rows, graph, n, n, allowed), k, ef, exact=False)
        if plan.kind == "list" and allowed is not None:
            listed = slots_from_bits(allowed, n)
            slow = len(listed) * rows.vectors.shape[1] > SLOW_FLOATS
            return Answer(lambda query: exact_search_list(metric, rows, query, k, listed), slow=slow)
        if plan.kind != "sweep":
            return scanning

    def sweep(query: NDArray[np.float32]) -> Found:
        found = graph.search(query, k, ef, rows=rows, limit=n, allowed=allowed)
        return found if len(found[0]) == k else scan(query)  # parts of the graph may hold too few matches

    if not isinstance(graph, CodedSearcher):
        return Answer(sweep, slow=True)
    return Answer(sweep, _sharing(graph, rows, n, ef, allowed))


def _sharing(
    graph: CodedSearcher, rows: Rows, n: int, ef: int, allowed: Bits | None
) -> Callable[[NDArray[np.float32], Batch, int, int], None]:
    """How a thread answers its share of a batch on codes."""

    def share(queries: NDArray[np.float32], batch: Batch, first: int, last: int) -> None:
        search_share(graph.index, queries, ef, first, last, rows=rows, limit=n, allowed=allowed, **batch._asdict())

    return share


def answering_lazily(
    picture: Picture, k: int, ef: int, passes: Callable[[int], bool], whole: Callable[[], Answer]
) -> Answer:
    """As `answering` for a filter that is a function: asked about the nearest points only, while enough of them pass.

    `whole` gives an answer over the function's bits, for which it is asked about every point.
    """

    def answer(query: NDArray[np.float32]) -> Found:
        wanted = max(4 * k, 32)
        while wanted <= min(K_MAX, picture.alive_count // 16):
            slots, distances = answering(picture, wanted, ef, picture.alive, narrowed=False).one(query)
            kept = [at for at, label in enumerate(picture.labels[slots].tolist()) if passes(label)]
            if len(kept) >= k:
                return slots[kept[:k]], distances[kept[:k]]
            wanted *= 4
        return whole().one(query)

    return Answer(answer)
