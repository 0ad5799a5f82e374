"""The graph of one dense field: HNSW on floats while it is small, coded lines when it is large.

A small graph is grown point by point. From `CODED_FROM_ROWS` on the graph is built in bulk and walked on codes, which
is several times as fast; points that come later are inserted into it, and when they are many it is built again,
because that costs less than inserting them one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.index import coded_snapshot
from vicinal.index.builder import build_links
from vicinal.index.bulk_insert import GrowingLinks, prefers_rebuild
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import DEGREE
from vicinal.index.exact import Found
from vicinal.index.graph import GraphPicture
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.types import Bits, HnswParams, Metric, Rows

__all__ = ["CODED_FROM_ROWS", "FieldIndex", "Searcher"]

CODED_FROM_ROWS: Final = 10_000  # below, an insertion costs little and the kernels of a bulk build are not compiled
TRUSTED_RECALL: Final = 0.95  # that the codes must reach at some ef on rows left out of their own search
CHUNK_ROWS: Final = 1024  # rows per call of `extend`, so that a View is published steadily

Cancel = Callable[[], bool]


class Searcher(Protocol):
    """A graph as a reader holds it: it answers over slots below `n` whatever the writer does next."""

    @property
    def n(self) -> int:
        """Slots [0, n) are in the graph."""

    @property
    def nbytes(self) -> int:
        """Bytes of the graph, without the vectors."""

    @property
    def layout(self) -> str:
        """`float` or `coded`."""

    def search(
        self, query: NDArray[np.float32], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None
    ) -> Found:
        """At most k nearest of the allowed slots below limit, nearest first."""


@dataclass(frozen=True, slots=True)
class FloatSearcher:
    """A picture of an HNSW graph."""

    picture: GraphPicture
    metric: Metric
    layout: str = "float"

    @property
    def n(self) -> int:
        """Slots in the graph."""
        return self.picture.n

    @property
    def nbytes(self) -> int:
        """Bytes of links and levels."""
        return self.picture.arrays.nbytes

    def search(
        self, query: NDArray[np.float32], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None
    ) -> Found:
        """Beam search on floats."""
        return search_graph(self.picture, self.metric, rows, query, k, ef, limit=limit, allowed=allowed)


@dataclass(frozen=True, slots=True)
class CodedSearcher:
    """A coded index up to the rows it had when the View was made."""

    index: CodedIndex
    n: int
    layout: str = "coded"

    @property
    def nbytes(self) -> int:
        """Bytes of codes, rows and links."""
        return self.index.memory_bytes

    def search(
        self, query: NDArray[np.float32], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None
    ) -> Found:
        """Walk on codes, settled on the stored floats."""
        return self.index.search(query, k, ef, rows=rows, limit=limit, allowed=allowed)


class FieldIndex:
    """Grows by `extend`, one thread; readers take a `searcher`."""

    def __init__(
        self, metric: Metric, dim: int, params: HnswParams, *, coded_from: int | None = CODED_FROM_ROWS
    ) -> None:
        self._metric, self._dim, self._params = metric, dim, params
        self._coded_from = coded_from  # None: floats however large it grows
        self._small = HnswIndex(metric, dim, params)
        self._large: CodedIndex | None = None
        self._growing: GrowingLinks | None = None  # made on the first insertion after a build
        self._entry = 0  # a slot from which insertion sees that all others are reached

    @property
    def n(self) -> int:
        """Slots [0, n) are in the graph."""
        return self._small.n if self._large is None else self._large.n

    def searcher(self) -> Searcher | None:
        """What a reader needs; None while the graph is empty."""
        if self._large is not None:
            return CodedSearcher(self._large, self._large.n)
        return FloatSearcher(self._small.picture(), self._metric) if self._small.n else None

    def extend(self, rows: Rows, stop: int, cancel: Cancel) -> None:
        """Take some or all of the slots n .. stop - 1 into the graph; `n` says how far it came."""
        if self._large is None and not self._wants_codes(stop):
            self._small.extend(rows, min(stop, self._small.n + CHUNK_ROWS), cancel)
        elif self._large is None or prefers_rebuild(self._large.n, stop):
            self._build(rows, stop, cancel)
        else:
            self._insert(self._large, rows, min(stop, self._large.n + CHUNK_ROWS), cancel)

    def _wants_codes(self, stop: int) -> bool:
        return self._coded_from is not None and stop >= self._coded_from and self._params.M * 2 == DEGREE

    def _build(self, rows: Rows, stop: int, cancel: Cancel) -> None:
        threads = os.cpu_count() or 1
        seed = self._params.seed
        links = build_links(rows, stop, self._metric, threads=threads, cancel=cancel, seed=seed, fill=True)
        if links is None:
            return
        large = CodedIndex.build(rows, stop, self._metric, links.links, seed=seed)
        if large.efforts.ef_for(TRUSTED_RECALL) is None:
            # codes cannot tell these rows apart (tight groups far from each other): walk the same links on floats
            self._large, self._growing, self._coded_from = None, None, None
            self._small = HnswIndex.from_links(self._metric, self._dim, self._params, links)
            return
        self._large = large
        self._small = HnswIndex(self._metric, self._dim, self._params)
        self._growing, self._entry = None, links.entry

    def _insert(self, large: CodedIndex, rows: Rows, stop: int, cancel: Cancel) -> None:
        if self._growing is None:
            links = large._arrays.links[: large.n]  # noqa: SLF001
            self._growing = GrowingLinks(
                rows, large.n, self._metric, links, entry=self._entry, threads=os.cpu_count() or 1
            )
        patch = self._growing.insert_links(rows, stop, cancel=cancel)
        large.append(rows, large.n, self._growing.n)
        large.patch_links(patch.slots, patch.links)

    def encode(self) -> bytes:
        """The graph as bytes: links and what was fitted; codes are made again from the vectors."""
        if self._large is None:
            return self._small.encode()
        return coded_snapshot.encode(self._large.fitted(self._entry))

    def decode(self, buffer: memoryview | bytes, rows: Rows, slots: int) -> None:
        """Take over a graph of at most `slots` slots; CorruptData, or FormatTooNew, unless all of it holds."""
        view = memoryview(buffer)
        if bytes(view[: len(coded_snapshot.MAGIC)]) != coded_snapshot.MAGIC:
            self._small = HnswIndex.decode(view, self._metric, self._dim, self._params, slots)
            return
        known = coded_snapshot.decode(view, self._metric, self._dim, slots)
        self._large = CodedIndex.of_choice(
            rows, len(known.links), self._metric, known.choice, known.links, fine=known.fine, efforts=known.efforts
        )
        self._entry = known.entry
