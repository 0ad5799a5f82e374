"""Answer queries under filters by ways that are kept for about as many matches, whatever the filter.

Planning a filter for itself takes longer than answering a query under it, so what depends on the View and the options
alone is kept, ways with it. Filters that are stretches of sorted columns are found, planned and searched anew by each
query: it finds how many match, takes the way that was chosen for about as many, and goes it: a list reads a stretch as
it lies in the column, or several copied together, what needs bits has them marked in borrowed memory. Other filters are
bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import word_count
from vicinal.filter.stretch import PAIRS_MOST, Kernels, Stretch, stretch_kernels
from vicinal.filtering import Carried
from vicinal.index.code_scan import Among
from vicinal.index.coded_arrays import LINE, address, aligned
from vicinal.index.coded_scratch import bits_at
from vicinal.index.filtered import FilteredIndex
from vicinal.index.shared_search import SharedSearcher
from vicinal.index.short import ShortSearcher
from vicinal.planner import way_for
from vicinal.types import Bits
from vicinal.view import DenseView, View

__all__ = ["Stretched", "stretched"]

Pair = tuple[NDArray[np.uint32], NDArray[np.float32]]
_FEW = 4  # first bits of a number of matches by which ways differ


class Stretched:
    """Queries of one View with the same options, under filters that are stretches or bits; any number of threads.

    living: the slots that may be returned without a filter, None: all n.
    """

    def __init__(
        self,
        filtered: FilteredIndex,
        field: DenseView,
        n: int,
        living: Bits | None,
        k: int,
        ef: int,
        goal: float | None,
    ) -> None:
        self._filtered, self._rows, self._n, self._living = filtered, field.rows, n, living
        self._k, self._ef, self._goal = k, ef, goal
        self._ways: dict[tuple[int, int, int], Carried] = {}
        self._free: list[_Marks] = []

    def answer(self, stretch: Stretch, steps: int) -> Callable[[NDArray[Any]], Pair]:
        """How the nearest slots of a stretch are found; steps: as of `way_for`."""
        among = self._among_living if self._living is not None else self._among
        free, n = self._free, self._n

        def one(query: NDArray[Any]) -> Pair:
            try:
                marks = free.pop()  # atomic: two threads never get the same
            except IndexError:
                marks = _Marks(n)
            carried, some = among(stretch, marks, steps)
            found: Pair = _nothing() if carried is None else carried.brief(query, some)
            free.append(marks)
            return found

        return one

    def over(self, allowed: Bits, matches: int, steps: int) -> Callable[[NDArray[Any]], Pair]:
        """How the nearest of a set of slots are found, so many, all of which may be returned."""
        carried = self._carried(matches, steps)
        if carried is None:
            return lambda _: _nothing()
        brief, some = carried.brief, Among(matches, bits_at(allowed, self._n), allowed)
        return lambda query: brief(query, some)

    def _among(self, stretch: Stretch, marks: _Marks, steps: int) -> tuple[Carried | None, Among]:
        """How a stretch is searched now, and what in: its slots as they lie, copied together, or marked."""
        kernels, ends = self._kernels, marks.ends_at
        if stretch.parts > 1:
            return self._marked(marks, self._mark(stretch, marks), steps)
        matches = kernels.find(stretch.at, ends)
        carried = self._carried(matches, steps)
        if carried is None:
            return None, Among(0)
        if not (stretch.pairs and carried.reads_lists):
            kernels.mark(stretch.at, ends, marks.at, marks.lines)
            return carried, Among(matches, marks.at, marks.words)
        if stretch.pairs > 1:
            order, listed = marks.listed
            kernels.copy(stretch.at, ends, listed)
            return carried, Among(matches, 0, None, listed, order)
        return carried, Among(matches, 0, None, stretch.order_at + marks.ends[0] * 4, stretch.order)

    def _among_living(self, stretch: Stretch, marks: _Marks, steps: int) -> tuple[Carried | None, Among]:
        """The same where some slots may not be returned: all are marked, and those taken out."""
        matches = self._mark(stretch, marks)
        if matches:
            matches = self._kernels.narrow(marks.at, self._living_at, marks.words.size)
        return self._marked(marks, matches, steps)

    def _marked(self, marks: _Marks, matches: int, steps: int) -> tuple[Carried | None, Among]:
        """What was marked, and the way for as many."""
        return self._carried(matches, steps), Among(matches, marks.at, marks.words)

    def _mark(self, stretch: Stretch, marks: _Marks) -> int:
        """Mark a stretch; give how many slots it holds."""
        kernels, ends = self._kernels, marks.ends_at
        if stretch.parts > 1:
            spare = marks.spare[1]
            return kernels.join(stretch.at, stretch.parts, int(stretch.either), ends, marks.at, spare, marks.lines)
        matches = kernels.find(stretch.at, ends)
        if matches:
            kernels.mark(stretch.at, ends, marks.at, marks.lines)
        return matches

    @cached_property
    def _kernels(self) -> Kernels:
        return stretch_kernels()  # not before the first filter: compiling takes a second

    @cached_property
    def _living_at(self) -> int:
        assert self._living is not None, "asked for where some slots may not be returned"
        return bits_at(self._living, self._n)

    def matches(self, stretch: Stretch) -> int:
        """How many slots of a stretch may be returned."""
        among = self._among_living if self._living is not None else self._among
        return among(stretch, _Marks(self._n), 0)[1].matches

    def _carried(self, matches: int, steps: int) -> Carried | None:
        """The way for about so many matches, as `way_for` tells them apart; None for none."""
        part = matches.bit_length() - _FEW
        about = (matches >> part, part, steps) if part > 0 else (matches, 0, steps)
        made = self._ways.get(about)
        if made is None and matches:
            way = way_for(self._filtered, self._k, self._ef, self._goal, self._n, matches, steps)
            made = self._ways[about] = Carried.of(self._filtered, self._rows, self._n, self._k, way)
        return made


class _Marks:
    """One thread's memory: the ends of stretches, bits of n slots in whole lines and, where asked for, more of them."""

    def __init__(self, n: int) -> None:
        self._n, self.lines = n, -(-n // (LINE * 8))
        self._room = self._line_of_words()
        self.words: Bits = self._room[: word_count(n)]
        self.at = address(self.words)
        ends = np.zeros(2 * PAIRS_MOST, np.int64)
        self.ends, self.ends_at = ends.data, address(ends)

    def _line_of_words(self) -> Bits:
        return aligned((self.lines * 8,), np.uint64)

    @cached_property
    def spare(self) -> tuple[Bits, int]:
        """As many words, for filters of several conditions, and where they lie."""
        words = self._line_of_words()
        return words, address(words)

    @cached_property
    def listed(self) -> tuple[NDArray[np.uint32], int]:
        """Room for slots, for filters whose slots lie apart, and where it lies."""
        slots = np.empty(self._n, np.uint32)
        return slots, address(slots)


def _nothing() -> Pair:
    return np.empty(0, np.uint32), np.empty(0, np.float32)


def stretched(view: View, field: DenseView, k: int, ef: int, goal: float | None) -> Stretched | None:
    """What answers such filters; None where not all slots have codes, or only leaders or leading dimensions have."""
    filtered = None if field.graph is None else field.graph.filtered
    if (
        filtered is None
        or isinstance(field.graph, SharedSearcher | ShortSearcher)
        or field.indexed < view.n
        or not view.n
    ):
        return None
    return Stretched(filtered, field, view.n, view.allowed(field.present, None), k, ef, goal)
