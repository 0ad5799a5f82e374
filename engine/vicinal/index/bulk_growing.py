"""The int8 codes of rows that grow in number: fitted again when there are many more, or many out of their range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_cells import grown_codes, new_codes
from vicinal.index.bulk_codes import fit_encoding, write_codes
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import rows8
from vicinal.kernels.rows8 import AS_IS, SPARE, UNIT, Codes
from vicinal.types import Metric, Rows

__all__ = ["GROWTH", "GrowingCodes"]

GROWTH = 1.25
_REFIT = 2  # codes are fitted again when there are so many times the rows they were fitted to
_CLIPPED_FEW, _CLIPPED_SHARE = 16, 0.05  # new rows out of the codes' range that call for another fit
_LARGEST = 127


class GrowingCodes:
    """`codes` of rows 0 .. n and room for more; one writer."""

    def __init__(self, rows: Rows, n: int, metric: Metric, pieces: Pieces) -> None:
        self._metric = metric
        self._known: tuple[NDArray[Any] | None, NDArray[Any] | None] = None, None
        self._fit(rows, n, n, pieces)

    @property
    def capacity(self) -> int:
        """Rows that find room before all codes are copied to larger arrays, or fitted again."""
        return min(len(self.codes.half) - int(SPARE), _REFIT * self._fitted)

    def _fit(self, rows: Rows, n: int, stop: int, pieces: Pieces) -> None:
        """Fit the codes to rows 0 .. stop and encode those below n."""
        everyone = np.arange(stop, dtype=np.int64)
        self._encoding = fit_encoding(rows.vectors, everyone, self._metric)
        self._fitted = stop
        self._clipped, self._clipped_most = 0, _CLIPPED_FEW
        self.codes = new_codes(max(stop, int(n * GROWTH)), self._encoding.width)
        write_codes(self._encoding, rows.vectors, everyone[:n], self.codes, pieces)

    def reserve(self, rows: Rows, n: int, stop: int, pieces: Pieces) -> bool:
        """Encode rows n .. stop; give whether the codes of all were fitted again."""
        again = stop > _REFIT * self._fitted
        if again:
            self._fit(rows, n, stop, pieces)
        if stop > len(self.codes.half) - SPARE:
            self.codes = grown_codes(self.codes, n, int(stop * GROWTH))
        fresh = np.arange(n, stop, dtype=np.int64)
        rest = slice(n, None)
        view = Codes(self.codes.rows[rest], self.codes.half[rest], self.codes.offset[rest])
        write_codes(self._encoding, rows.vectors, fresh, view, pieces)
        clipped = np.abs(view.rows[: len(fresh)]).max(1, initial=0) == _LARGEST
        self._clipped += int(np.count_nonzero(clipped))
        if self._clipped > self._clipped_most + _CLIPPED_SHARE * (stop - self._fitted):
            most = self._clipped_most
            self._fit(rows, stop, stop, pieces)
            self._clipped_most = 4 * most  # rows far out of everything stay clipped: no refit for each of them
            again = True
        return again

    def encode_one(self, rows: Rows, slot: int) -> int | None:
        """Encode the next row alone and give the hash of its codes; None where `reserve` has more to do."""
        floats, encoding = self._readable(rows.vectors), self._encoding
        if floats is None or slot >= _REFIT * self._fitted or slot >= len(self.codes.half) - SPARE:
            return None
        mode = UNIT if encoding.unit else AS_IS
        code, clipped = rows8.encode_one(floats, slot, encoding.mean, encoding.scale, mode, encoding.inner, self.codes)
        return None if clipped else int(code)

    def _readable(self, vectors: NDArray[Any]) -> NDArray[Any] | None:
        """Vectors as the kernel's one compiled type reads them; None where they are to be widened first."""
        if self._known[0] is not vectors:
            floats = None
            if vectors.dtype == np.float32 and vectors.flags.c_contiguous:
                floats = vectors.view()
                floats.flags.writeable = False
            self._known = vectors, floats
        return self._known[1]
