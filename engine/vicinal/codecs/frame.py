"""The frame: where rows are stored as bytes and distances are squared Euclid, or -2 <q, x> under dot.

Float rows are scaled to mean spread 1 about their mean (each to length 1 first under cosine). Under L2, whole numbers
from a range of at most 256 values are only shifted, so their bytes, and all distances, are exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric, Rows

__all__ = ["Frame", "fit_frame", "lines_of", "nearest_rows", "pack64", "sample_slots"]

FloatMatrix = NDArray[np.float32]

LINE = 64
SAMPLE_ROWS = 10_000  # enough for a mean and a spread
_CHECK_ROWS = 8_192
_SCORED_ROWS = 2_048
_UNCLEAR = 1e-4  # where rows have mean spread 1


class Frame(NamedTuple):
    """How vectors enter the frame: x * scale - shift for rows, x * scale - query_shift for queries.

    Under cosine, x is first divided by its length. `whole`: rows are whole numbers 0 .. 255 there. `centre` is
    the rows' mean in the frame (zero unless whole). Arrays are (padded,) float32, zero beyond dim.
    """

    metric: Metric
    dim: int
    padded: int
    scale: float
    whole: bool
    shift: NDArray[np.float32]
    query_shift: NDArray[np.float32]
    centre: NDArray[np.float32]

    def rows(self, rows: Rows, slots: slice | NDArray[np.int64]) -> FloatMatrix:
        """Give stored rows in the frame: (n, dim) float32."""
        x = rows.vectors[slots] * np.float32(self.scale)
        if self.metric is Metric.COSINE:
            x *= rows.inv_norms[slots, None]
        x -= self.shift[: self.dim]
        return x

    @property
    def unclear(self) -> float:
        """Distances of stored rows below this are lost in the rounding of float32 products in the frame."""
        if self.metric is Metric.DOT:
            return -np.inf
        return (_UNCLEAR if self.metric is Metric.L2 else _UNCLEAR / 2) / self.scale**2

    @property
    def squared(self) -> bool:
        """Whether a distance in the frame holds the rows' squares."""
        return self.metric is not Metric.DOT


def lines_of(size: int) -> int:
    """Round up to whole cache lines."""
    return (size + LINE - 1) // LINE * LINE


def sample_slots(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """Choose at most `most` of n slots, ascending, the same for the same seed."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def pack64(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack a (64 k, padded) uint8 table as [k][padded / 4][64][4], as `kernels.vnni` reads it."""
    rows, width = table.shape
    return np.ascontiguousarray(table.reshape(rows // 64, 64, width // 4, 4).transpose(0, 2, 1, 3))


def _whole_range(vectors: NDArray[Any]) -> float | None:
    """Give the least value if all are whole numbers spanning at most 255, else None."""
    if vectors.dtype.kind in "iu" and vectors.itemsize == 1:
        return float(np.iinfo(vectors.dtype).min)  # the whole type's range: later rows and queries fit it, too
    least, most = np.inf, -np.inf
    for at in range(0, len(vectors), _CHECK_ROWS):
        part = vectors[at : at + _CHECK_ROWS]
        if not (part == np.rint(part)).all():
            return None
        least, most = min(least, float(part.min())), max(most, float(part.max()))
        if most - least > 255 or max(abs(least), abs(most)) > 1 << 20:
            return None
    return 0.0 if least >= 0 and most <= 255 else least


def fit_frame(metric: Metric, rows: Rows, n: int, *, seed: int, exact: bool = True) -> Frame:
    """Fit the frame of rows [0, n); exact=False never keeps whole numbers as they are."""
    dim = rows.vectors.shape[1]
    padded = lines_of(dim)
    slots = sample_slots(n, SAMPLE_ROWS, seed)
    sample = rows.vectors[slots].astype(np.float32)
    if metric is Metric.COSINE:
        sample *= rows.inv_norms[slots, None]
    mean = sample.mean(0, dtype=np.float64)
    zeros = np.zeros(padded, np.float32)
    least = _whole_range(rows.vectors[:n]) if exact and metric is Metric.L2 else None
    if least is not None:
        shift, centre = zeros.copy(), zeros.copy()
        shift[:dim] = least
        centre[:dim] = mean - least
        return Frame(metric, dim, padded, 1.0, True, shift, shift, centre)
    sample -= mean.astype(np.float32)
    spread = float(np.einsum("ij,ij->", sample, sample, dtype=np.float64)) / len(sample)
    scale = 1.0 / np.sqrt(spread) if spread > 1e-60 else 1.0
    shift = zeros.copy()
    shift[:dim] = mean * scale
    query_shift = zeros if metric is Metric.DOT else shift
    return Frame(metric, dim, padded, scale, False, shift, query_shift, zeros)


def nearest_rows(
    frame: Frame,
    rows: Rows,
    n: int,
    slots: NDArray[np.int64],
    k: int,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Give the k nearest of rows [0, n) of each given slot, itself left out: (len(slots), k), in no order.

    allowed (n,): rows that count; there are more than k of them.
    """
    queries = frame.rows(rows, slots)
    if not frame.squared:  # under dot a query does not move with the rows
        queries += frame.shift[: frame.dim] - frame.query_shift[: frame.dim]
    queries *= np.float32(-2)

    nearest = _Nearest(len(slots), k)
    for at in range(0, n, _SCORED_ROWS):
        framed = frame.rows(rows, slice(at, min(at + _SCORED_ROWS, n)))
        scores: FloatMatrix = queries @ framed.T
        if frame.squared:
            scores += np.einsum("ij,ij->i", framed, framed)
        inside = np.flatnonzero((slots >= at) & (slots < at + len(framed)))
        scores[inside, slots[inside] - at] = np.inf
        if allowed is not None:
            scores[:, ~allowed[at : at + len(framed)]] = np.inf
        nearest.see(scores, at)
    return nearest.names


class _Nearest:
    """The k least scores seen so far, for several queries."""

    def __init__(self, queries: int, k: int) -> None:
        self.names = np.zeros((queries, k), np.int64)
        self._best = np.full((queries, k), np.inf, np.float32)

    def see(self, scores: FloatMatrix, first: int) -> None:
        """Take in scores (queries, rows) of rows from `first` on; few of them are less than the k-th."""
        k = self.names.shape[1]
        query, place = np.nonzero(scores < self._best.max(1)[:, None])
        counts = np.bincount(query, minlength=len(scores))
        beyond = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
        best = np.full((len(scores), k + int(counts.max())), np.inf, np.float32)
        names = np.zeros(best.shape, np.int64)
        best[:, :k], names[:, :k] = self._best, self.names
        best[query, k + beyond], names[query, k + beyond] = scores[query, place], first + place
        kept = np.argpartition(best, k - 1, axis=1)[:, :k]
        self._best, self.names = np.take_along_axis(best, kept, 1), np.take_along_axis(names, kept, 1)
