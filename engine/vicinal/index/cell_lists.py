"""Cells of near slots beside code lines: who is in which, with a code line for each centre.

The lines of the members stay where they are, by slot, so one set of lines serves the walk, cells and filtered scans;
lists cost 4 to 5 bytes a row. (Lines in cell order were measured: a scan of few rows is as fast, because
both arrive by prefetch.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.choice import Choice
from vicinal.codecs.lines import view_lines
from vicinal.index.bulk_cells import make_cells, new_codes, one_cell, pack
from vicinal.index.bulk_codes import Encoding, fit_encoding, write_codes
from vicinal.index.bulk_pieces import Pieces
from vicinal.index.coded_arrays import address, aligned
from vicinal.kernels import cluster, rows8
from vicinal.kernels.build import Panel
from vicinal.kernels.centre_lines import GROUP
from vicinal.kernels.lines import BATCH
from vicinal.kernels.scan import CellFields
from vicinal.kernels.scan_build import add_members, fill_chunks, mean_rows
from vicinal.kernels.scan_lists import CHUNK
from vicinal.kernels.walk_ir import LINE
from vicinal.types import Metric, Rows

__all__ = ["CELL_ROWS", "CellLists", "Means", "Partition", "Published", "partition"]

CELL_ROWS = 64  # rows of a cell
_ONE_CELL = 512  # rows that need no cells
_LISTED = 16  # near cells listed to number cells along a chain
_SPLIT = 4  # times CELL_ROWS from which a cell is cut in two
_GROWTH = 1.25
_ROUNDS = 6
_ROWS_AT_ONCE = 8192
_MEANS_AT_ONCE = 256
NO_CHUNK = 0xFFFFFFFF


class Means(NamedTuple):
    """The mean of each cell's rows (cells, width) float32, in codes of an encoding."""

    encoding: Encoding
    centres: NDArray[np.float32]


class Partition(NamedTuple):
    """Slots by cell: `order` int32, each slot once; cell c holds order[starts[c] : starts[c + 1]]; none is empty.

    means: of the cells, where they are known already.
    """

    starts: NDArray[np.int64]
    order: NDArray[np.int32]
    means: Means | None = None


def partition(
    rows: Rows,
    n: int,
    metric: Metric,
    *,
    seed: int,
    threads: int = 1,
    cancel: Callable[[], bool] | None = None,
    slots: NDArray[np.integer] | None = None,
) -> Partition:
    """Group slots 0 .. n - 1, or the n listed, into cells of about `CELL_ROWS` by k-means; raises `Cancelled`.

    Under the dot product, too, cells are by distance: their centres are then compared by product.
    """
    names = np.arange(n) if slots is None else np.asarray(slots, np.int64)
    with Pieces(threads, cancel) as pieces:
        encoding = fit_encoding(rows.vectors, names, _around(metric))
        codes = new_codes(n, encoding.width)
        write_codes(encoding, rows.vectors, names, codes, pieces)
        cells = one_cell(n) if n <= _ONE_CELL else make_cells(codes, n, _LISTED, seed, pieces, cell_rows=CELL_ROWS)
        starts = cells.starts[np.append(np.diff(cells.starts) > 0, True)]
        centres = np.empty((len(starts) - 1, encoding.width), np.float32)
        pieces.run(len(centres), _MEANS_AT_ONCE, partial(mean_rows, codes.rows, cells.order, starts, centres))
    order = cells.order if slots is None else names[cells.order].astype(np.int32)
    return Partition(starts, order, Means(encoding, centres))


def _code_means(rows: Rows, metric: Metric, parts: Partition, threads: int) -> Means:
    """Give the mean of each cell's codes, as `partition` does, reading the rows again."""
    encoding = fit_encoding(rows.vectors, np.sort(parts.order).astype(np.int64), _around(metric))
    count = len(parts.starts) - 1
    centres = np.empty((count, encoding.width), np.float32)
    at_once = max(_ROWS_AT_ONCE, int(np.diff(parts.starts).max(initial=0)))
    codes = new_codes(at_once + CELL_ROWS, encoding.width)
    first = 0
    with Pieces(threads) as pieces:
        while first < count:
            stop = int(np.searchsorted(parts.starts, parts.starts[first] + at_once, "right")) - 1
            low, high = int(parts.starts[first]), int(parts.starts[stop])
            write_codes(encoding, rows.vectors, parts.order[low:high].astype(np.int64), codes, pieces)
            order, starts, out = np.arange(high - low, dtype=np.int32), parts.starts[first:] - low, centres[first:]
            pieces.run(stop - first, _MEANS_AT_ONCE, partial(mean_rows, codes.rows, order, starts, out))
            first = stop
    return Means(encoding, centres)


def _around(metric: Metric) -> Metric:
    """Give the metric whose means are centres."""
    return Metric.L2 if metric is Metric.DOT else metric


class Published(NamedTuple):
    """What readers see: the address of `CellFields`, how many cells there are, and the arrays behind the address."""

    at: int
    cells: int
    kept: tuple[NDArray[Any], ...]


class _Ends(NamedTuple):
    """Where the writer goes on in each cell: last chunk, places used there, members, members at which it is cut."""

    lasts: NDArray[np.int32]
    filled: NDArray[np.int32]
    sizes: NDArray[np.int64]
    most: NDArray[np.int64]

    @classmethod
    def of(cls, sizes: NDArray[np.int64]) -> _Ends:
        """Ends of cells of these sizes, whose chunks are not filled yet."""
        count = len(sizes)
        most = np.full(count, _SPLIT * CELL_ROWS, np.int64)
        return cls(np.zeros(count, np.int32), np.zeros(count, np.int32), sizes.astype(np.int64), most)

    def replaced(self, cells: NDArray[np.int64], new: _Ends) -> _Ends:
        """Ends with those of some cells replaced or added."""
        return _Ends(
            _with(self.lasts, cells, new.lasts),
            _with(self.filled, cells, new.filled),
            _with(self.sizes, cells, new.sizes),
            _with(self.most, cells, new.most),
        )


class _Halves(NamedTuple):
    """A cell about to be cut: the slots of either half and their means (2, width)."""

    cell: int
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    means: NDArray[np.float32]


class CellLists:
    """The members of each cell and the centres' code lines; one writer appends, readers take `published`.

    Centres are means of rows as int8 codes of an encoding of their own, which also says which cell is nearest to a
    new row. Slots beyond a reader's limit may already be listed; a slot is listed in one cell, or dropped.
    """

    def __init__(self, rows: Rows, metric: Metric, choice: Choice, parts: Partition, *, threads: int = 1) -> None:
        self._choice = choice
        means = parts.means or _code_means(rows, metric, parts, threads)
        self._encoding, self._centres = means
        sizes = np.diff(parts.starts)
        room = np.maximum(-(-sizes // CHUNK), 1)
        self._firsts = (np.cumsum(room) - room).astype(np.int32)
        self._used = int(room.sum())
        self._chunks = _fresh_chunks(self._used)
        self._ends = _Ends.of(sizes)
        fill_chunks(parts.order, parts.starts, self._firsts, self._chunks, *self._ends[:2])
        self._panel: Panel | None = None
        lines = _line_room(len(sizes))
        lines[: len(sizes)] = self._lines_of(self._centres)[: len(sizes)]
        self.published = self._fields(lines)

    def _lines_of(self, centres: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Give the code lines of centres, as rows have them."""
        frame, (mean, scale, _, _) = self._choice.frame, self._encoding
        framed = centres[:, : frame.dim] / scale + mean
        framed *= np.float32(frame.scale)
        framed -= frame.shift[: frame.dim]
        lines = aligned((len(centres), LINE), np.uint8)
        self._choice.codec.encode(frame, self._choice.cells, framed, view_lines(lines), 0)
        return lines

    def _fields(self, lines: NDArray[np.uint8], groups: NDArray[np.uint64] | None = None) -> Published:
        count = len(self._firsts)
        if groups is None:
            groups = self._groups_of(lines)
        fields = CellFields(count, address(lines), address(self._firsts), address(self._chunks), address(groups))
        table = np.array(fields, np.int64)
        return Published(address(table), count, (table, lines, self._firsts, self._chunks, groups))

    def _groups_of(self, lines: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """Lay sign lines out as `centre_lines` reads them."""
        count = len(lines) // GROUP if self._choice.codec.name == "signs" else 0
        groups = aligned((count, LINE // 8, GROUP), np.uint64)
        groups[:] = lines.view(np.uint64)[: count * GROUP].reshape(count, GROUP, LINE // 8).transpose(0, 2, 1)
        return groups

    @property
    def memory_bytes(self) -> int:
        """Bytes of lists and centres, the writer's part included."""
        panel = () if self._panel is None else self._panel
        held = (*self.published.kept, *self._ends, self._centres, *panel)
        return sum(array.nbytes for array in held)

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return self.published.cells

    def members(self) -> Partition:
        """Give the slots of every cell as they are listed now."""
        lists = [self._members(c) for c in range(self.cells)]
        starts = np.zeros(len(lists) + 1, np.int64)
        starts[1:] = np.cumsum([len(one) for one in lists])
        return Partition(starts, np.concatenate(lists).astype(np.int32))

    def _members(self, cell: int) -> NDArray[np.uint32]:
        """Give the slots of one cell, in order of entry."""
        parts, chunk = [], int(self._firsts[cell])
        while chunk != NO_CHUNK:
            parts.append(self._chunks[chunk, :CHUNK])
            chunk = int(self._chunks[chunk, CHUNK])
        listed: NDArray[np.uint32] = np.concatenate(parts)
        return listed[: int(self._ends.sizes[cell])]

    def append(self, rows: Rows, start: int, stop: int) -> None:
        """Put slots start .. stop - 1, not listed yet, into their nearest cells; large ones are cut in two."""
        slots = np.arange(start, stop)
        nearest = self._nearest(rows, slots)
        self._reserve(self._used + len(slots))
        listed = slots.astype(np.uint32)
        self._used = add_members(listed, nearest, self._chunks, *self._ends[:2], self._used)
        np.add.at(self._ends.sizes, nearest, 1)
        large = np.unique(nearest[self._ends.sizes[nearest] > self._ends.most[nearest]])
        if len(large):
            self._cut(rows, large)

    def drop(self, dead: NDArray[np.bool_]) -> None:
        """Take the slots marked out of the cells, of which some keep others; readers of the old lists find them."""
        parts = self.members()
        kept = ~dead[parts.order]
        cell = np.repeat(np.arange(self.cells), np.diff(parts.starts))
        sizes = np.bincount(cell[kept], minlength=self.cells)
        used = sizes > 0
        room = -(-sizes[used] // CHUNK)
        self._firsts = (np.cumsum(room) - room).astype(np.int32)
        self._used = int(room.sum())
        self._chunks = _fresh_chunks(self._used)
        most = self._ends.most[used]
        self._ends = _Ends.of(sizes[used])._replace(most=most)
        starts = np.append(0, np.cumsum(sizes[used]))
        fill_chunks(parts.order[kept], starts, self._firsts, self._chunks, *self._ends[:2])
        lines = _line_room(len(most))
        lines[: len(most)] = self.published.kept[1][: len(used)][used]
        self._centres, self._panel = self._centres[used], None
        self.published = self._fields(lines)

    def _reserve(self, chunks: int) -> None:
        """Make room for so many chunks."""
        if chunks <= len(self._chunks):
            return
        wider = _fresh_chunks(max(chunks, int(len(self._chunks) * _GROWTH)))
        wider[: self._used] = self._chunks[: self._used]
        self._chunks = wider
        self.published = self._fields(self.published.kept[1], self.published.kept[4])

    def _nearest(self, rows: Rows, slots: NDArray[np.int64]) -> NDArray[np.int32]:
        """Give the cell whose centre is nearest to each slot's row."""
        panel = self._panel = self._panel or self._pack()
        codes = new_codes(len(slots), self._encoding.width)
        with Pieces(1) as pieces:
            write_codes(self._encoding, rows.vectors, slots, codes, pieces)
        best = np.empty(len(slots), np.int32)
        groups, names = np.arange(len(panel.lanes), dtype=np.int32), panel.members.reshape(-1)
        own = np.arange(len(slots), dtype=np.int32)
        cluster.assign(codes, own, panel.lanes, panel.bias, groups, names, best, 0, len(slots))
        return best

    def _pack(self) -> Panel:
        """Pack the centres as `cluster.assign` reads them."""
        count = len(self._centres)
        codes = new_codes(count, self._encoding.width)
        codes.rows[:count] = np.rint(self._centres)
        rows8.measure(codes, 0, count)
        with Pieces(1) as pieces:
            return pack(codes, np.array([0, count], np.int64), pieces)

    def _cut(self, rows: Rows, cells: NDArray[np.int32]) -> None:
        """Cut cells in two by 2-means; readers of the old lists still find everything there."""
        halves = []
        for cell in cells.tolist():
            members = self._members(cell).astype(np.int64)
            codes = new_codes(len(members), self._encoding.width)
            with Pieces(1) as pieces:
                write_codes(self._encoding, rows.vectors, members, codes, pieces)
            means, side = _two_means(codes.rows[: len(members)].astype(np.float32))
            if side.all() or not side.any():  # copies of one row: try again when there are twice as many
                self._ends.most[cell] *= 2
            else:
                halves.append(_Halves(cell, members[~side], members[side], means))
        if halves:
            self._replace(halves)

    def _replace(self, halves: list[_Halves]) -> None:
        """List the halves in new chunks, the first of each under its old number, and publish."""
        lists = [half for _, one, other, _ in halves for half in (one, other)]
        sizes = np.array([len(half) for half in lists])
        starts = np.append(0, np.cumsum(sizes))
        room = -(-sizes // CHUNK)
        self._reserve(self._used + int(room.sum()))
        firsts = (self._used + np.cumsum(room) - room).astype(np.int32)
        new = _Ends.of(sizes)
        fill_chunks(np.concatenate(lists).astype(np.int32), starts, firsts, self._chunks, new.lasts, new.filled)
        self._used += int(room.sum())
        count = self.cells
        cells = np.array([(half.cell, count + i) for i, half in enumerate(halves)]).reshape(-1)
        self._firsts = _with(self._firsts, cells, firsts)
        self._ends = self._ends.replaced(cells, new)
        self._centres = _with(self._centres, cells, np.concatenate([half.means for half in halves]))
        self._panel = None
        lines = _line_room(len(self._firsts))
        lines[:count] = self.published.kept[1][:count]
        lines[cells] = self._lines_of(self._centres[cells])[: len(cells)]
        self.published = self._fields(lines)


def _with(old: NDArray[Any], places: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Copy an array with rows replaced and, where places lie beyond it, added."""
    wider = np.zeros((max(len(old), int(places.max()) + 1), *old.shape[1:]), old.dtype)
    wider[: len(old)] = old
    wider[places] = values
    return wider


def _line_room(count: int) -> NDArray[np.uint8]:
    """Room for the code lines of so many centres, in whole batches."""
    return aligned((-(-count // BATCH) * BATCH, LINE), np.uint8)


def _fresh_chunks(count: int) -> NDArray[np.uint32]:
    """Chunks that hold nothing."""
    chunks = aligned((count, CHUNK + 1), np.uint32)
    chunks[:] = NO_CHUNK
    return chunks


def _two_means(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Give two means (2, width) of rows and which rows are nearer to the second; begins with two far rows."""
    first = rows[((rows - rows.mean(0)) ** 2).sum(1).argmax()]
    means = np.stack([first, rows[((rows - first) ** 2).sum(1).argmax()]])
    side = np.zeros(len(rows), np.bool_)
    for _ in range(_ROUNDS):
        apart = means[1] - means[0]
        side = (rows - means.mean(0)) @ apart > 0
        if side.all() or not side.any():
            break
        means = np.stack([rows[~side].mean(0), rows[side].mean(0)])
    return means, side
