"""What must hold of a field's index whatever it is: a graph on floats, a coded graph or cells. Reads no vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.index.cells import CellsIndex
from vicinal.index.check import check_graph
from vicinal.index.coded_arrays import SENTINEL
from vicinal.index.graph import GraphPicture

__all__ = ["cells_problems", "coded_problems", "float_problems"]


def float_problems(picture: GraphPicture) -> list[str]:
    """What does not hold of a graph on floats, in words."""
    return check_graph(picture).problems


def coded_problems(links: NDArray[np.uint32], entries: NDArray[np.integer], removed: NDArray[np.bool_]) -> list[str]:
    """What does not hold of coded links (n, 32), in words: of their ends, and that the entries reach every slot.

    removed (n,): slots that no link leads to and none needs to.
    """
    n = len(links)
    ended = links == SENTINEL
    owners = np.arange(n, dtype=np.uint32)[:, None]
    for wrong, what in (
        ((links >= n) & ~ended, f"links beyond the {n} slots"),
        ((links == owners) & ~ended, "links to itself"),
        (ended[:, :-1] & ~ended[:, 1:], "has a link after its end"),
    ):
        found = np.flatnonzero(wrong.any(axis=1))
        if len(found):
            return [f"slot {found[0]} {what}"]
    if removed[links[~ended]].any() or not ended[removed].all():
        return ["a link leads from or to a removed slot"]
    stranded = np.flatnonzero(~_reached(links, entries) & ~removed)
    if len(stranded):
        return [f"{len(stranded)} slots cannot be reached from the entries, the first is {stranded[0]}"]
    return []


def _reached(links: NDArray[np.uint32], entries: NDArray[np.integer]) -> NDArray[np.bool_]:
    from vicinal.kernels.repair import reach

    n = len(links)
    seen = np.zeros(n, np.uint8)
    first = np.unique(entries).astype(np.int32)
    seen[first] = 1
    queue = np.empty(n, np.int32)
    queue[: len(first)] = first
    reach(np.ascontiguousarray(links).view(np.int32), queue, seen, 0, len(first))
    return seen.view(np.bool_)


def cells_problems(cells: CellsIndex) -> list[str]:
    """What does not hold of cells, in words: every slot is in one, but for those dropped."""
    members = cells.lists.members().order
    if len(members) and int(members.max()) >= cells.n:
        return [f"a cell holds slot {int(members.max())} of {cells.n}"]
    held = np.bincount(members, minlength=cells.n)
    if (held > 1).any():
        return [f"slot {int(np.argmax(held > 1))} is in two cells"]
    missing = held == 0
    missing[: len(cells.dropped)] &= ~cells.dropped
    return (
        [f"{int(missing.sum())} slots are in no cell, the first is {int(np.argmax(missing))}"] if missing.any() else []
    )
