"""Fit what an ef stands for, on rows of the index that the walk may not see."""
# ruff: noqa: SLF001 - the part of CodedIndex that measures, in a file of its own

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.frame import nearest_rows, sample_slots
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import SENTINEL
from vicinal.index.coded_effort import Effort, EffortTable, K, results_room
from vicinal.index.coded_reference import furthest_of, walk_floats
from vicinal.index.exact import exact_search_list
from vicinal.types import Rows

__all__ = ["fitted_efforts"]

_LISTED = K + 6  # likely nearest rows by products, of which K are by distance


def fitted_efforts(index: CodedIndex, rows: Rows, queries: int, seed: int) -> EffortTable | None:
    """Give the table of `queries` rows with links, each left out of its own search; None if none can be asked."""
    vectors, inv_norms, _ = index._bind(rows)
    arrays = index._arrays
    asked, furthest = _asked(index, rows, queries, seed)
    if not len(asked):
        return None
    links, entries = arrays.links[: index.n], np.unique(arrays.cell_nodes)
    reference = walk_floats(index.metric, rows, links, entries, asked, furthest)

    def measure(effort: Effort) -> tuple[float, float]:
        scratch = index._scratch(arrays, effort.pool, results_room(effort, K))
        wanted = K if vectors else max(K, effort.settle)
        slots, distances = np.empty(wanted, np.uint32), np.empty(wanted, np.float32)
        packed, found, hops = index._packed_effort(effort), 0, 0
        for at, slot in enumerate(asked):
            query = rows.vectors[slot]
            scratch.aim(arrays, rows, (vectors, inv_norms), index.n, hidden=int(slot))
            count = index._walk(query.astype(np.float32, copy=False), scratch.call_at, packed, slots, distances)
            near = distances[:count]
            if not vectors or arrays.fine is not None:  # measured as on floats, to the last bit
                _, near = exact_search_list(index.metric, rows, query, K, slots[:count])
            found += int((near <= furthest[at]).sum())
            hops += int(scratch.hops[0])
        return found / (K * len(asked)), hops / len(asked)

    return EffortTable.fit(measure, exact_walk=arrays.exact_walk, reference=reference)


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
