"""Principal components, and projections as packed byte matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.frame import Frame, pack64

__all__ = [
    "Axes",
    "Projection",
    "byte_projection",
    "enough",
    "in_bytes",
    "principal",
    "principal_axes",
    "spectrum_share",
]

_EIGH_DIM = 1_024  # up to here all eigenvectors are cheap, unless few of them are wanted
_FEW = 5  # times as many dimensions as directions
_ROUNDS = 6
_ROWS = 6_000  # from which axes are told


class Axes(NamedTuple):
    """All principal directions, (dim, dim) float64 by variance, and the share of it in the first so many, (dim,)."""

    directions: NDArray[np.float64]
    shares: NDArray[np.float64]

    def enough(self, share: float, step: int, most: int) -> int:
        """Give how many of the first hold a share of the variance: a multiple of step, or `most`."""
        count = int(np.searchsorted(self.shares, share)) + 1
        return min(-(-count // step) * step, most)


def principal_axes(sample: NDArray[np.float32], centre: NDArray[np.float32]) -> Axes | None:
    """Give the principal axes of rows (n, dim) about a centre; None where their number makes that dear."""
    if sample.shape[1] > _EIGH_DIM:
        return None
    centred = sample[:: max(1, len(sample) // _ROWS)] - centre
    covariance = centred.T @ centred
    values, directions = np.linalg.eigh(covariance / max(float(np.trace(covariance)), 1e-30))
    held = np.maximum(values[::-1], 0).cumsum(dtype=np.float64)
    return Axes(directions[:, ::-1].astype(np.float64), held / max(float(held[-1]), 1e-300))


def principal(sample: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float64]:
    """Give the leading `count` principal directions of centred rows: (dim, count) float64, orthonormal columns."""
    covariance = (sample.T @ sample).astype(np.float64)
    dim = len(covariance)
    if dim <= min(_EIGH_DIM, _FEW * count):
        exact: NDArray[np.float64] = np.linalg.eigh(covariance)[1][:, ::-1][:, :count]
        return exact
    basis = np.random.default_rng(seed).standard_normal((dim, min(dim, count + 16)))
    for _ in range(_ROUNDS):  # subspace iteration: only the span of the leading ones matters
        basis = np.linalg.qr(covariance @ basis)[0]
    small = basis.T @ covariance @ basis
    leading: NDArray[np.float64] = basis @ np.linalg.eigh(small)[1][:, ::-1][:, :count]
    return leading


def spectrum_share(sample: NDArray[np.float32], count: int) -> float:
    """Give the share of the variance of centred rows in their leading `count` principal directions."""
    if sample.shape[1] <= count:
        return 1.0
    if len(sample) < sample.shape[1]:  # fewer rows than dimensions: the smaller Gram matrix has the same spectrum
        sample = sample.T
    spectrum = np.linalg.eigvalsh((sample.T @ sample).astype(np.float64))[::-1]
    return float(spectrum[:count].sum() / max(float(spectrum.sum()), 1e-300))


def enough(sample: NDArray[np.float32], directions: NDArray[np.float64], share: float, step: int) -> int:
    """Give how many of the leading directions hold a share of centred rows' variance: a multiple of step, or all."""
    held = np.square(sample @ directions.astype(np.float32)).sum(0, dtype=np.float64).cumsum()
    wanted = share * float(np.square(sample).sum(dtype=np.float64))
    count = int(np.searchsorted(held, wanted)) + 1
    return min(-(-count // step) * step, int(directions.shape[1]))


def in_bytes(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the matrix that `byte_projection` makes of one."""
    step = np.maximum(np.abs(matrix).max(0), 1e-30) / 127
    rounded: NDArray[np.float64] = np.rint(matrix / step) * step
    return rounded


class Projection(NamedTuple):
    """A (dim, outputs) matrix as `kernels.walk_query` applies it to a query's bytes."""

    table: NDArray[np.uint8]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    shift_whole: NDArray[np.float32]


def byte_projection(matrix: NDArray[np.float64], frame: Frame) -> Projection:
    """Cut each column to 8 bits, about the frame's centre; columns of zeros give exact zeros. outputs: 64 k."""
    dim, outputs = matrix.shape
    most = np.abs(matrix).max(0)
    step = np.maximum(most, 1e-30) / 127
    table = np.zeros((outputs, frame.padded), np.uint8)
    table[:, :dim] = np.rint(matrix.T / step[:, None] + 128).astype(np.uint8)
    scale = np.where(most > 0, step, 0).astype(np.float32)
    sums = (table[:, :dim].astype(np.int64) - 128).sum(1)
    shift = -(frame.centre[:dim].astype(np.float64) @ matrix)
    return Projection(
        pack64(table),
        scale,
        shift.astype(np.float32),
        (shift + 128.0 * sums * scale).astype(np.float32),
    )
