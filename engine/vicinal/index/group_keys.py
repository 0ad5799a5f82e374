"""Keys under which rows that are like most likely meet: quantised random projections of their directions.

A table's key is a hash of ten projections on signs, each cut into cells of eight times the tolerance with an offset of
its own (Datar et al., "Locality-Sensitive Hashing Scheme Based on p-Stable Distributions", 2004), and of the length's
logarithm, cut alike. Two rows at the tolerance meet in one of the eight tables with 97 %, at half of it with 99.9 %.

Departure: directions are rounded to whole numbers so small that sums of them are exact in float32, in any order: equal
rows have equal keys on every processor, whichever rows they come with.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric, Rows

__all__ = ["GroupKeys", "Keyed"]

TABLES: Final = 8
_PROJECTIONS: Final = 10  # of a key
_CELL: Final = 8.0  # tolerances
_EXACT: Final = 1 << 24  # whole numbers up to here are float32
_FLOAT_MAX: Final = float(np.finfo(np.float32).max)
_LENGTHS: Final = 2.0**-20  # a cell of the logarithms of lengths, among exact copies


class Keyed(NamedTuple):
    """Keys of rows, (n, tables) uint32, and the distance from each within which rows are like it, (n,) float32."""

    keys: NDArray[np.uint32]
    reach: NDArray[np.float32]


class GroupKeys:
    """Makes keys of rows; `share` is the tolerance, relative to a row's length, 0 for equal rows alone."""

    def __init__(self, metric: Metric, columns: int, share: float, seed: int = 42) -> None:
        rng = np.random.default_rng(seed)
        self._metric, self._share = metric, share
        dim = columns * 8 if metric.of_bits else columns
        self.tables = TABLES if share else 1
        many = self.tables * _PROJECTIONS
        self._signs = rng.choice(np.array([-1, 1], np.float32), (dim, many))
        self._shifts = rng.random(many)
        self._length_shifts = rng.random(self.tables)
        odd = rng.integers(0, 1 << 63, (self.tables, _PROJECTIONS + 1), np.uint64)
        self._factors = odd * np.uint64(2) + np.uint64(1)
        self._unit = float(int(0.9 * _EXACT / np.sqrt(dim)))  # so that a row's whole numbers sum to less
        self._cell = max(_CELL * self._chord() * self._unit, 1.0)
        self._length_cell = _CELL * share if share else _LENGTHS

    def _chord(self) -> float:
        """How far apart the directions of rows may be that are like, as points on a sphere."""
        if self._metric is Metric.HAMMING:  # signs, of which a share differs
            return 2 * float(np.sqrt(self._share))
        if self._metric is Metric.JACCARD:  # |both| >= (1 - share) |either|, so the cosine is at least 1 - share
            return float(np.sqrt(2 * self._share))
        return self._share

    @property
    def memory_bytes(self) -> int:
        """Bytes of the projections."""
        return self._signs.nbytes

    def of(self, rows: Rows, slots: slice | NDArray[np.integer]) -> Keyed:
        """Keys of some rows."""
        wide = self._numbers(rows.vectors[slots])
        squares = np.square(wide).sum(axis=1)
        lengths = np.sqrt(squares)
        scales = np.divide(self._unit, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        whole = np.rint(wide * scales[:, None]).astype(np.float32)
        projected: NDArray[np.float32] = whole @ self._signs
        cells = np.floor(projected.astype(np.float64) * (1 / self._cell) + self._shifts).astype(np.int64)
        parts = np.empty((len(wide), self.tables, _PROJECTIONS + 1), np.int64)
        parts[:, :, :-1] = cells.reshape(len(wide), self.tables, _PROJECTIONS)
        parts[:, :, -1] = self._of_lengths(lengths)
        mixed = (parts.view(np.uint64) * self._factors).sum(axis=2, dtype=np.uint64)
        mixed ^= mixed >> np.uint64(29)
        keys = (mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)
        return Keyed(keys.astype(np.uint32), self._reach(wide, squares))

    def _numbers(self, block: NDArray[Any]) -> NDArray[np.float64]:
        if not self._metric.of_bits:
            return block.astype(np.float64)
        bits = np.unpackbits(np.ascontiguousarray(block), axis=1).astype(np.float64)
        return 2 * bits - 1 if self._metric is Metric.HAMMING else bits

    def _of_lengths(self, lengths: NDArray[np.float64]) -> NDArray[np.int64]:
        """Cells of lengths, one per table; all the same where length does not matter."""
        if self._share and (self._metric is Metric.COSINE or self._metric.of_bits):
            return np.zeros((len(lengths), 1), np.int64)
        known = np.log(np.maximum(lengths, 1e-300)) / self._length_cell
        return np.floor(known[:, None] + self._length_shifts).astype(np.int64)

    def _reach(self, wide: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float32]:
        """The distance, as kernels compute it, within which rows are like each of these."""
        metric, share = self._metric, self._share
        if metric is Metric.COSINE:
            reach: Any = share * share / 2
        elif metric is Metric.HAMMING:
            reach = share * wide.shape[1]
        elif metric is Metric.JACCARD:
            reach = share
        elif metric is Metric.L1:
            reach = share * np.abs(wide).sum(axis=1)
        else:
            reach = share * share * squares
        return np.broadcast_to(np.minimum(reach, _FLOAT_MAX), len(wide)).astype(np.float32)
