"""TEXMEX files: `.fvecs`, `.bvecs` and `.ivecs`, the format of SIFT1M and its kin.

Each row is its dimension as a little-endian int32 followed by that many float32, uint8 or int32
(http://corpus-texmex.irisa.fr). The file is memory-mapped and read a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidVector
from vicinal.io.source import Batch, checked_file, row_ids
from vicinal.limits import DIM_MAX

__all__ = ["VecsSource"]

_VALUES: Final[dict[str, np.dtype[Any]]] = {
    ".fvecs": np.dtype("<f4"),
    ".bvecs": np.dtype("u1"),
    ".ivecs": np.dtype("<i4"),
}
_HEAD: Final = 4


class VecsSource:
    """The rows of one TEXMEX file.

    Raises InvalidVector when the file is empty, cut short, or has rows of different lengths.
    """

    names_ids = False

    def __init__(self, path: Path) -> None:
        self._dtype = _VALUES[checked_file(path).suffix]
        self._rows = _mapped_rows(path, self._dtype)
        self._path = path
        self.total = len(self._rows)
        self.dim = (self._rows.shape[1] - _HEAD) // self._dtype.itemsize

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield the rows in order: float32 for fvecs and ivecs, uint8 for bvecs."""
        for start in range(0, self.total, rows):
            stop = min(start + rows, self.total)
            block = np.array(self._rows[start:stop])
            heads = np.ascontiguousarray(block[:, :_HEAD]).view("<i4")
            if np.any(heads != self.dim):
                bad = start + int(np.argmax(heads[:, 0] != self.dim))
                raise _broken(self._path, f"row {bad} does not have {self.dim} values")
            values: NDArray[Any] = np.ascontiguousarray(block[:, _HEAD:]).view(self._dtype)
            if self._dtype.kind == "i":
                values = values.astype(np.float32)
            yield Batch(start, row_ids(start, stop), values, None)


def _mapped_rows(path: Path, dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Map the file as (n, 4 + dim * itemsize) bytes."""
    size = path.stat().st_size
    if size < _HEAD:
        raise _broken(path, "it is empty")
    raw = np.memmap(path, np.uint8, "r")
    dim = int(raw[:_HEAD].view("<i4")[0])
    width = _HEAD + dim * dtype.itemsize
    if not 1 <= dim <= DIM_MAX:
        raise _broken(path, f"its first row says {dim} values; 1 to {DIM_MAX} are possible")
    if size % width:
        raise _broken(path, f"{size} bytes are not a whole number of rows of {width} bytes")
    return raw.reshape(-1, width)


def _broken(path: Path, why: str) -> InvalidVector:
    """Return the error for a file that is not what its name says."""
    return InvalidVector(
        f"{path} cannot be read as {path.suffix}: {why}; download or write it again",
        field="path",
        value=str(path),
    )
