"""The graph of one dense field: HNSW on floats while it is small, coded lines when it is large.

A small graph is grown point by point. From `CODED_FROM_ROWS` on the graph is built in bulk and walked on codes, which
is several times as fast; points that come later are inserted into it, and when they are many it is built again,
because that costs less than inserting them one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.index import cells_snapshot, coded_snapshot
from vicinal.index.builder import build_links
from vicinal.index.bulk_insert import GrowingLinks, prefers_rebuild
from vicinal.index.cell_lists import Partition
from vicinal.index.cells import CellsIndex
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import DEGREE, SENTINEL
from vicinal.index.coded_batch import search_candidates
from vicinal.index.filtered import FilteredIndex
from vicinal.index.hnsw import HnswIndex
from vicinal.index.index_check import cells_problems, coded_problems, float_problems
from vicinal.index.layout import CELLS_FROM_ROWS, Layout, choose_layout, memory_budget
from vicinal.index.mapped import let_go
from vicinal.index.searchers import LINES, CellsSearcher, CodedSearcher, FloatSearcher, Searcher
from vicinal.types import HnswParams, Metric, Rows

__all__ = ["CODED_FROM_ROWS", "CellsSearcher", "CodedSearcher", "FieldIndex", "FloatSearcher", "Searcher"]

CODED_FROM_ROWS: Final = 10_000  # below, an insertion costs little and the kernels of a bulk build are not compiled
CODED_FROM_DIM: Final = 4  # below, a row is smaller than its code, which may not tell rows on a line apart
CHUNK_ROWS: Final = 1024  # rows per call of `extend`, so that a View is published steadily
CHUNK_REMOVED: Final = 4096  # slots taken out per call of `retire`
REMOVE_SHARE: Final = 256  # a pass over all links is worth it when so many times fewer slots wait to be taken out
DROP_SHARE: Final = 8  # the same of cells, whose lists are written anew
REBUILD_SHARE: Final = 8  # taking out more than this part of the graph costs as much as building it anew
# Insertion and removal make no links between regions of the data, and those that the build made wear away: after as
# many changes as rows, a few in ten thousand rows were no longer found. A build costs a tenth of so many changes.
WORN_CHANGES: Final = 1.0  # slots inserted and taken out, per living one, after which a graph is built anew
_MARKED_GROWTH: Final = 1.25

Cancel = Callable[[], bool]


def _uncoded(metric: Metric, params: HnswParams, codec: str, *, tiny: bool) -> str | None:
    """Why rows of a field are never walked on codes, in words; None if they are once they are many."""
    if params.M * 2 != DEGREE:
        return f"coded rows hold {DEGREE} links, which is M = {DEGREE // 2}"
    if not metric.is_coded:
        return f"{metric} has no codes"
    if tiny:
        return f"rows of fewer than {CODED_FROM_DIM} dimensions are smaller than their codes"
    return "asked for" if codec == "none" else None


class FieldIndex:
    """Grows by `extend`, one thread; readers take a `searcher`."""

    def __init__(
        self,
        metric: Metric,
        dim: int,
        params: HnswParams,
        *,
        coded_from: int | None = CODED_FROM_ROWS,
        codec: str = "auto",
        layout: str = "auto",
        budget: int | None = None,
        filters: bool = False,
    ) -> None:
        self._metric, self._dim, self._params = metric, dim, params
        tiny = dim < CODED_FROM_DIM and codec == "auto" and layout != "cells" and coded_from is not None
        codec = "none" if tiny else codec
        self._codec = LINES.get(codec, codec)
        uncoded = _uncoded(metric, params, codec, tiny=tiny) or (coded_from is None and "asked for")
        self._coded_from = None if uncoded else coded_from  # None: stored vectors however large it grows
        self._why = uncoded or f"below {coded_from} rows a walk on the stored vectors is as fast"
        self._in_bulk = codec == "none" and metric.is_coded and params.M * 2 == DEGREE
        self._asked, self._budget = layout, budget  # bytes that a graph may take; None: by the machine's memory
        able = coded_from is not None and codec != "none" and not metric.of_bits
        self._cells_from = (CELLS_FROM_ROWS if layout == "cells" else coded_from) if able else None
        self._layout = Layout("graph", f"below {self._cells_from} rows nothing else pays" if able else self._why)
        self._small = HnswIndex(metric, dim, params)
        self._cells: CellsIndex | None = None
        self._unseen = False  # whether the cells were made since `retire` was last called
        self._large: CodedIndex | None = None
        self._filters = filters  # whether filtered scans are kept beside a coded graph
        self._filtered: FilteredIndex | None = None
        self._refits = 0  # since rows that came later were unlike those the codes were fitted to
        self._growing: GrowingLinks | None = None  # made on the first insertion after a build
        self._entry = 0  # a slot from which insertion sees that all others are reached
        self._removed: NDArray[np.bool_] = np.zeros(0, np.bool_)  # of the large graph: slots that no link leads to
        self._marked = self._removed  # the same with room for more, after an insertion
        self._changes = 0  # slots inserted into the large graph and taken out since it was built
        self._out = 0  # slots of `_removed`

    @property
    def n(self) -> int:
        """Slots [0, n) are in the graph."""
        if self._cells is not None:
            return self._cells.n
        return self._small.n if self._large is None else self._large.n

    @property
    def may_code(self) -> bool:
        """Whether it is or will be walked on codes once it is large, and then reads few stored vectors."""
        return self._coded_from is not None

    def searcher(self) -> Searcher | None:
        """What a reader needs; None while the graph is empty."""
        if self._cells is not None:
            filtered = self._cells.filtered if self._filters else None
            return CellsSearcher(self._cells, self._cells.n, self._layout, filtered)
        if (large := self._large) is not None:
            room = large.n if self._growing is None else min(large.capacity, self._growing.capacity)
            return CodedSearcher(large, large.n, room, self._layout, large.search, self._refits, self._filtered)
        if not self._small.n:
            return None
        return FloatSearcher(self._small.picture(), self._metric, self._why, self._layout)

    def extend(self, rows: Rows, stop: int, cancel: Cancel, dead: NDArray[np.bool_] | None = None) -> None:
        """Take some or all of the slots n .. stop - 1 into the graph; `n` says how far it came.

        dead: as in `retire`; a graph that is built anew leaves them out.
        """
        if self._cells is not None or self._wants_cells(stop):
            self._extend_cells(rows, stop, cancel, dead)
        elif self._large is None and not self._wants_build(stop - int(self._small.removed.sum())):
            self._small.extend(rows, min(stop, self._small.n + CHUNK_ROWS), cancel, reached=True)
        elif self._large is None or prefers_rebuild(self._large.n, stop) or self._worn:
            self._build(rows, stop, cancel, self._gone(stop) if dead is None else dead)
        else:
            self._insert(self._large, rows, min(stop, self._large.n + CHUNK_ROWS), cancel)

    def retire(self, rows: Rows, dead: NDArray[np.bool_] | None, cancel: Cancel) -> bool:
        """Take some slots out of the graph that are dead for good; False when there is nothing worth doing.

        dead: (at least n,), which slots no reader that comes from now on may return; None: none. Few are left for
        later: they cost searches little, and taking out any number is a pass over all links, or lists of cells. Cells
        answer filtered queries before what these take is fitted, here as well.
        """
        if self._cells is not None:
            return self._follow_cells(self._cells, rows, dead)
        if dead is None or (self._large is not None and not self._worth_retiring(dead)):
            return False
        removed = self._removed[: self.n] if self._large is not None else self._small.removed
        waiting = np.flatnonzero(dead[: self.n] & ~removed)
        living = self.n - np.count_nonzero(removed)
        if len(waiting) == 0 or len(waiting) * REMOVE_SHARE < living:
            return False
        if self._large is None:
            self._small.remove(rows, waiting)
        elif len(waiting) * REBUILD_SHARE > living or self._worn:
            before = self._large
            self._build(rows, self.n, cancel, dead)
            return self._large is not before
        else:
            growing = self._grown(self._large, rows)
            slots = waiting[:CHUNK_REMOVED]
            patch = growing.remove_links(slots)
            self._removed[slots] = True
            self._changes += len(slots)
            self._out += len(slots)
            self._large.enter_elsewhere(rows, self._removed)
            self._large.patch_links(patch.slots, patch.links)
            self._entry = growing.entry
        return True

    def may_retire(self, dead: int) -> bool:
        """Whether `retire` can have something to do when so many slots are dead, those taken out included."""
        return self._cells is not None or dead * (REMOVE_SHARE + 1) >= max(self.n, 1)

    def _worth_retiring(self, dead: NDArray[np.bool_]) -> bool:
        """Whether many slots of the large graph are dead that links lead to: asked after every insertion."""
        out = self._out
        return bool((np.count_nonzero(dead[: self.n]) - out) * REMOVE_SHARE >= max(self.n - out, 1))

    @property
    def _worn(self) -> bool:
        """Whether the large graph has changed so much since it was built that it should be built anew."""
        return self._changes > WORN_CHANGES * (len(self._removed) - self._out)

    def _gone(self, stop: int) -> NDArray[np.bool_] | None:
        """Which of so many slots no link of the large graph leads to any more; None before there is one."""
        if self._large is None:
            return None
        gone = np.zeros(stop, np.bool_)
        gone[: len(self._removed)] = self._removed
        return gone

    def _wants_build(self, stop: int) -> bool:
        """Whether a graph on stored vectors should be built anew, in bulk: for codes, or because that is faster."""
        return self._wants_codes(stop) or (
            self._in_bulk and stop >= CODED_FROM_ROWS and prefers_rebuild(self._small.n, stop)
        )

    def _wants_codes(self, stop: int) -> bool:
        return self._coded_from is not None and stop >= self._coded_from

    def _wants_cells(self, stop: int) -> bool:
        """Decide at every build, until there are cells."""
        if self._large is not None or self._cells_from is None or stop < self._cells_from:
            return False
        budget = memory_budget() if self._budget is None else self._budget
        self._layout = choose_layout(self._asked, stop, self._dim, budget)
        return self._layout.chosen == "cells"

    def _extend_cells(self, rows: Rows, stop: int, cancel: Cancel, dead: NDArray[np.bool_] | None) -> None:
        """Append to the cells; make them anew for twice as many rows, or rows unlike those they were fitted to."""
        if self._cells is not None and stop < 2 * self._cells.built and not self._cells.index.drifted:
            self._cells.append(rows, self._cells.n, min(stop, self._cells.n + CHUNK_ROWS))
            return
        threads, seed = os.cpu_count() or 1, self._params.seed
        made = CellsIndex.build(
            rows, stop, self._metric, codec=self._codec, seed=seed, threads=threads, cancel=cancel, dead=dead
        )
        if made is not None:
            self._cells, self._unseen = made, True
            self._small = HnswIndex(self._metric, self._dim, self._params)

    def _follow_cells(self, cells: CellsIndex, rows: Rows, dead: NDArray[np.bool_] | None) -> bool:
        """Drop dead slots when they are many, else fit what filtered searches take; False when nothing is done."""
        if self._unseen:  # readers come first
            self._unseen = False
            return False
        if dead is not None:
            listed = cells.listed
            waiting, living = int((listed & dead[: cells.n]).sum()), int((listed & ~dead[: cells.n]).sum())
            if living and waiting * DROP_SHARE > living:
                cells.drop(dead)
                return True
        if self._filters and not cells.filters_fitted:
            cells.fit_filters(rows, seed=self._params.seed)
            return True
        return False

    def _build(self, rows: Rows, stop: int, cancel: Cancel, dead: NDArray[np.bool_] | None) -> None:
        removed = np.zeros(stop, np.bool_) if dead is None else dead[:stop].copy()
        living = np.flatnonzero(~removed)
        threads = os.cpu_count() or 1
        seed = self._params.seed
        links = build_links(
            rows, stop, self._metric, threads=threads, cancel=cancel, seed=seed, fill=True, slots=living
        )
        if links is None:
            return
        if self._wants_codes(len(living)):
            large = CodedIndex.build(
                rows, stop, self._metric, links.links, codec=self._codec, seed=seed, threads=threads
            )
            refused = large.efforts.refused if self._codec == "auto" else None
            if refused is None:
                filtered = self._filtering(large, rows, cancel)
                if self._filters and filtered is None:
                    return
                self._filtered = filtered
                self._large, self._removed, self._out = large, removed, stop - len(living)
                self._small = HnswIndex(self._metric, self._dim, self._params)
                self._growing, self._entry, self._changes = None, links.entry, 0
                return
            # codes cannot tell these rows apart (tight groups far from each other): walk the same links on floats
            self._why, self._coded_from = refused, None
        self._large, self._growing, self._filtered = None, None, None
        self._small = HnswIndex.from_links(self._metric, self._dim, self._params, links, removed)

    def _filtering(self, large: CodedIndex, rows: Rows, cancel: Cancel) -> FilteredIndex | None:
        """What answers under a filter over a graph just made; None where that is not kept, or when cancelled."""
        if not self._filters:
            return None
        threads = os.cpu_count() or 1
        return FilteredIndex.build(large, rows, seed=self._params.seed, threads=threads, cancel=cancel)

    @property
    def lacks_filters(self) -> bool:
        """Whether there is a coded graph, and nothing yet that answers under a filter but a masked walk."""
        return self._large is not None and self._filtered is None

    def make_filters(self, rows: Rows, cancel: Cancel) -> None:
        """Make what answers under a filter over the coded graph there is; later rows follow, a build drops it."""
        if self._large is not None and self._filtered is None:
            threads, seed = os.cpu_count() or 1, self._params.seed
            self._filtered = FilteredIndex.build(self._large, rows, seed=seed, threads=threads, cancel=cancel)

    def _grown(self, large: CodedIndex, rows: Rows) -> GrowingLinks:
        """What insertion and removal need beside the links, made again when a build has dropped it."""
        if self._growing is None:
            links = large._arrays.links[: large.n]  # noqa: SLF001
            threads = os.cpu_count() or 1
            self._growing = GrowingLinks(
                rows, large.n, self._metric, links, entry=self._entry, removed=self._removed, threads=threads
            )
        return self._growing

    def _insert(self, large: CodedIndex, rows: Rows, stop: int, cancel: Cancel) -> None:
        growing = self._grown(large, rows)
        before = large.n

        def near(slot: int, out: NDArray[np.uint32]) -> int:
            return search_candidates(large, rows.vectors[slot], rows, out)

        patch = growing.insert_links(rows, stop, cancel=cancel, search=near)
        large.append(rows, before, growing.n)
        self._changes += large.n - before
        if self._filtered is not None:
            self._filtered.append(rows, before, large.n)
        large.patch_links(patch.slots, patch.links)
        if self._removed.base is not self._marked or large.n > len(self._marked):
            self._marked = np.zeros(int(_MARKED_GROWTH * large.n), np.bool_)
            self._marked[: len(self._removed)] = self._removed
        self._removed = self._marked[: large.n]
        if large.drifted:
            self._refit(large, rows, cancel)

    def _refit(self, large: CodedIndex, rows: Rows, cancel: Cancel) -> None:
        """Fit the codes again to all rows over the same links; readers keep the old ones until the next View."""
        links = large._arrays.links[: large.n].copy()  # noqa: SLF001
        seed, threads = self._params.seed, os.cpu_count() or 1
        fitted = CodedIndex.build(rows, large.n, self._metric, links, codec=self._codec, seed=seed, threads=threads)
        self._refits += 1
        if self._codec == "auto" and fitted.efforts.refused is not None:
            self._build(rows, large.n, cancel, self._removed)  # on floats, with levels above
        else:
            if self._filtered is not None:
                parts = self._filtered.lists.members()
                self._filtered = FilteredIndex.build(fitted, rows, seed=self._params.seed, parts=parts)
            self._large = fitted

    def problems(self) -> list[str]:
        """What does not hold of what is walked, in words; for the thread that extends it."""
        if self._cells is not None:
            return cells_problems(self._cells)
        if self._large is None:
            return float_problems(self._small.picture())
        arrays = self._large._arrays  # noqa: SLF001
        links = self._large.fitted(self._entry, self._removed).links
        return coded_problems(links, np.append(arrays.cell_nodes, self._entry), self._removed)

    def encode(self) -> bytes:
        """The graph as bytes: links, none of removed slots, and what was fitted; codes are made from the vectors."""
        return b"".join(self._chunks(mapped=False))

    def chunks(self) -> list[bytes | memoryview]:
        """The same, to be written to a file that will be mapped, where what searches seldom look at may stay.

        The parts are written before the graph takes in more.
        """
        return self._chunks(mapped=True)

    def _chunks(self, *, mapped: bool) -> list[bytes | memoryview]:
        if self._cells is not None:
            return [self._cells.encode()]
        if self._large is None:
            return [self._small.encode()]
        fitted = self._large.fitted(self._entry, self._removed)._replace(changes=self._changes)
        if mapped and self._large._arrays.fine is not None:  # noqa: SLF001
            fitted = fitted._replace(plane=self._large._arrays.fine[: self._large.n])  # noqa: SLF001
        if self._filters and self._filtered is not None:  # else the bytes would tell whether somebody filtered
            parts = self._filtered.lists.members()
            sizes = np.diff(parts.starts).astype(np.uint32)
            fitted = fitted._replace(filters=self._filtered.efforts, sizes=sizes, members=parts.order.astype(np.uint32))
        return coded_snapshot.chunks(fitted)

    def decode(self, buffer: memoryview | bytes, rows: Rows, slots: int) -> None:
        """Take over a graph of at most `slots` slots; CorruptData, or FormatTooNew, unless all of it holds."""
        view = memoryview(buffer)
        if bytes(view[: len(cells_snapshot.MAGIC)]) == cells_snapshot.MAGIC:
            self._cells = CellsIndex.decode(
                view, rows, self._metric, slots, codec=self._codec, seed=self._params.seed, threads=os.cpu_count() or 1
            )
            self._layout = Layout("cells", "as it was saved")
            return
        if bytes(view[: len(coded_snapshot.MAGIC)]) != coded_snapshot.MAGIC:
            self._small = HnswIndex.decode(view, self._metric, self._dim, self._params, slots)
            if self._wants_codes(self._small.n):
                self._why = "codes could not tell the rows apart when the graph was built"
            return
        known = coded_snapshot.decode(view, self._metric, self._dim, slots)
        self._large = CodedIndex.of_choice(
            *(rows, len(known.links), self._metric, known.choice, known.links),
            fine=known.fine, plane=known.plane, efforts=known.efforts,
        )  # fmt: skip
        if known.plane is not None:
            let_go(known.plane)  # reading and checking it touched every page
        self._removed = known.links[:, 0] == SENTINEL
        self._entry, self._changes, self._out = known.entry, known.changes, int(self._removed.sum())
        self._filtered = self._filtered_of(self._large, known, rows) if self._filters else None

    def _filtered_of(self, large: CodedIndex, known: coded_snapshot.Fitted, rows: Rows) -> FilteredIndex | None:
        """What answers under a filter, as it was saved or, from an older snapshot, made again."""
        parts = None
        if known.filters is not None and known.sizes is not None and known.members is not None:
            starts = np.append(0, np.cumsum(known.sizes, dtype=np.int64))
            parts = Partition(starts, known.members.astype(np.int32))
        threads, seed = os.cpu_count() or 1, self._params.seed
        return FilteredIndex.build(large, rows, seed=seed, threads=threads, parts=parts, efforts=known.filters)
