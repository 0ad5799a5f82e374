"""Many rows on their way to code lines: into the frame, to the nearest cell, about its centre, projected.

Products are of bytes by packed tables of bytes, the ones that a query meets (`walk_query`): a row is cut to signed
bytes with a step of its own. What is projected is what a row differs from its centre by, so that rows far nearer to
each other than they are long keep their differences.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.codes import product
from vicinal.kernels.gemm import ROWS_PER_TILE, tile6x4
from vicinal.kernels.operands import lesser
from vicinal.kernels.vnni import dots64, nearest_cell

__all__ = [
    "frame_rows",
    "keep_nearest",
    "nearest_cells",
    "project_rows",
    "residual_rows",
    "sum_by_cell",
    "whole_range",
]

_LANES = np.int64(16)
_ROUND = np.float32(12582912)  # adding 1.5 * 2^23 rounds to the nearest integer and vectorises; np.rint does not
_MIDDLE = np.float32(128)
_RUN = 2_048  # floats looked at twice while they are near


@njit
def _largest(row, lanes):
    """The largest magnitude in a row, by sixteen lanes: it vectorises without fastmath."""
    dim = row.shape[0]
    for lane in range(16):
        lanes[lane] = 0
    for j in range(0, dim - 15, 16):
        for lane in range(16):
            value = abs(row[j + lane])
            lanes[lane] = value if value > lanes[lane] else lanes[lane]  # noqa: FURB136 - max() would not vectorise
    most = np.float32(1e-30)
    for lane in range(16):
        most = max(most, lanes[lane])
    for j in range(dim - dim % 16, dim):
        most = max(most, abs(row[j]))
    return most


@njit
def _to_signed(row, step, offset, out):
    """Write row / step - offset as int8, to the nearest; give the sum of these."""
    factor, total = np.float32(1) / step, np.int32(0)
    for j in range(row.shape[0]):
        value = row[j] * factor - offset
        value = value if value < np.float32(127) else np.float32(127)  # noqa: FURB136 - min() would not vectorise
        value = value if value > np.float32(-128) else np.float32(-128)  # noqa: FURB136
        number = np.int32((value + _ROUND) - _ROUND)
        out[j] = np.int8(number)
        total += number
    return total


@njit
def nearest_cells(rows, whole, table, norms, sums, step, zero, work, scores, cells):
    """Write the nearest cell of each framed row (n, dim) to `cells`, by bytes of both.

    whole: rows hold whole numbers 0 .. 255. table: the cells packed, on a cache line; norms, sums, step and zero as in
    `codecs.cells.Cells`. work: int8 (padded,), scores: float32 (places,), both overwritten.
    """
    dim, padded = rows.shape[1], work.shape[0]
    offset = _MIDDLE if whole else np.float32(0)
    for j in range(dim, padded):
        work[j] = -128 if whole else 0
    lanes = np.empty(_LANES, np.float32)
    for i in range(rows.shape[0]):
        scale = np.float32(1)
        if not whole:
            scale = _largest(rows[i], lanes) / np.float32(127)
        total = np.float32(_to_signed(rows[i], scale, offset, work)) + offset * np.float32(dim)
        factor = np.float32(-2) * step * scale
        dots64(table.ctypes.data, norms.shape[0] // 64, padded * 64, work.ctypes.data, padded // 4, scores.ctypes.data)
        cells[i] = nearest_cell(
            scores.ctypes.data,
            norms.shape[0] // 64,
            norms.ctypes.data,
            sums.ctypes.data,
            factor,
            factor * offset,
            -factor * zero * total,
        )


@njit
def residual_rows(rows, centres, cells, squared, out, constants):
    """Write rows less their cells' centres to out (n, at least dim), zeros beyond.

    constants: |x - c|^2 of each row, or -2 <c, x - c> where a distance holds no squares.
    """
    dim = rows.shape[1]
    for i in range(rows.shape[0]):
        centre = centres[cells[i]]
        for j in range(dim):
            out[i, j] = rows[i, j] - centre[j]
        for j in range(dim, out.shape[1]):
            out[i, j] = 0
        residual = out[i, :dim]
        constants[i] = product(residual, residual) if squared else np.float32(-2) * product(centre, residual)


@njit
def project_rows(rows, lanes, scale, block, order, none, out):
    """Write rows (n, dim), cut to bytes, times a matrix of bytes to out (n, at least the outputs), zeros beyond.

    lanes: uint8 (outputs / 16, width), the columns about 128 packed as `gemm` reads them. scale: float32 by output.
    block: int8 (rows at once, padded), zero beyond dim and overwritten; order: 0, 1, 2, ... int32, as many as there are
    outputs or rows at once. none: int32 (outputs / 16, 16), zero.
    """
    outputs, at_once = scale.shape[0], block.shape[0]
    most, tile = np.empty(_LANES, np.float32), np.empty(ROWS_PER_TILE * 64, np.int32)
    steps, adds = np.empty(at_once, np.float32), np.empty(at_once, np.float32)
    for first in range(0, rows.shape[0], at_once):
        count = lesser(at_once, rows.shape[0] - first)
        for r in range(count):
            steps[r] = _largest(rows[first + r], most) / np.float32(127)
            adds[r] = -_MIDDLE * np.float32(_to_signed(rows[first + r], steps[r], np.float32(0), block[r]))
            for j in range(outputs, out.shape[1]):
                out[first + r, j] = 0
        for group in range(0, lanes.shape[0], 4):
            for r in range(0, count, ROWS_PER_TILE):
                tile6x4(block, order, r, lanes, order, group, none, tile, 0, 64)
                for q in range(r, lesser(r + ROWS_PER_TILE, count)):
                    for j in range(64):
                        value = (np.float32(tile[(q - r) * 64 + j]) + adds[q]) * steps[q]
                        out[first + q, group * 16 + j] = value * scale[group * 16 + j]


@njit
def sum_by_cell(rows, cells, sums, counts):
    """Add each row to the sums (cells, dim) of its cell, in order; count them."""
    for i in range(rows.shape[0]):
        cell = cells[i]
        counts[cell] += 1
        for j in range(rows.shape[1]):
            sums[cell, j] += rows[i, j]


@njit
def whole_range(rows, range_):
    """Widen range_ (least, most) float32 by the values of rows; give whether all are whole numbers below 2^22."""
    least, most = np.full(_LANES, range_[0], np.float32), np.full(_LANES, range_[1], np.float32)
    flat = rows.reshape(-1)
    for start in range(0, flat.shape[0], _RUN):
        run = flat[start : start + _RUN]
        broken = np.int32(0)
        for j in range(run.shape[0]):
            broken |= np.int32((run[j] + _ROUND) - _ROUND != run[j])
        if broken:
            return False
        whole = run.shape[0] & -16
        for j in range(0, whole, 16):
            for lane in range(16):
                least[lane] = min(least[lane], run[j + lane])
                most[lane] = max(most[lane], run[j + lane])
        for j in range(whole, run.shape[0]):
            least[0], most[0] = min(least[0], run[j]), max(most[0], run[j])
    range_[0], range_[1] = least.min(), most.max()
    return True


@njit
def frame_rows(vectors, inv_norms, scale, shift, squared, out, squares):
    """Write rows (n, dim) float32 in the frame to out, and their squares, or zeros where a distance holds none.

    inv_norms: (n,), or (0,) where rows keep their lengths. The bits are those of `codecs.frame.Frame.rows`.
    """
    dim = vectors.shape[1]
    for i in range(vectors.shape[0]):
        row = out[i]
        for j in range(dim):
            row[j] = vectors[i, j] * scale
        if inv_norms.shape[0]:
            for j in range(dim):
                row[j] *= inv_norms[i]
        for j in range(dim):
            row[j] -= shift[j]
        squares[i] = product(row, row) if squared else np.float32(0)


@njit
def keep_nearest(scores, squares, first, best, names):
    """Take rows first .. first + n - 1 in among the k nearest of several queries, of equals the first.

    A score is scores[query, row] + squares[row]. best: float32 (queries, k), ascending, infinite where nothing is yet;
    names: int64 (queries, k), the rows.
    """
    k, n = best.shape[1], squares.shape[0]
    for query in range(best.shape[0]):
        worst = best[query, k - 1]
        for start in range(0, n, 64):
            stop, near = min(start + 64, n), np.int32(0)
            for j in range(start, stop):
                near |= np.int32(scores[query, j] + squares[j] < worst)
            if near == 0:
                continue
            for j in range(start, stop):
                score = scores[query, j] + squares[j]
                if score < worst:
                    place = k - 1
                    while place > 0 and best[query, place - 1] > score:
                        best[query, place] = best[query, place - 1]
                        names[query, place] = names[query, place - 1]
                        place -= 1
                    best[query, place], names[query, place] = score, first + j
                    worst = best[query, k - 1]
