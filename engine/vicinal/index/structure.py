"""Invariants of a graph's arrays, checked without reading vectors: of a snapshot before it is used, and by `verify`.

Kernels have no bounds checks, so a graph that breaks one of these could read beyond its arrays or never end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vicinal.index.graph import GraphPicture
from vicinal.kernels.beam import COPY
from vicinal.kernels.insert import LEVEL_MAX
from vicinal.kernels.remove import REMOVED
from vicinal.kernels.simd import SENTINEL

__all__ = ["in_degrees", "removed_slots", "structure_problems"]

_SLOT = np.uint32(COPY - 1)


def _targets(picture: GraphPicture) -> NDArray[np.uint32]:
    """Links of level 0, (n, M0), flags and all."""
    return picture.arrays.links[: picture.n, : 2 * picture.arrays.M]


def removed_slots(picture: GraphPicture) -> NDArray[np.bool_]:
    """Which of the n slots were taken out: (n,), no link leads from or to them."""
    removed: NDArray[np.bool_] = picture.arrays.levels[: picture.n] == REMOVED
    return removed


def in_degrees(picture: GraphPicture) -> NDArray[np.uint32]:
    """How many level-0 links lead to each slot, those to copies left out: (n,) uint32."""
    links = _targets(picture)
    plain = links[links < COPY]
    return np.bincount(plain, minlength=picture.n).astype(np.uint32)


def structure_problems(picture: GraphPicture) -> list[str]:
    """What does not hold, in words; empty when the graph is sound. Stops at the first group that fails."""
    for group in (_entry, _rows_of_level_0, _removed, _copies, _upper_levels):
        problems = list(group(picture))
        if problems:
            return problems
    return []


def _entry(picture: GraphPicture) -> Iterator[str]:
    arrays, n = picture.arrays, picture.n
    if n > arrays.capacity:
        yield f"n is {n} but there is room for {arrays.capacity} slots"
        return
    levels = arrays.levels[:n][~removed_slots(picture)]
    if len(levels) == 0:
        if picture.entry != -1:
            yield f"the entry point is {picture.entry} in an empty graph"
    elif not 0 <= picture.entry < n:
        yield f"the entry point {picture.entry} is not one of {n} slots"
    elif not arrays.levels[picture.entry] == picture.top == levels.max() <= LEVEL_MAX:
        yield (
            f"the entry point is on level {arrays.levels[picture.entry]}, the top is {picture.top} and the highest"
            f" level {levels.max()} (at most {LEVEL_MAX})"
        )


def _bad_rows(rows: NDArray[np.uint32], n: int, owners: NDArray[np.integer]) -> Iterator[str]:
    """Rows with a slot out of range, a link to themselves or a link after the end."""
    slots = rows & _SLOT
    ended = rows == SENTINEL
    for wrong, what in (
        ((slots >= n) & ~ended, f"links beyond the {n} slots"),
        ((slots == owners[:, None]) & ~ended, "links to itself"),
        (ended[:, :-1] & ~ended[:, 1:], "has a link after its end"),
    ):
        found = np.flatnonzero(wrong.any(axis=1))
        if len(found):
            yield f"slot {owners[found[0]]} {what}"


def _rows_of_level_0(picture: GraphPicture) -> Iterator[str]:
    yield from _bad_rows(_targets(picture), picture.n, np.arange(picture.n))


def _removed(picture: GraphPicture) -> Iterator[str]:
    """Slots that were taken out have no link, and none leads to them."""
    gone = removed_slots(picture)
    links = _targets(picture)
    if (links[gone] != SENTINEL).any():
        yield "a removed slot has links"
    if gone[links[links != SENTINEL] & _SLOT].any():
        yield "a link leads to a removed slot"


def _copies(picture: GraphPicture) -> Iterator[str]:
    """Copies form trees whose slots rise from parent to child, and link to copies only."""
    links = _targets(picture)
    flagged = (links >= COPY) & (links != SENTINEL)
    parents, columns = np.nonzero(flagged)
    children = links[parents, columns] & _SLOT
    if len(np.unique(children)) != len(children):
        yield "a copy hangs in two places"
    if (children <= parents).any():
        yield "a copy is older than the row it hangs under"
    if picture.arrays.levels[children].any():
        yield "a copy is on an upper level"
    if (links[children] < COPY).any():
        yield "a copy links to a slot that is no copy"
    is_copy = np.zeros(picture.n, bool)
    is_copy[children] = True
    if is_copy[links[links < COPY]].any():
        yield "a link leads to a copy without saying so"


def _upper_levels(picture: GraphPicture) -> Iterator[str]:
    arrays, n = picture.arrays, picture.n
    levels = np.where(removed_slots(picture), 0, arrays.levels[:n]).astype(np.int64)
    offsets = arrays.offsets[:n].astype(np.int64)
    if n and (offsets + levels > len(arrays.upper)).any():
        yield "a slot's rows lie beyond the upper levels"
        return
    for level in range(1, picture.top + 1):
        owners = np.flatnonzero(levels >= level)
        rows = arrays.upper[offsets[owners] + level - 1, : arrays.M]
        wrong = list(_bad_rows(rows, n, owners))
        if not wrong and ((rows >= COPY) & (rows != SENTINEL)).any():
            wrong = ["a link leads to a copy"]
        if not wrong and (levels[rows[rows != SENTINEL]] < level).any():
            wrong = ["a link leads to a slot that is not on its level"]
        yield from (f"level {level}: {what}" for what in wrong)
