"""A few k-means cells: origins of the sign codes, and where walks enter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.frame import LINE, Frame, pack64

__all__ = ["FAR", "Cells", "assign", "fit_cells", "nearest_by_bytes"]

FloatMatrix = NDArray[np.float32]

_ROUNDS = 6
_FEW = 4  # rows for which a matrix product is not worth its making
_SAMPLE_PER_CELL = 64
FAR = np.float32(3e38)  # score of a place in the table that holds no cell


class Cells(NamedTuple):
    """Centres as bytes, c = step * (byte - zero), and as float32 (count, dim), with what `nearest_cell` reads."""

    centres: FloatMatrix
    squares: NDArray[np.float32]
    table: NDArray[np.uint8]
    norms: NDArray[np.float32]
    sums: NDArray[np.float32]
    step: float
    zero: float


def _scores(rows: FloatMatrix, centres: FloatMatrix, squares: NDArray[np.float32]) -> FloatMatrix:
    """|c|^2 - 2 <x, c>: (n, count)."""
    scores: FloatMatrix = rows @ centres.T
    scores *= np.float32(-2)
    scores += squares
    return scores


def assign(rows: FloatMatrix, cells: Cells) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the nearest cell of each framed row by squared Euclid, and |c|^2 - 2 <x, c> of it."""
    if len(rows) <= _FEW:
        return _nearest_of_few(rows, cells)
    scores = _scores(rows, cells.centres, cells.squares)
    nearest = scores.argmin(1)
    return nearest, scores[np.arange(len(rows)), nearest]


def _nearest_of_few(rows: FloatMatrix, cells: Cells) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The same without matrices, whose making takes longer."""
    from vicinal.kernels.codes import nearest_centres

    nearest, scores = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    nearest_centres(rows, cells.centres, cells.squares, nearest, scores)
    return nearest, scores


def nearest_by_bytes(frame: Frame, cells: Cells, framed: FloatMatrix) -> NDArray[np.int64]:
    """Give the nearest cell of each framed row by bytes of both: of some as near, perhaps another."""
    from vicinal.kernels.code_space import nearest_cells

    assert cells.table.ctypes.data % LINE == 0, "tables begin on a cache line"
    places = len(cells.norms)
    norms = np.full(places, FAR, np.float32)
    norms[: len(cells.squares)] = cells.squares
    nearest = np.empty(len(framed), np.int64)
    work, scores = np.empty(frame.padded, np.int8), np.empty(places, np.float32)
    step, zero = np.float32(cells.step), np.float32(cells.zero)
    nearest_cells(framed, frame.whole, cells.table, norms, cells.sums, step, zero, work, scores, nearest)
    return nearest


def _kmeans(sample: FloatMatrix, count: int, seed: int) -> FloatMatrix:
    """A few rounds of Lloyd's; an empty cell keeps its centre."""
    from vicinal.kernels.code_space import sum_by_cell

    rng = np.random.default_rng(seed)
    rows = sample[rng.permutation(len(sample))[: _SAMPLE_PER_CELL * count]]
    centres = rows[:count].copy()
    count = len(centres)
    for _ in range(_ROUNDS):
        nearest = _scores(rows, centres, np.einsum("ij,ij->i", centres, centres)).argmin(1)
        sums, sizes = np.zeros_like(centres), np.zeros(count, np.int64)
        sum_by_cell(rows, nearest, sums, sizes)
        kept = sizes > 0
        centres[kept] = sums[kept] / sizes[kept, None].astype(np.float32)
    return centres


def fit_cells(sample: FloatMatrix, frame: Frame, count: int, seed: int) -> Cells:
    """Fit at most `count` cells (a multiple of 64) to framed rows; the centres are cut to bytes first of all."""
    centres = _kmeans(sample, min(count, len(sample)), seed)
    step, zero = 1.0, 0.0
    if not frame.whole:
        step, zero = max(float(np.abs(centres).max()), 1e-30) / 127, 128.0
    table = np.zeros((count, frame.padded), np.uint8)
    kept = len(centres)
    table[:kept, : frame.dim] = np.clip(np.rint(centres / np.float32(step) + np.float32(zero)), 0, 255)
    centres = (table[:kept, : frame.dim].astype(np.float32) - np.float32(zero)) * np.float32(step)
    squares = np.einsum("ij,ij->i", centres, centres)
    norms = np.full(count, FAR, np.float32)
    norms[:kept] = squares if frame.squared else 0
    sums = np.zeros(count, np.float32)
    sums[:kept] = table[:kept].sum(1, dtype=np.int64)
    return Cells(centres, squares, pack64(table), norms, sums, step, zero)
