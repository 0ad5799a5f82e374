"""Several bits per dimension: 112 levels of 4 bits about the mean, or 56 of 8 bits (see `kernels.lines`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.basis import Axes, byte_projection, principal
from vicinal.codecs.cells import Cells
from vicinal.codecs.frame import Frame
from vicinal.codecs.lines import Lines, QueryArrays

__all__ = ["BYTE_DIMS", "NIBBLE_DIMS", "ByteCodec", "NibbleCodec", "fit_nibbles"]

NIBBLE_DIMS, BYTE_DIMS = 112, 56
_ADD, _MUL = 14, 15  # places of 4 bytes in a line
_TOLD_ROWS = 2_000  # that say how much of the variance is kept
_GROUP = 64  # places of one line of query bytes; 56 are levels, the rest lie over the factors


@dataclass(frozen=True)
class NibbleCodec:
    """Fitted 4-bit lines: leading principal components, rotated at random so that all carry alike."""

    query: QueryArrays
    basis: NDArray[np.float32]  # (dim, dims)
    kept: float  # share of the variance
    name: str = "nibbles"

    @cached_property
    def _lanes(self) -> NDArray[np.uint8]:
        return self.query.lanes()

    def encode(self, frame: Frame, cells: Cells, framed: NDArray[np.float32], lines: Lines, start: int) -> None:
        """Write the lines of framed rows (n, dim) from line `start` on."""
        from vicinal.kernels.codes import encode_nibbles

        del cells
        centred = framed - frame.centre[: frame.dim] if frame.whole else framed
        constant = np.zeros(len(framed), np.float32)
        if frame.squared:
            constant = np.einsum("ij,ij->i", centred, centred)
        projected = self.query.project(centred, self._lanes).take(_places(self.basis.shape[1]), axis=1)
        encode_nibbles(projected, constant, lines.bytes, lines.floats, start)

    def estimate(self, frame: Frame, cells: Cells, queries: NDArray[np.float32], lines: Lines) -> NDArray[np.float32]:
        """Estimate distances (queries, lines) in plain arithmetic, up to a constant per query."""
        del cells
        dims = self.basis.shape[1]
        half = (dims + 1) // 2
        levels = np.concatenate([lines.bytes[:, :half] & 15, lines.bytes[:, : dims - half] >> 4], axis=1)
        values = levels.astype(np.float32) * np.float32(2) - np.float32(15)
        estimates: NDArray[np.float32] = ((queries - frame.centre[: frame.dim]) @ self.basis) @ values.T
        estimates *= lines.floats[:, _MUL]
        estimates += lines.floats[:, _ADD]
        return estimates

    def search(self) -> Any:
        """Give the compiled walk over such lines."""
        from vicinal.kernels.walk import search_nibbles

        return search_nibbles

    def settings(self) -> Mapping[str, Any]:
        """Tell what was fitted."""
        return {"code": self.name, "dims": self.basis.shape[1], "variance_kept": round(self.kept, 4)}


def _places(dims: int) -> NDArray[np.int64]:
    """Where levels lie among the two lines of a query: the low halves of bytes first, then the high ones."""
    half = (dims + 1) // 2
    return np.concatenate([np.arange(half), _GROUP + np.arange(dims - half)])


def _leading(
    frame: Frame, sample: NDArray[np.float32], dims: int, seed: int, axes: Axes | None
) -> tuple[NDArray[np.float64], float]:
    """Give so many principal directions and the share of the variance that they hold."""
    if axes is not None:
        return axes.directions[:, :dims], float(axes.shares[dims - 1])
    centred = sample - frame.centre[: frame.dim]
    leading = principal(centred, dims, seed)
    some = centred[:: max(1, len(centred) // _TOLD_ROWS)]
    total = float(np.einsum("ij,ij->", some, some, dtype=np.float64))
    inside = some @ leading.astype(np.float32)
    return leading, float(np.einsum("ij,ij->", inside, inside, dtype=np.float64)) / max(total, 1e-30)


def fit_nibbles(frame: Frame, sample: NDArray[np.float32], seed: int, axes: Axes | None = None) -> NibbleCodec:
    """Fit 4-bit lines to framed rows of any dimension; axes: of them, where known."""
    dims = min(NIBBLE_DIMS, frame.dim)
    rng = np.random.default_rng(seed)
    leading, kept = _leading(frame, sample, dims, seed, axes)
    basis = leading @ np.linalg.qr(rng.standard_normal((dims, dims)))[0]
    matrix = np.zeros((frame.dim, 2 * _GROUP))
    matrix[:, _places(dims)] = basis
    query = QueryArrays(2 * _GROUP, *byte_projection(matrix, frame))
    return NibbleCodec(query, np.ascontiguousarray(basis, dtype=np.float32), kept)


@dataclass(frozen=True)
class ByteCodec:
    """8-bit lines of at most 56 dimensions: the rows' own bytes, with a step per row."""

    name: str = "bytes"

    @property
    def query(self) -> QueryArrays:
        """Nothing: a query's own bytes are enough."""
        return QueryArrays()

    def encode(self, frame: Frame, cells: Cells, framed: NDArray[np.float32], lines: Lines, start: int) -> None:
        """Write the lines of framed rows (n, dim) from line `start` on."""
        from vicinal.kernels.codes import encode_bytes

        del cells
        encode_bytes(framed, frame.squared, lines.bytes, lines.floats, start)

    def estimate(self, frame: Frame, cells: Cells, queries: NDArray[np.float32], lines: Lines) -> NDArray[np.float32]:
        """Estimate distances (queries, lines) in plain arithmetic, up to a constant per query."""
        del cells
        values = lines.bytes[:, : frame.dim].astype(np.float32) - np.float32(128)
        estimates: NDArray[np.float32] = queries @ values.T
        estimates *= np.float32(-2) * lines.floats[:, _MUL]
        estimates += lines.floats[:, _ADD]
        return estimates

    def search(self) -> Any:
        """Give the compiled walk over such lines."""
        from vicinal.kernels.walk import search_bytes

        return search_bytes

    def settings(self) -> Mapping[str, Any]:
        """Tell what was fitted."""
        return {"code": self.name}
