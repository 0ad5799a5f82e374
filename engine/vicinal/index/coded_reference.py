"""What a walk on the stored floats finds over the links of a coded index: the measure of what codes lose.

The rows asked about stay in the graph, but no walk sees the one it asks about: it is marked as visited beforehand.
"""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask
from vicinal.index.coded_effort import GOOD_ENOUGH, K, Reference
from vicinal.index.exact import exact_search, exact_search_list
from vicinal.index.graph import GraphArrays
from vicinal.index.scratch import Scratch
from vicinal.index.spaces import capacity_of, space_at
from vicinal.types import Bits, Metric, Rows

__all__ = ["furthest_of", "walk_floats"]

EFS = (16, 32, 64, 128, 256, 512)
_SCANS_MOST = 16  # queries that are scanned exactly instead


def furthest_of(
    metric: Metric,
    rows: Rows,
    linked: NDArray[np.bool_],
    asked: NDArray[np.int64],
    listed: NDArray[np.int64],
    unclear: float,
) -> NDArray[np.float64]:
    """The distance of the last of each asked row's nearest, with room for another order of adding; -inf: unknown.

    linked (n,): rows that count. listed (m, count): likely nearest rows, found by products; where the last of them is
    nearer than `unclear`, products cannot tell which are, and all rows are scanned, for a few of the asked.
    """
    found = np.full(len(asked), -np.inf)
    n = len(linked)
    scans = 0
    for at, slot in enumerate(asked):
        query = rows.vectors[slot]
        _, distances = exact_search_list(metric, rows, query, K, listed[at].astype(np.uint32))
        if distances[-1] < unclear:
            if scans == _SCANS_MOST:
                continue
            scans += 1
            distances = exact_search(metric, rows, query, K, start=0, stop=n, allowed=_without(slot, linked))[1]
        last = float(distances[-1])
        found[at] = last + abs(last) * 1e-5 + (0.0 if metric is Metric.L2 else 2e-7)
    return found


def _without(slot: int, linked: NDArray[np.bool_]) -> Bits:
    others = linked.copy()
    others[slot] = False
    return bits_from_mask(others)


def walk_floats(
    metric: Metric,
    rows: Rows,
    links: NDArray[np.uint32],
    starts: NDArray[np.int64],
    asked: NDArray[np.int64],
    furthest: NDArray[np.float64],
    *,
    pool: Executor,
    parts: int,
) -> tuple[Reference, ...]:
    """Give the recall of the ten nearest at growing ef, until it is all but 1 or stops growing.

    links (n, 32) uint32; starts: the slot from which each row's walk starts, another than that row. The rows asked
    about are shared out in so many parts.
    """
    n = len(links)
    arrays = GraphArrays.empty(links.shape[1] // 2, n, 0)
    arrays.links[:, : links.shape[1]] = links
    scratches = [Scratch() for _ in range(parts)]

    def walked(ef: int, part: int) -> int:
        """How many of the ten nearest of a part of the rows are found."""
        of = slice(part, None, parts)
        return sum(
            _found(metric, rows, arrays, scratches[part], ef, slot, start, last)
            for slot, start, last in zip(asked[of].tolist(), starts[of].tolist(), furthest[of].tolist(), strict=True)
        )

    measured: list[Reference] = []
    for ef in EFS:
        found = sum(pool.map(partial(walked, ef), range(parts)))
        measured.append(Reference(ef, found / (K * len(asked))))
        if measured[-1].recall >= GOOD_ENOUGH:
            break
    return tuple(measured)


def _found(
    metric: Metric, rows: Rows, arrays: GraphArrays, scratch: Scratch, ef: int, slot: int, start: int, last: float
) -> int:
    from vicinal.kernels.beam import search

    capacity = min(capacity_of(metric, rows), arrays.capacity)
    scratch.fit(capacity, (ef + 7) >> 3, rows.vectors.shape[1], rows.vectors.dtype)
    scratch.put_query(rows.vectors[slot])
    epoch = scratch.next_epoch()
    scratch.visited[slot] = epoch
    slots, distances = np.empty(K, np.uint32), np.empty(K, np.float32)
    element, space = space_at(metric, rows)
    count = search(
        element, space, arrays.at, capacity, scratch.at, epoch, start, 0, ef, arrays.capacity, 0, 0, slots, distances
    )
    return int((distances[:count] <= last).sum())
