"""Vectors to int8 codes whose integer distances stand for the metric's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_cells import new_codes
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import rows8
from vicinal.kernels.gemm import BLOCK
from vicinal.kernels.rows8 import AS_IS, UNIT, Codes
from vicinal.types import Metric, Rows

__all__ = ["Encoding", "coded_rows", "encode_rows", "fit_encoding", "write_codes"]

_SAMPLE = 4096
_TOLD_APART = 0.95
_CLIPPED = 0.99  # share of rows none of whose values is clipped


class Encoding(NamedTuple):
    """code = round((x - mean) * scale), of unit vectors under cosine; `mean` (dim,) float32.

    Under `inner` (the dot product) the mean is zero and rows are compared by their product alone: half is 0, so that
    "half squared distance" is minus the product, the order in which a search under this metric sees rows.
    """

    mean: NDArray[np.float32]
    scale: np.float32
    unit: bool
    inner: bool

    @property
    def width(self) -> int:
        """Bytes of a row of codes."""
        return -(-len(self.mean) // BLOCK) * BLOCK


def fit_encoding(vectors: NDArray[Any], slots: NDArray[np.int64], metric: Metric) -> Encoding:
    """Fit mean and scale, one for all dimensions, to a sample of vectors[slots].

    One in a hundred sample rows, the farthest out, do not count, so that a few outliers cost the others no resolution:
    the scale maps the largest deviation of the rest to 127. Mean and scale are the only floating point of a build, and
    they depend on the data alone.
    """
    sample = vectors[slots[:: max(1, len(slots) // _SAMPLE)]].astype(np.float32)
    if metric is Metric.COSINE:
        norms = np.sqrt(np.einsum("ij,ij->i", sample, sample, dtype=np.float64))
        sample /= np.maximum(norms, 1e-37).astype(np.float32)[:, None]
    inside = int(_CLIPPED * (len(sample) - 1))
    mean = np.zeros(sample.shape[1], np.float32)
    if metric is not Metric.DOT:
        away = ((sample - sample.mean(0, dtype=np.float64)) ** 2).sum(1)
        mean = sample[away <= np.sort(away)[inside]].mean(0, dtype=np.float64).astype(np.float32)
    widest = np.sort(np.abs(sample - mean).max(1))[inside]
    scale = np.float32(127 / max(float(widest), 1e-35))
    return Encoding(mean, scale, unit=metric is Metric.COSINE, inner=metric is Metric.DOT)


def write_codes(
    encoding: Encoding, vectors: NDArray[Any], slots: NDArray[np.int64], codes: Codes, pieces: Pieces
) -> None:
    """Write the codes of vectors[slots[i]] to row i of `codes`, i < len(slots)."""
    mode = UNIT if encoding.unit else AS_IS
    n = len(slots)
    codes.rows[:n, len(encoding.mean) :] = 0

    def encode(first: int, last: int) -> None:
        floats, names, into, begin, end = vectors, slots, codes, first, last
        if vectors.dtype != np.float32 or not vectors.flags.c_contiguous:
            # widened piece by piece: a copy of all would take several times their memory
            floats, names = vectors[slots[first:last]].astype(np.float32), np.arange(last - first)
            into = Codes(codes.rows[first:], codes.half[first:], codes.offset[first:])
            begin, end = 0, last - first
        floats = floats.view()
        floats.flags.writeable = False  # compiled once, for rows of mapped files
        rows8.encode(floats, names, encoding.mean, encoding.scale, mode, into, begin, end)

    pieces.run(n, 8192, encode)
    if encoding.inner:
        codes.offset[:n] -= codes.half[:n]
        codes.half[:n] = 0


def encode_rows(vectors: NDArray[Any], slots: NDArray[np.int64], metric: Metric, pieces: Pieces) -> tuple[float, Codes]:
    """Fit an encoding to vectors[slots] and encode them; give its scale and the codes."""
    encoding = fit_encoding(vectors, slots, metric)
    codes = new_codes(len(slots), encoding.width)
    write_codes(encoding, vectors, slots, codes, pieces)
    return float(encoding.scale), codes


def coded_rows(rows: Rows, n: int, metric: Metric, threads: int = 1) -> tuple[Rows, Metric]:
    """Bytes in place of the rows of slots 0 .. n - 1, and the metric they compare by; for building, where near is near.

    Rows that are no real numbers stay as they are, and so do rows of which bytes cannot tell one in twenty apart.
    """
    if metric not in {Metric.L2, Metric.COSINE, Metric.DOT} or rows.vectors.dtype.kind != "f" or n == 0:
        return rows, metric
    with Pieces(threads) as pieces:
        _, codes = encode_rows(rows.vectors, np.arange(n), metric, pieces)
        hashes = np.empty(n, np.uint64)
        rows8.hash_rows(codes.rows.view(np.uint64), np.arange(n), hashes, 0, n)
    if len(np.unique(hashes)) < _TOLD_APART * n:
        return rows, metric
    return Rows(codes.rows[:n], rows.inv_norms), Metric.DOT if metric is Metric.DOT else Metric.L2
