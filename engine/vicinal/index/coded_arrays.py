"""Memory of a coded index, and the addresses that kernels read.

`CodedArrays` owns every array whose address it hands out, and checks their sizes against each other before it does; a
reader that holds one can walk it while a writer fills rows beyond the reader's limit or replaces single links.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.cells import Cells
from vicinal.codecs.frame import Frame, aligned, on_line
from vicinal.codecs.lines import ENTRIES, Codec, Lines, view_lines
from vicinal.types import Metric

__all__ = ["DEGREE", "SENTINEL", "CodedArrays", "address", "aligned", "has_floats", "on_line"]

DEGREE = 32
SENTINEL = np.uint32(0xFFFFFFFF)
LINE = 64
_LINKS_AT, _VECTOR_AT = 64, 192
_SPACES = {Metric.L2: 0, Metric.DOT: 1, Metric.COSINE: 2}


def address(array: NDArray[Any]) -> int:
    """Give the address of an array's first element; the caller keeps the array alive."""
    return int(array.ctypes.data)


def has_floats(vectors: NDArray[Any]) -> bool:
    """Whether kernels that walk codes can settle on these rows themselves."""
    return vectors.dtype == np.float32 and bool(vectors.flags.c_contiguous)


class RowViews(NamedTuple):
    """One memory of rows under three types."""

    bytes: NDArray[np.uint8]
    floats: NDArray[np.float32]
    numbers: NDArray[np.int32]


def _constants(
    frame: Frame, cells: Cells, cell_nodes: NDArray[np.uint32], codec: Codec, *, linked: bool
) -> dict[str, NDArray[Any] | None]:
    """Name the arrays that never change as `IndexFields` names their addresses."""
    numbers = [frame.scale, 0.0 if frame.whole else 128.0, cells.step, cells.zero, codec.query.narrow_step]
    return {
        "numbers": np.array(numbers, np.float32),
        "shift": frame.query_shift,
        "mean_shift": frame.shift,
        "centre": frame.centre,
        "cells": cells.table,
        "cell_norms": cells.norms,
        "cell_sums": cells.sums,
        "cell_nodes": cell_nodes,
        "projection": codec.query.projection,
        "projection_scale": codec.query.projection_scale,
        "projection_shift": codec.query.projection_shift,
        "projection_shift_whole": codec.query.projection_shift_whole,
        "signs": codec.query.signs,
        "narrow": codec.query.narrow,
        "narrow_norms": codec.query.narrow_norms,
        "entry_places": np.arange(cell_nodes.size, dtype=np.uint32) if linked else None,
        "entry_lines": np.zeros((cell_nodes.size, LINE), np.uint8) if linked else None,
    }


class CodedArrays:
    """Rows (or links alone), code lines and constants of an index of a given capacity.

    `fine` keeps eight more bits a dimension beside rows of floats, so that searches need not read the floats: in
    memory, or in `plane` (capacity, padded) as it was saved, whose file is read where a search looks.

    `exact_walk`: rows of head, links and bytes; otherwise links only, and the walk trusts its estimates.
    """

    def __init__(
        self,
        frame: Frame,
        cells: Cells,
        cell_nodes: NDArray[np.uint32],
        codec: Codec,
        capacity: int,
        *,
        exact_walk: bool,
        fine: bool = False,
        plane: NDArray[np.uint8] | None = None,
        linked: bool = True,
    ) -> None:
        self.capacity = capacity
        self.exact_walk = exact_walk
        self._parts = (frame, cells, cell_nodes, codec)
        width = _VECTOR_AT + frame.padded if exact_walk else 4 * DEGREE
        if not linked:  # code lines alone, for scans
            assert not exact_walk, "only a graph's rows are walked"
            width = 0
        memory = aligned((capacity, width), np.uint8)
        self.rows = RowViews(memory, memory.view(np.float32), memory.view(np.int32))
        self.fine: NDArray[np.uint8] | None = None
        if fine and exact_walk and not frame.whole:
            fitting = plane is not None and plane.shape == (capacity, frame.padded)
            self.fine = plane if fitting else aligned((capacity, frame.padded), np.uint8)
        links_at = _LINKS_AT if exact_walk else 0
        self.linked = linked
        self.links = memory[:, links_at : links_at + 4 * DEGREE].view(np.uint32)
        self.lines: Lines = view_lines(aligned((capacity, LINE), np.uint8))
        self.links[:] = SENTINEL
        constants = _constants(frame, cells, cell_nodes, codec, linked=linked)
        none = np.zeros(LINE, np.uint8)
        self._constants = {name: on_line(none if array is None else array) for name, array in constants.items()}
        self._check(cells, cell_nodes, codec)
        self.whole = frame.whole and exact_walk  # without rows there are no bytes to settle on
        self._tables: list[NDArray[np.int64]] = []  # all of them: a reader may be using an older one
        self._publish()

    def _check(self, cells: Cells, cell_nodes: NDArray[np.uint32], codec: Codec) -> None:
        """Refuse sizes that kernels would read beyond."""
        frame = self._parts[0]
        count = len(cells.norms)
        assert count % 64 == 0, "cells are scanned 64 at a time"
        assert cell_nodes.shape == (count, ENTRIES)
        assert len(cells.sums) == count
        assert cells.table.size == count * frame.padded, "every cell has a whole row of bytes"
        assert len(frame.query_shift) == len(frame.centre) == frame.padded, "shifts are padded"
        assert int(cell_nodes.max()) < self.capacity, "walks enter at nodes of the index"
        query = codec.query
        if query.projection is not None:
            assert query.projection.size == query.outputs * frame.padded, "a row of bytes per output"
            assert query.outputs <= query.projected, "outputs are of the code space"
        if query.signs is not None:
            assert query.signs.size == 2 * query.projected, "two rounds of signs"

    def _publish(self) -> None:
        """Make the fields as they are now what `at` points to."""
        self._tables.append(self._fields())
        self.at = address(self._tables[-1])

    @property
    def cell_nodes(self) -> NDArray[np.uint32]:
        """Where walks of each cell may enter: (cells, ENTRIES) uint32; `enter_at` changes them in place."""
        nodes = self._constants["cell_nodes"]
        assert nodes is not None, "there is always one"
        return nodes

    def enter_at(self, nodes: NDArray[np.uint32]) -> None:
        """Let walks enter at these slots, whose lines are there: (cells, ENTRIES) uint32.

        A reader sees each aligned number old or new, and any line only says which entry is taken.
        """
        lines = self._constants["entry_lines"]
        assert lines is not None, "there are always some"
        self.cell_nodes[:] = nodes
        lines[:] = self.lines.bytes[self.cell_nodes.reshape(-1)]

    def _fields(self) -> NDArray[np.int64]:
        """Give IndexFields as an int64 array."""
        from vicinal.kernels.walk_fields import IndexFields

        frame, cells, _, codec = self._parts
        stride = self.rows.bytes.shape[1]
        places = {name: address(array) for name, array in self._constants.items()}
        places |= {name: 0 for name in ("projection", "narrow") if getattr(codec.query, name) is None}
        fields = IndexFields(
            capacity=self.capacity,
            dim=frame.dim,
            padded=frame.padded,
            metric=_SPACES[frame.metric],
            exact_walk=int(self.exact_walk),
            late=int(not self.exact_walk),
            whole=int(self.whole),
            off_centre=int(frame.whole),
            rows=address(self.rows.bytes) if self.exact_walk else 0,
            row_bytes=stride,
            fine=0 if self.fine is None else address(self.fine),
            links=address(self.links),
            links_stride=stride,
            codes=address(self.lines.bytes),
            cell_blocks=len(cells.norms) // 64,
            outputs=codec.query.outputs,
            projected=codec.query.projected,
            **places,
        )
        return np.array(fields, np.int64)

    @property
    def memory_bytes(self) -> int:
        """Bytes of rows, lines and constants in memory; what lies in a file is not among them."""
        fine = 0 if self.fine is None or not self.fine.flags.writeable else self.fine.nbytes
        return self.rows.bytes.nbytes + self.lines.bytes.nbytes + fine + sum(a.nbytes for a in self._constants.values())

    @property
    def node_bytes(self) -> int:
        """Bytes of one node: its row or links, its line, and what `fine` adds."""
        fine = 0 if self.fine is None else int(self.fine.shape[1])
        return int(self.rows.bytes.shape[1]) + LINE + fine

    def grown(self, capacity: int, n: int) -> CodedArrays:
        """Give new arrays of a larger capacity holding the first n nodes; these get no further writes."""
        frame, cells, _, codec = self._parts
        fine = self.fine is not None
        new = CodedArrays(
            frame, cells, self.cell_nodes, codec, capacity, exact_walk=self.exact_walk, fine=fine, linked=self.linked
        )
        if self.fine is not None and new.fine is not None:
            new.fine[:n] = self.fine[:n]
        new.rows.bytes[:n] = self.rows.bytes[:n]
        new.lines.bytes[:n] = self.lines.bytes[:n]
        if self.linked:
            new.enter_at(self.cell_nodes)
        if self.whole != new.whole:
            new.whole = self.whole
            new._publish()
        return new

    def encode(self, framed: NDArray[np.float32], start: int) -> None:
        """Write rows and lines of framed rows from slot `start` on.

        Once a row that is not whole numbers has been rounded, searches settle on the stored floats.
        """
        from vicinal.kernels.codes import encode_rows, encode_whole_rows

        frame, cells, _, codec = self._parts
        assert 0 <= start <= start + len(framed) <= self.capacity, "the caller grows first"
        codec.encode(frame, cells, framed, self.lines, start)
        if not self.exact_walk:
            return
        if not frame.whole:
            encode_rows(framed, frame.squared, *self.rows, start)
            if self.fine is not None:
                self._encode_fine(framed, start, self.fine)
        elif not encode_whole_rows(framed, *self.rows, start) and self.whole:
            self.whole = False
            self._publish()

    def _encode_fine(self, framed: NDArray[np.float32], start: int, fine: NDArray[np.uint8]) -> None:
        """Write low bytes of rows just encoded; where they lie in a file, see that it holds the same."""
        from vicinal.kernels.codes import encode_fine

        if fine.flags.writeable:
            encode_fine(framed, self.rows.bytes, self.rows.floats, fine, start)
            return
        part = slice(start, start + len(framed))
        low = np.empty((len(framed), fine.shape[1]), np.uint8)
        encode_fine(framed, self.rows.bytes[part], self.rows.floats[part], low, 0)
        if not np.array_equal(low, fine[part]):  # saved by a processor that rounds otherwise: keep our own
            self.fine = on_line(fine)
            self.fine[part] = low
            self._publish()
