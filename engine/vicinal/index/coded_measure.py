"""Fit what an ef stands for, on rows of the index that the walk may not see."""
# ruff: noqa: SLF001 - the part of CodedIndex that measures, in a file of its own

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.frame import nearest_listed, nearest_rows, sample_slots
from vicinal.index.bulk_graph import UPPER_DEGREE
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import SENTINEL
from vicinal.index.coded_effort import Effort, EffortTable, K, results_room
from vicinal.index.coded_reference import furthest_of, walk_floats
from vicinal.index.exact import exact_search_list
from vicinal.types import Rows

__all__ = ["fitted_efforts"]

_LISTED = K + 6  # likely nearest rows by products, of which K are by distance
_TOLD = 250  # rows that tell what chosen efforts find
_ENTRIES = 4_096


def fitted_efforts(index: CodedIndex, rows: Rows, queries: int, seed: int, threads: int = 1) -> EffortTable | None:
    """Give the table of rows with links, each left out of its own search; None if none can be asked.

    `queries` rows choose among efforts; `_TOLD` others, the same that floats are asked about, tell their recall.
    """
    asked, furthest = _asked(index, rows, queries + _TOLD, seed)
    choosing = np.zeros(len(asked), np.bool_)
    choosing[sample_slots(len(asked), queries * len(asked) // (queries + _TOLD), seed)] = True
    if not choosing.any() or choosing.all():
        return None
    choosers, tellers = _Asked(asked[choosing], furthest[choosing]), _Asked(asked[~choosing], furthest[~choosing])
    links = index._arrays.links[: index.n]
    starts = nearest_listed(index._frame, rows, _entries(index, seed), tellers.slots)
    with ThreadPoolExecutor(threads, "vicinal-fit") as pool:

        def recall(asked: _Asked, effort: Effort) -> tuple[float, float]:
            parts = [_Asked(asked.slots[part::threads], asked.furthest[part::threads]) for part in range(threads)]
            found, hops = np.sum(list(pool.map(partial(_searched, index, rows, effort), parts)), axis=0).tolist()
            return found / (K * len(asked.slots)), hops / len(asked.slots)

        return EffortTable.fit(
            partial(recall, choosers),
            exact_walk=index._arrays.exact_walk,
            reference=walk_floats(index.metric, rows, links, starts, *tellers, pool=pool, parts=threads),
            again=partial(recall, tellers),
        )


class _Asked(NamedTuple):
    """Rows to measure with, and how far the last of each one's nearest is."""

    slots: NDArray[np.int64]
    furthest: NDArray[np.float64]


def _searched(index: CodedIndex, rows: Rows, effort: Effort, asked: _Asked) -> tuple[int, int]:
    """Search with an effort; give how many of the ten nearest were found and the rows expanded."""
    vectors, inv_norms, _ = index._bind(rows)
    arrays, wanted = index._arrays, K if vectors else max(K, effort.settle)
    scratch = index._borrow(arrays, effort.pool, results_room(effort, K))
    slots = np.empty((len(asked.slots), wanted), np.uint32)
    distances = np.full(slots.shape, np.inf, np.float32)
    packed, hops = index._packed_effort(effort), 0
    queries = rows.vectors[asked.slots].astype(np.float32, copy=False)
    again = not vectors or arrays.fine is not None  # measured as on floats, to the last bit
    for hidden, query, named, near in zip(asked.slots.tolist(), queries, slots, distances, strict=True):
        scratch.aim(arrays, rows, (vectors, inv_norms), index.n, hidden=hidden)
        count = index.walked(query, scratch.call_at, packed, named, near)
        hops += scratch.hops.item(0)
        if again:
            on_floats = exact_search_list(index.metric, rows, rows.vectors[hidden], K, named[:count])[1]
            near[: len(on_floats)], near[len(on_floats) :] = on_floats, np.inf
    scratch.index_at = 0  # to be aimed again: it hides a slot
    index._free.append(scratch)
    return int((distances <= asked.furthest[:, None]).sum()), hops


def _entries(index: CodedIndex, seed: int) -> NDArray[np.int64]:
    """Where walks on floats may start: as many rows as the levels above a graph of floats hold, or a few thousand."""
    linked = np.flatnonzero(index._arrays.links[: index.n, 0] != SENTINEL)
    some = linked[sample_slots(len(linked), min(len(linked) // UPPER_DEGREE, _ENTRIES), seed + 1)]
    return np.union1d(index._arrays.cell_nodes[:, 0], some).astype(np.int64)


def _asked(index: CodedIndex, rows: Rows, queries: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose rows to measure with, and give how far the last of each one's nearest is.

    By distance, not by id: of many equal rows any is right.
    """
    linked, frame = index._arrays.links[: index.n, 0] != SENTINEL, index._frame
    asked = np.flatnonzero(linked)[sample_slots(int(linked.sum()), queries, seed)]
    asked = asked[~np.isin(asked, index._arrays.cell_nodes)]
    listed = nearest_rows(frame, rows, index.n, asked, _LISTED, None if linked.all() else linked)
    furthest = furthest_of(index.metric, rows, linked, asked, listed, frame.unclear)
    known = furthest > -np.inf
    return asked[known], furthest[known]
