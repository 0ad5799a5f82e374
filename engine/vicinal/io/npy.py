"""NumPy files: `.npy` matrices of vectors, memory-mapped, and `.npz` archives of token matrices.

Neither is ever read with pickle, so a file cannot run code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidVector
from vicinal.io.source import Batch, checked_file, row_ids

__all__ = ["NpySource", "Tokens", "read_matrix", "read_tokens"]

_DTYPES = ("float16", "float32", "float64", "uint8", "int8")
_INT8_UNIT = 127.0


class Tokens(NamedTuple):
    """Token matrices of many points, ragged.

    `tokens` is (t, dim) float32; those of row i are tokens[offsets[i]:offsets[i + 1]]. `offsets` is
    (n + 1,) int64, beginning with 0 and never falling.
    """

    tokens: NDArray[np.float32]
    offsets: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Rows that have a token matrix."""
        return len(self.offsets) - 1

    def rows(self, start: int, stop: int) -> Tokens:
        """Return the matrices of rows [start, stop), offsets counted from 0."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return Tokens(self.tokens[first:last], self.offsets[start : stop + 1] - first)


class NpySource:
    """The rows of a `.npy` matrix, (n, dim), memory-mapped; a single vector (dim,) counts as one row."""

    names_ids = False

    def __init__(self, path: Path) -> None:
        self._matrix = read_matrix(path)
        self.total, self.dim = self._matrix.shape

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield copies of the mapped rows, in order."""
        for start in range(0, self.total, rows):
            stop = min(start + rows, self.total)
            yield Batch(start, row_ids(start, stop), np.array(self._matrix[start:stop]), None)


def read_matrix(path: Path) -> NDArray[Any]:
    """Map a `.npy` matrix; (n, dim) of float16, float32, float64, uint8 or int8.

    Raises InvalidVector for another shape or dtype, an empty matrix, or a file that is not `.npy`.
    """
    checked_file(path)
    try:
        matrix: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as cause:  # numpy parses the header as Python and raises whatever that does
        raise InvalidVector(
            f"{path} cannot be read as a .npy matrix ({cause}): save it with numpy.save from a plain array",
            field="path",
            value=str(path),
        ) from cause
    if not isinstance(matrix, np.ndarray):
        raise InvalidVector(f"{path} is an archive, not one .npy matrix", field="path", value=str(path))
    if matrix.ndim == 1:
        matrix = matrix.reshape(1, -1)
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.name not in _DTYPES:
        raise InvalidVector(
            f"{path} holds {matrix.dtype.name} of shape {matrix.shape}: vectors are (n, dim) of"
            f" {', '.join(_DTYPES)}, neither being 0",
            field="path",
            value=str(matrix.shape),
        )
    return matrix


def read_tokens(path: Path, *, tokens: str = "tokens", offsets: str = "offsets") -> Tokens:
    """Read token matrices from an `.npz` archive with arrays `tokens` (t, dim) and `offsets` (n + 1,).

    int8 tokens are multiples of 1/127, as quantised unit vectors usually are; float16 and float32 are
    taken as they are. Raises InvalidVector when an array is missing or the offsets do not fit.
    """
    checked_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            matrix, bounds = archive[tokens], archive[offsets]
    except Exception as cause:  # the archive's and the headers' parsers raise many kinds
        raise InvalidVector(
            f"{path} cannot be read as token matrices ({cause}): save arrays {tokens!r} (t, dim) and"
            f" {offsets!r} (n + 1,) with numpy.savez",
            field="tokens",
            value=str(path),
        ) from cause
    _check_tokens(path, matrix, bounds)
    values = matrix.astype(np.float32)
    if matrix.dtype == np.int8:
        values /= np.float32(_INT8_UNIT)
    return Tokens(values, bounds.astype(np.int64))


def _check_tokens(path: Path, matrix: NDArray[Any], bounds: NDArray[Any]) -> None:
    """Raise InvalidVector unless the offsets cut the matrix into rows."""
    fits = (
        matrix.ndim == 2
        and matrix.dtype.name in _DTYPES
        and bounds.ndim == 1
        and bounds.dtype.kind in "iu"
        and len(bounds) >= 2
        and int(bounds[0]) == 0
        and int(bounds[-1]) == len(matrix)
        and bool(np.all(np.diff(bounds.astype(np.int64)) >= 0))
    )
    if not fits:
        raise InvalidVector(
            f"{path}: offsets of shape {bounds.shape} do not cut tokens of shape {matrix.shape} into rows:"
            " they begin with 0, never fall and end with the number of tokens",
            field="tokens",
            value=str(path),
        )
