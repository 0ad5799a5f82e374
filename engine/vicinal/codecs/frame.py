"""The frame: where rows are stored as bytes and distances are squared Euclid, or -2 <q, x> under dot.

Float rows are scaled to mean spread 1 about their mean (each to length 1 first under cosine). Under L2, whole numbers
from a range of at most 256 values are only shifted, so their bytes, and all distances, are exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vicinal.types import Metric, Rows

__all__ = [
    "LINE",
    "Frame",
    "aligned",
    "fit_frame",
    "lines_of",
    "nearest_listed",
    "nearest_rows",
    "on_line",
    "pack64",
    "sample_slots",
]

FloatMatrix = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

LINE = 64
SAMPLE_ROWS = 10_000  # enough for a mean and a spread
_CHECK_ROWS = 8_192
_SCORED_ROWS = 1_024
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

    def into(self, rows: Rows, part: slice, out: FloatMatrix, squares: NDArray[np.float32]) -> None:
        """Write stored rows in the frame to out (n, dim), and their squares, zeros under dot."""
        vectors = rows.vectors[part]
        if vectors.dtype != np.float32 or not vectors.flags.c_contiguous:
            out[:] = self.rows(rows, part)
            squares[:] = np.einsum("ij,ij->i", out, out) if self.squared else 0
            return
        from vicinal.kernels.code_space import frame_rows

        norms = rows.inv_norms[part if self.metric is Metric.COSINE else slice(0)]
        vectors, norms = vectors.view(), np.ascontiguousarray(norms, np.float32).view()
        vectors.flags.writeable = norms.flags.writeable = False  # compiled once, for rows of mapped files
        frame_rows(vectors, norms, np.float32(self.scale), self.shift, self.squared, out, squares)

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


def aligned(shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
    """Give a zeroed array that begins on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def on_line(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Copy an array to the start of a cache line."""
    out = aligned(array.shape, array.dtype.type)
    out[...] = array
    return out


def sample_slots(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """Choose at most `most` of n slots, ascending, the same for the same seed."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def pack64(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack a (64 k, padded) uint8 table as [k][padded / 4][64][4] on a cache line, as `kernels.vnni` reads it."""
    rows, width = table.shape
    return on_line(table.reshape(rows // 64, 64, width // 4, 4).transpose(0, 2, 1, 3))


def _whole_range(vectors: NDArray[Any]) -> float | None:
    """Give the least value if all are whole numbers spanning at most 255, else None."""
    if vectors.dtype.kind in "iu" and vectors.itemsize == 1:
        return float(np.iinfo(vectors.dtype).min)  # the whole type's range: later rows and queries fit it, too
    from vicinal.kernels.code_space import whole_range

    known = np.array([np.inf, -np.inf], np.float32)
    for at in range(0, len(vectors), _CHECK_ROWS):
        part = np.ascontiguousarray(vectors[at : at + _CHECK_ROWS], np.float32).view()
        part.flags.writeable = False  # compiled once, for rows of mapped files
        if not whole_range(part, known):
            return None
        least, most = known.tolist()
        if most - least > 255 or max(abs(least), abs(most)) > 1 << 20:
            return None
    least, most = known.tolist()
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
    """Give the k nearest of rows [0, n) of each given slot, itself left out: (len(slots), k), nearest first.

    allowed (n,): rows that count; there are more than k of them.
    """
    from vicinal.kernels.code_space import keep_nearest

    queries = _queries(frame, rows, slots)
    best, names = np.full((len(slots), k), np.inf, np.float32), np.zeros((len(slots), k), np.int64)
    framed, squares = np.empty((_SCORED_ROWS, frame.dim), np.float32), np.empty(_SCORED_ROWS, np.float32)
    products = np.empty((len(slots), _SCORED_ROWS), np.float32)
    for at in range(0, n, _SCORED_ROWS):
        count = min(_SCORED_ROWS, n - at)
        frame.into(rows, slice(at, at + count), framed[:count], squares[:count])
        if allowed is not None:
            squares[:count][~allowed[at : at + count]] = np.inf
        scores = np.matmul(queries, framed[:count].T, out=products.reshape(-1)[: len(slots) * count].reshape(-1, count))
        inside = np.flatnonzero((slots >= at) & (slots < at + count))
        scores[inside, slots[inside] - at] = np.inf
        keep_nearest(scores, squares[:count], at, best, names)
    return names


def nearest_listed(frame: Frame, rows: Rows, listed: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the nearest of the listed rows, at least two, of each given slot, itself left out: (len(slots),)."""
    framed = frame.rows(rows, listed)
    scores: FloatMatrix = _queries(frame, rows, slots) @ framed.T
    if frame.squared:
        scores += np.einsum("ij,ij->i", framed, framed)
    scores[slots[:, None] == listed] = np.inf
    nearest: NDArray[np.int64] = listed[scores.argmin(1)]
    return nearest


def _queries(frame: Frame, rows: Rows, slots: NDArray[np.int64]) -> FloatMatrix:
    """Give stored rows as products with framed rows take them: -2 times a query."""
    queries = frame.rows(rows, slots)
    if not frame.squared:  # under dot a query does not move with the rows
        queries += frame.shift[: frame.dim] - frame.query_shift[: frame.dim]
    queries *= np.float32(-2)
    return queries
