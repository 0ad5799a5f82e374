"""Code lines of a whole index, and what every kind of code line offers.

A codec is fitted once and then frozen: `encode` writes the lines of framed rows, `query` names what a query's
preparation needs, `search` is the compiled walk over its lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.cells import Cells
from vicinal.codecs.frame import Frame

__all__ = ["ENTRIES", "Codec", "Lines", "QueryArrays", "view_lines"]

LINE = 64
ENTRIES = 32  # slots of a cell where walks may enter: their lines are estimated in one go
PACKED = 64  # rows of a matrix packed together, see `frame.pack64`
_AT_ONCE, _TILE = 24, 6  # rows projected together, and by one tile


class Lines(NamedTuple):
    """One memory of code lines (capacity, 64 bytes) under four types."""

    bytes: NDArray[np.uint8]
    words: NDArray[np.uint64]
    floats: NDArray[np.float32]
    numbers: NDArray[np.int32]


def view_lines(codes: NDArray[np.uint8]) -> Lines:
    """View (capacity, 64) bytes, 8-byte aligned, as lines."""
    return Lines(codes, codes.view(np.uint64), codes.view(np.float32), codes.view(np.int32))


class QueryArrays(NamedTuple):
    """What preparing a query reads; None where the kind of line has no such array."""

    projected: int = 0  # dimensions of the code space, padded
    projection: NDArray[np.uint8] | None = None
    projection_scale: NDArray[np.float32] | None = None
    projection_shift: NDArray[np.float32] | None = None
    projection_shift_whole: NDArray[np.float32] | None = None
    signs: NDArray[np.float32] | None = None
    narrow: NDArray[np.uint8] | None = None  # the cells' centres, projected: step * (byte - 128), packed
    narrow_norms: NDArray[np.float32] | None = None  # |centre|^2 about the frame's
    narrow_step: float = 0.0

    @property
    def outputs(self) -> int:
        """Dimensions that the projection gives, a multiple of 64; the code space has as many or more."""
        return 0 if self.projection is None else PACKED * len(self.projection)

    def lanes(self) -> NDArray[np.uint8]:
        """Pack the projection as `project` takes it."""
        assert self.projection is not None, "the code has a projection"
        groups, quads = self.projection.shape[:2]
        apart = self.projection.reshape(groups, quads, 4, 16, 4).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(apart).reshape(groups * 4, quads * PACKED)

    def project(self, rows: NDArray[np.float32], lanes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Project rows (n, dim), cut to bytes as queries are, but about no centre: (n, projected), zeros beyond."""
        from vicinal.kernels.code_space import project_rows

        assert self.projection_scale is not None, "the code has a projection"
        out = np.empty((len(rows), self.projected), np.float32)
        block = np.zeros((min(_AT_ONCE, max(len(rows), _TILE)), lanes.shape[1] // 16), np.int8)
        order, none = np.arange(max(len(lanes), _AT_ONCE), dtype=np.int32), np.zeros((len(lanes), 16), np.int32)
        project_rows(rows, lanes, self.projection_scale, block, order, none, out)
        return out


class Codec(Protocol):
    """One kind of code line, fitted."""

    @property
    def name(self) -> str:
        """signs, nibbles or bytes."""

    @property
    def query(self) -> QueryArrays:
        """What preparing a query reads."""

    def encode(self, frame: Frame, cells: Cells, framed: NDArray[np.float32], lines: Lines, start: int) -> None:
        """Write the lines of framed rows (n, dim) from line `start` on."""

    def estimate(self, frame: Frame, cells: Cells, queries: NDArray[np.float32], lines: Lines) -> NDArray[np.float32]:
        """Estimate distances (queries, lines) in plain arithmetic, up to a constant per query.

        The queries are framed as rows are, and are not cut to bits as the kernels do.
        """

    def search(self) -> Any:
        """Give the compiled walk over such lines; imports numba."""

    def settings(self) -> Mapping[str, Any]:
        """Tell what was fitted, for `info`."""
