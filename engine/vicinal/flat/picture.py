"""What a reader of an index sees: one immutable picture, and how one query is answered over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.exact import Found
from vicinal.index.field_index import Searcher
from vicinal.limits import EF_MAX, K_MAX
from vicinal.planner import Plan, Target, plan_search
from vicinal.searching import Answer, Batch, prepare
from vicinal.types import Bits, Metric, Rows

__all__ = ["Picture", "answering", "answering_lazily", "label_matrix", "walks"]

_NOBODY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
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


def answering(picture: Picture, k: int, ef: int, allowed: Bits | None, *, narrowed: bool) -> Answer:
    """How to find the k nearest allowed slots for any query: min(k, matches) of them, always.

    allowed: bits of the slots that may be returned, None for all; `narrowed` says that a filter took some away.
    """
    target = Target(picture.metric, picture.rows, picture.graph, picture.n, picture.n, allowed)
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


def label_matrix(batch: Batch, labels: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The labels of a batch's slots, 2**64 - 1 where a row has fewer than k."""
    rows, k = batch.slots.shape
    if not len(labels):
        return np.full((rows, k), _NOBODY, np.uint64)
    found: NDArray[np.uint64] = labels[batch.slots]
    if (batch.counts < k).any():
        found[np.arange(k) >= batch.counts[:, None]] = _NOBODY
    return found
