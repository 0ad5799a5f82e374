"""vicinal's links under the textbook's beam search on floats, counted: what the graph is worth, apart from codes.

This is also what a collection does where codes cannot tell rows apart (`index.field_index`).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bench.rivals.base import Floats, Rival, unit
from vicinal.index.builder import build_links
from vicinal.types import Metric, Rows

EF = (10, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 640, 900, 1300)
_END = 0xFFFFFFFF


@numba.njit(fastmath=True, cache=True)  # type: ignore[untyped-decorator]
def _far(a: Any, b: Any, product: Any) -> Any:
    total = np.float32(0)
    if product:
        for i in range(a.shape[0]):
            total -= a[i] * b[i]
    else:
        for i in range(a.shape[0]):
            total += (a[i] - b[i]) * (a[i] - b[i])
    return total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _descend(rows: Any, upper: Any, upper_row: Any, entry: Any, query: Any, product: Any) -> Any:
    """Greedy steps on the upper levels; gives the slot, its distance and how many were computed."""
    here, best, count = entry, _far(rows[entry], query, product), 1
    for level in range(upper.shape[0] - 1, -1, -1):
        moved = True
        while moved:
            moved = False
            row = upper_row[here]
            for t in range(upper.shape[2]):
                slot = upper[level, row, t]
                if slot == _END:
                    break
                far = _far(rows[slot], query, product)
                count += 1
                if far < best:
                    here, best, moved = np.int64(slot), far, True
    return here, best, count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _walk(
    rows: Any,
    links: Any,
    start: Any,
    far: Any,
    query: Any,
    product: Any,
    marks: Any,
    stamp: Any,
    slots: Any,
    distances: Any,
    expanded: Any,
) -> Any:
    """Beam search as wide as `slots`; gives how many it holds and how many distances it computed."""
    ef, n, at, count = slots.shape[0], 1, 0, 0
    slots[0], distances[0], expanded[0], marks[start] = start, far, 0, stamp
    while at < n:
        if expanded[at]:
            at += 1
            continue
        expanded[at] = 1
        following = at + 1
        for slot in links[slots[at]]:
            if slot == _END:
                break
            if marks[slot] == stamp:
                continue
            marks[slot] = stamp
            far = _far(rows[slot], query, product)
            count += 1
            if n == ef and far >= distances[n - 1]:
                continue
            place = np.searchsorted(distances[:n], far)
            n = min(n + 1, ef)
            for j in range(n - 1, place, -1):
                slots[j], distances[j], expanded[j] = slots[j - 1], distances[j - 1], expanded[j - 1]
            slots[place], distances[place], expanded[place] = slot, far, 0
            following = min(following, place)
        at = following
    return n, count


class LinksOnFloats(Rival):
    """build_links with its defaults; the setting is ef."""

    package = "vicinal"
    settings = EF

    def build(self, base: Floats, metric: str, threads: int) -> None:
        made = build_links(Rows(base, _norms(base)), len(base), Metric(metric), threads=threads)
        assert made is not None  # None only when cancelled
        self.made = made
        self.rows, kind = unit(base, metric)
        self.product = kind == "ip"
        self.marks, self.stamp, self.counted = np.zeros(len(base), np.int32), 0, 0

    def query(self, vector: Floats, k: int) -> Any:
        made, ef = self.made, max(self.setting, k)
        slots, distances = np.zeros(ef, np.int64), np.zeros(ef, np.float32)
        expanded: NDArray[np.uint8] = np.zeros(ef, np.uint8)
        self.stamp += 1
        here, far, steps = _descend(self.rows, made.upper, made.upper_row, made.entry, vector, self.product)
        n, count = _walk(
            self.rows, made.links, here, far, vector, self.product, self.marks, self.stamp, slots, distances, expanded
        )
        self.counted = steps + count
        return slots[: min(k, n)]

    def distances(self) -> float:
        return float(self.counted)


def _norms(base: Floats) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = (1 / np.maximum(np.linalg.norm(base, axis=1), 1e-30)).astype(np.float32)
    return norms
