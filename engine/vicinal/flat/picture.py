"""What a reader of an index sees: one immutable picture, and how one query is answered over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.casting import sure_squares
from vicinal.index.exact import Found
from vicinal.index.field_index import CodedSearcher, Searcher
from vicinal.limits import EF_MAX, K_MAX
from vicinal.planner import Plan, Target, plan_search
from vicinal.searching import Answer, Batch, prepare
from vicinal.types import Bits, Metric, Rows

__all__ = ["Picture", "answering", "answering_lazily", "label_matrix", "walks"]

Row = tuple[NDArray[Any], NDArray[np.float32]]  # labels and distances, (1, k)
_NOBODY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
SCAN_ROWS: Final = 512  # so few rows are scanned sooner than a graph is walked


class Picture(NamedTuple):
    """Slots [0, n) of an index after one change; later changes make another.

    `alive` has a bit for each slot, None when all are; it may lose and gain bits as points are marked deleted and
    unmarked. `walk` walks the graph where that beats scanning for a query without a filter, else it is None: see
    `walks`.
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
    walk: Callable[..., Row | None] | None


def walks(metric: Metric, graph: Searcher | None, n: int, count: int) -> Callable[..., Row | None] | None:
    """How the graph is walked for one query, unless so few of n slots are alive that the plan must be chosen per call.

    Called as `CodedIndex.search_row` is, and like it gives None for queries that are to be checked first.
    """
    if graph is None or n <= SCAN_ROWS or count * 2 < n:
        return None
    return graph.index.search_row if isinstance(graph, CodedSearcher) else _checking(metric, graph.search)


def _checking(metric: Metric, search: Callable[..., Found]) -> Callable[..., Row | None]:
    """A search that looks at the query's length first, for graphs that do not."""
    least, most = sure_squares(metric)

    def search_row(query: NDArray[np.float32], k: int, ef: int, aim: Picture) -> Row | None:
        if query.ndim == 2 and len(query) == 1:
            query = query[0]
        if query.shape != aim.rows.vectors.shape[1:] or not least < np.vdot(query, query) < most:
            return None
        slots, near = search(query, k, ef, rows=aim.rows, limit=aim.n, allowed=aim.alive)
        if len(slots) < k:
            return None
        return (slots.astype(np.uint64) if aim.plain else aim.labels[slots])[None], near[None]

    return search_row


def answering(picture: Picture, k: int, ef: int, allowed: Bits | None, *, narrowed: bool) -> Answer:
    """How to find the k nearest allowed slots for any query: min(k, matches) of them, always.

    allowed: bits of the slots that may be returned, None for all; `narrowed` says that a filter took some away.
    """
    target = Target(picture.metric, picture.rows, picture.graph, picture.n, picture.n, allowed, narrowed)
    ef = min(ef, EF_MAX)
    if k > K_MAX:
        plan = Plan("exact", target.matches, picture.n, 0)
    elif picture.walk is None or narrowed or k > picture.alive_count:
        plan = plan_search(target, k, ef, exact=False)
    else:
        plan = Plan("sweep", picture.alive_count, picture.n, 0, ef)
    return prepare(target, k, plan)


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


def label_matrix(batch: Batch, picture: Picture) -> NDArray[np.uint64]:
    """The labels of a batch's slots, 2**64 - 1 where a row has fewer than k."""
    labels = picture.labels
    rows, k = batch.slots.shape
    if not len(labels):
        return np.full((rows, k), _NOBODY, np.uint64)
    found: NDArray[np.uint64] = batch.slots.astype(np.uint64) if picture.plain else labels[batch.slots]
    if (batch.counts < k).any():
        found[np.arange(k) >= batch.counts[:, None]] = _NOBODY
    return found
