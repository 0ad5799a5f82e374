"""Whether rows appended to a coded index still look like those its codes were fitted to.

A code is about its cell's centre, so rows that lie far from every cell are estimated badly: another mean, another
scale and clusters not seen before all show as a larger mean squared distance to the nearest centre.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vicinal.codecs.cells import Cells, assign
from vicinal.codecs.frame import Frame, sample_slots
from vicinal.types import Rows

__all__ = ["Drift"]

FAR: Final = 1.5  # times the residual of the fitted rows
SHARE: Final = 32  # a refit is worth it when so many times fewer rows are far
ROWS_LEAST: Final = 256
_SAMPLE: Final = 512  # rows looked at at a time, and of those that were fitted
_GROUP: Final = 32  # rows looked at together at least: a look costs as much for one


class Drift:
    """Counts rows in appends that lie far from the cells; `seen` is called by the one writer."""

    def __init__(self, frame: Frame, cells: Cells, rows: Rows, n: int) -> None:
        self._frame, self._cells, self._fitted = frame, cells, n
        self._usual = max(self._residual(rows, 0, n), 1e-12)
        self._far = 0
        self._since = n

    def _residual(self, rows: Rows, start: int, stop: int) -> float:
        """Mean squared distance of sampled rows to their nearest centre, in the frame."""
        framed = self._frame.rows(rows, start + sample_slots(stop - start, _SAMPLE, start))
        squares = np.einsum("ij,ij->i", framed, framed) + assign(framed, self._cells)[1]
        return float(np.maximum(squares, 0).mean(dtype=np.float64))

    def seen(self, rows: Rows, stop: int) -> None:
        """Look at the rows appended up to `stop`; few wait for others."""
        if stop - self._since < _GROUP:
            return
        if self._residual(rows, self._since, stop) > FAR * self._usual:
            self._far += stop - self._since
        self._since = stop

    @property
    def refit(self) -> bool:
        """Whether so many rows are far that codes should be fitted again."""
        return self._far >= max(ROWS_LEAST, self._fitted // SHARE)
