"""A hierarchical navigable small world graph over slots (Malkov & Yashunin 2018).

The index holds links, never vectors: rows come with every call. One writer extends it; any number of readers search
pictures of it meanwhile. Departures from the paper are listed in `kernels.beam` and `kernels.insert`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index import snapshot
from vicinal.index.builder import Links
from vicinal.index.exact import Found
from vicinal.index.graph import GraphArrays, GraphPicture
from vicinal.index.scratch import Scratch, address, aligned, give_back, take
from vicinal.index.spaces import bits_at, capacity_of, space_at, space_of
from vicinal.index.structure import in_degrees, removed_slots
from vicinal.kernels.beam import Graph, search
from vicinal.kernels.exact import Work
from vicinal.kernels.insert import ENTRY, EPOCH, STATE, TOP, Builder, draw_levels, insert
from vicinal.kernels.reach import mend
from vicinal.kernels.remove import REMOVED, remove
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Bits, HnswParams, Metric, Rows

__all__ = ["HnswIndex", "search_graph"]

_CHUNK = 128  # slots inserted per kernel call: some tens of milliseconds without a look at `cancel`
_MEND_SHARE = 32  # look for unreachable slots when a 32nd of them is new: a pass over all links
_POOL_VECTORS_MAX = 1024  # candidates kept under a filter: 8,192


class HnswIndex:
    """The graph of one vector field; slots [0, n) are in it.

    Not safe for concurrent `extend`: one writer. `picture` gives readers what they need.
    """

    def __init__(self, metric: Metric, dim: int, params: HnswParams) -> None:
        self.metric, self.dim, self.params = metric, dim, params
        self.n = 0
        self._arrays = GraphArrays.empty(params.M, 0, 0)
        self._upper_used = 0
        self._in_degrees: NDArray[np.uint32] = aligned((0,), np.uint32)
        self._state = np.zeros(STATE, np.int64)
        self._state[ENTRY] = -1
        self._mended = 0
        self._scratch = Scratch()
        self._lists = aligned((2, 512), np.uint32)
        self._ranked = aligned((600,), np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the graph in memory."""
        return self._arrays.nbytes + self._in_degrees.nbytes

    def picture(self) -> GraphPicture:
        """What a reader needs; stays searchable whatever the writer does next."""
        return GraphPicture(self._arrays, self.n, int(self._state[ENTRY]), int(self._state[TOP]))

    def extend(self, rows: Rows, stop: int, cancel: Callable[[], bool] | None = None, *, reached: bool = False) -> None:
        """Insert slots n .. stop - 1, whose rows must be in place; returns early when `cancel()` is true.

        `n` says how far it came. Equal slots in equal batches give equal bytes. reached: see that every slot can be
        reached afterwards, which takes a look at all links; else that is done now and then.
        """
        self._check(rows, stop)
        space = space_of(self.metric, rows)
        while self.n < stop:
            if cancel is not None and cancel():
                break
            end = min(self.n + _CHUNK, stop)
            self._make_room(end, stop)
            graph = self._graph(end)
            insert(space, graph, self._work(graph.capacity), self._builder(), self.n, end)
            self.n = end
        if self.n - self._mended > (0 if reached else self.n // _MEND_SHARE):
            self.mend(rows)

    def _check(self, rows: Rows, stop: int) -> None:
        if rows.vectors.shape[1] != self.dim or len(rows.vectors) < stop:
            raise ValueError(f"rows {rows.vectors.shape} do not hold {stop} vectors of {self.dim} dimensions")
        if self.metric is Metric.COSINE and len(rows.inv_norms) < stop:
            raise ValueError(f"inv_norms holds {len(rows.inv_norms)} rows, {stop} are needed under cosine")

    def mend(self, rows: Rows) -> int:
        """Make every slot reachable from the entry point; returns how many were not. `extend` calls it now and then."""
        self._check(rows, self.n)
        if self.n == 0:
            return 0
        graph = self._graph(self.n)
        marks = np.empty(self.n, np.uint8)
        parents, queue = np.empty((2, self.n), np.uint32)
        space = space_of(self.metric, rows)
        self._mended = self.n
        return int(mend(space, graph, self._work(graph.capacity), self._builder(), marks, parents, queue))

    @property
    def removed(self) -> NDArray[np.bool_]:
        """Which of the n slots were taken out."""
        return removed_slots(self.picture())

    def remove(self, rows: Rows, slots: NDArray[np.integer]) -> None:
        """Take slots below n out: whatever linked to one is linked again, and every other slot stays reachable.

        Pictures taken before keep the graph as it was. Slots that were taken out before are left aside.
        """
        self._check(rows, self.n)
        dead = np.zeros(self.n, np.uint8)
        dead[slots] = 1
        dead[self.removed] = 0
        gone = np.flatnonzero(dead)[::-1].copy()
        if len(gone) == 0:
            return
        self._arrays = self._arrays.copied()
        vectors = max(self.params.ef_construction, 4 * self.params.M) + 7 >> 3
        graph, work = self._graph(self.n), self._work(self.n, vectors)
        heirs, parents = np.full((2, self.n), SENTINEL, np.uint32)
        remove(space_of(self.metric, rows), graph, work, self._builder(), vectors, gone, dead, heirs, parents)
        self.mend(rows)

    def _make_room(self, end: int, stop: int) -> None:
        """Draw the levels of slots n .. end - 1 and see that every array holds them."""
        n, count = self.n, end - self.n
        levels = np.empty(count, np.uint8)
        draw_levels(n, end, self.params.M, self.params.seed, levels)
        capacity, rows = self._arrays.capacity, len(self._arrays.upper)
        used = self._upper_used + int(levels.sum(dtype=np.int64))
        if end > capacity:
            capacity = max(stop, capacity + capacity // 4, 1024)
        if used > rows:
            rows = max(used, rows + rows // 4, capacity // max(self.params.M - 1, 1) + 64)
        if capacity > self._arrays.capacity or rows > len(self._arrays.upper):
            self._arrays = self._arrays.grown(n, capacity, self._upper_used, rows)
            degrees = aligned((capacity,), np.uint32)
            degrees[:n] = self._in_degrees[:n]
            self._in_degrees = degrees
        self._arrays.levels[n:end] = levels
        starts = np.cumsum(levels, dtype=np.int64) - levels
        self._arrays.offsets[n:end] = self._upper_used + starts
        self._upper_used = used

    def _work(self, capacity: int, vectors: int = 0) -> Work:
        vectors = vectors or (self.params.ef_construction + 7) >> 3
        self._scratch.fit(max(capacity, self._arrays.capacity), vectors, self.dim)
        if self._scratch.epoch == 0:  # the marks are new
            self._state[EPOCH], self._scratch.epoch = 0, 1
        return self._scratch.work()

    def _graph(self, capacity: int) -> Graph:
        return self._arrays.graph()._replace(capacity=capacity)

    def _builder(self) -> Builder:
        return Builder(
            state=address(self._state),
            levels=address(self._arrays.levels),
            in_degrees=address(self._in_degrees),
            ef_vectors=(self.params.ef_construction + 7) >> 3,
            chosen=address(self._lists),
            ranked=address(self._ranked) + 64,
            ranked_vectors=(2 * self.params.M + 8) >> 3,
        )

    def encode(self) -> bytes:
        """The graph as bytes (`index.snapshot`)."""
        return snapshot.encode(self.picture(), self._upper_used)

    @classmethod
    def decode(cls, buffer: bytes | memoryview, metric: Metric, dim: int, params: HnswParams, slots: int) -> HnswIndex:
        """The index of a snapshot; raises CorruptData unless every part of it holds.

        slots: how many slots exist; a snapshot of more is refused, and so is one of another M.
        """
        picture, upper_used = snapshot.decode(buffer, params.M, slots)
        return cls._of(metric, dim, params, picture, upper_used)

    @classmethod
    def from_links(
        cls, metric: Metric, dim: int, params: HnswParams, links: Links, removed: NDArray[np.bool_] | None = None
    ) -> HnswIndex:
        """The index of a graph built in bulk, which has 32 links on level 0 and 16 above: params.M is 16.

        removed (n,): slots that were left out of it.
        """
        n, levels = len(links.level), links.level.astype(np.int64)
        used = int(levels.sum())
        arrays = GraphArrays.empty(params.M, n, max(used, 1))
        offsets = np.cumsum(levels) - levels
        arrays.links[:, : links.links.shape[1]] = links.links
        arrays.levels[:], arrays.offsets[:] = links.level, offsets
        for level in range(len(links.upper)):
            slots = np.flatnonzero(levels > level)
            arrays.upper[offsets[slots] + level, : params.M] = links.upper[level, links.upper_row[slots]]
        some = n > 0
        if removed is not None:
            arrays.levels[removed] = REMOVED
            some = not removed.all()
        picture = GraphPicture(arrays, n, links.entry if some else -1, int(links.level.max(initial=0)))
        return cls._of(metric, dim, params, picture, used)

    @classmethod
    def _of(cls, metric: Metric, dim: int, params: HnswParams, picture: GraphPicture, upper_used: int) -> HnswIndex:
        index = cls(metric, dim, params)
        index.n = index._mended = picture.n
        index._arrays, index._upper_used = picture.arrays, upper_used
        index._in_degrees = aligned((picture.arrays.capacity,), np.uint32)
        index._in_degrees[: picture.n] = in_degrees(picture)
        index._state[ENTRY], index._state[TOP] = picture.entry, picture.top
        return index


def search_graph(
    picture: GraphPicture,
    metric: Metric,
    rows: Rows,
    query: NDArray[Any],
    k: int,
    ef: int,
    *,
    limit: int,
    allowed: Bits | None = None,
) -> Found:
    """The (approximately) k nearest slots of the graph: beam search of width max(ef, k).

    query: (dim,) of the rows' dtype. Slots >= limit and slots outside `allowed` are routed through and never returned.
    Returns (slots uint32, distances float32) ascending, ties by slot; fewer than k when fewer were found. The GIL is
    released meanwhile; any number of threads may search while the writer extends the index.
    """
    arrays, vectors = picture.arrays, rows.vectors
    k = min(k, limit, arrays.capacity)
    if k <= 0 or picture.entry < 0:
        return np.empty(0, np.uint32), np.empty(0, np.float32)
    capacity = min(capacity_of(metric, rows), arrays.capacity)
    if picture.entry >= capacity:
        raise ValueError(f"the graph holds {picture.n} slots, rows has room for {capacity}")
    (element, space), bits = space_at(metric, rows), bits_at(allowed, min(limit, capacity))
    slots, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
    ef = max(ef, k)
    scratch = take(capacity, (ef + 7) >> 3, vectors.shape[1], vectors.dtype)
    try:
        scratch.put_query(query)
        count = -1
        for apart in (0, 1) if allowed is None else (1,):
            if count >= 0:
                break
            scratch.fit(
                capacity, max((ef + 7) >> 3, _POOL_VECTORS_MAX if apart else 0), vectors.shape[1], vectors.dtype
            )
            epoch, at = scratch.next_epoch(), picture.entry
            count = search(
                element, space, arrays.at, capacity, scratch.at, epoch, at, picture.top, ef, limit, bits, apart,
                slots, distances,
            )  # fmt: skip
    finally:
        give_back(scratch)
    return slots[:count], distances[:count]
