"""The graph's arrays and what readers see of them.

Links are rows of uint32, ended by SENTINEL unless full, each beginning on a cache line. Level 0 has one row per
slot; the levels above share one array, in which a slot of level L owns L rows from `offsets[slot]` on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.scratch import address, aligned
from vicinal.kernels.beam import Graph
from vicinal.kernels.simd import SENTINEL

__all__ = ["GraphArrays", "GraphPicture", "row_width"]

_LANES = 16  # uint32 in a cache line


def row_width(links: int) -> int:
    """Entries of a row that has room for so many links: whole cache lines."""
    return -(-links // _LANES) * _LANES


@dataclass(frozen=True, slots=True)
class GraphArrays:
    """One generation of a graph's arrays; growth makes another and leaves this one as it is.

    links (capacity, width of M0) uint32, upper (rows, width of M) uint32, offsets (capacity,) uint32,
    levels (capacity,) uint8, 255 for slots taken out. Columns beyond M0 and M are never used. `at` is the address of
    a block of int64 that the kernels read as `beam.Graph`.
    """

    M: int
    links: NDArray[np.uint32]
    upper: NDArray[np.uint32]
    offsets: NDArray[np.uint32]
    levels: NDArray[np.uint8]
    _block: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    at: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        block = np.array(self.graph(), np.int64)
        object.__setattr__(self, "_block", block)
        object.__setattr__(self, "at", address(block))

    @classmethod
    def empty(cls, M: int, capacity: int, upper_rows: int) -> GraphArrays:
        """Arrays without a link."""
        return cls(
            M,
            aligned((capacity, row_width(2 * M)), np.uint32, SENTINEL),
            aligned((upper_rows, row_width(M)), np.uint32, SENTINEL),
            aligned((capacity,), np.uint32),
            aligned((capacity,), np.uint8),
        )

    @property
    def capacity(self) -> int:
        """How many slots have room."""
        return len(self.levels)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.links.nbytes + self.upper.nbytes + self.offsets.nbytes + self.levels.nbytes

    def grown(self, n: int, capacity: int, upper_used: int, upper_rows: int) -> GraphArrays:
        """A copy of the first n slots with more room; arrays that have it are shared with the copy."""
        if capacity > self.capacity:
            fresh = GraphArrays.empty(self.M, capacity, 0)
            links, offsets, levels = fresh.links, fresh.offsets, fresh.levels
            links[:n], offsets[:n], levels[:n] = self.links[:n], self.offsets[:n], self.levels[:n]
        else:
            links, offsets, levels = self.links, self.offsets, self.levels
        upper = self.upper
        if upper_rows > len(upper):
            upper = aligned((upper_rows, upper.shape[1]), np.uint32, SENTINEL)
            upper[:upper_used] = self.upper[:upper_used]
        return GraphArrays(self.M, links, upper, offsets, levels)

    def copied(self) -> GraphArrays:
        """A copy that shares nothing."""
        fresh = GraphArrays.empty(self.M, self.capacity, len(self.upper))
        for mine, theirs in zip(self._parts(), fresh._parts(), strict=True):  # noqa: SLF001
            theirs[:] = mine
        return fresh

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.links, self.upper, self.offsets, self.levels

    def graph(self) -> Graph:
        """The arrays as the kernels see them."""
        return Graph(
            links=address(self.links),
            links_stride=self.links.shape[1] * 4,
            M0=2 * self.M,
            upper=address(self.upper),
            upper_stride=self.upper.shape[1] * 4,
            M=self.M,
            offsets=address(self.offsets),
            capacity=self.capacity,
        )


@dataclass(frozen=True, slots=True)
class GraphPicture:
    """The graph as a reader keeps it: n slots, entered at `entry` on level `top` (entry -1: empty).

    The writer may add links to the same arrays meanwhile, also to slots >= n; a search skips or drops those.
    """

    arrays: GraphArrays
    n: int
    entry: int
    top: int
