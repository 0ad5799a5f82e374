"""The index of a field whose near-copies share nodes: groups of all rows, and an index over their leaders' rows.

Leaders' rows are copied together, so that their index, which knows nothing of groups, is over slots of its own, and a
large copy lies in a nameless file (`RowRoom`): codes are walked in memory, stored rows are read where they settle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.index.field_index import FieldIndex
from vicinal.index.groups import Groups
from vicinal.index.groups_snapshot import decode, encode
from vicinal.index.mapped import is_mapped, let_go
from vicinal.index.row_room import RowRoom, longer
from vicinal.index.shared_search import SharedSearcher
from vicinal.index.short import ShortSearcher, short_norms
from vicinal.types import Metric, Rows

__all__ = ["SharedIndex"]

_FILE_FROM: Final = 4 << 20  # bytes of leaders' rows from which they lie in a file
_PART: Final = 4096  # rows copied at a time
_GROWTH: Final = 1.25

Cancel = Callable[[], bool]


class _Leaders:
    """Rows of leaders by group: whole ones, and what the index is over, their leading dimensions if so many are."""

    def __init__(self, metric: Metric, columns: int, dims: int | None, dtype: np.dtype[np.generic]) -> None:
        self._metric, self._dims = metric, dims
        self._room = RowRoom(columns, "auto", dtype, file_from=_FILE_FROM)
        self.n = 0
        self.whole = Rows(np.empty((0, columns), dtype), np.empty(0, np.float32))
        self.walked = self._walked(np.empty(0, np.float32))

    def _walked(self, norms: NDArray[np.float32]) -> Rows:
        return self.whole if self._dims is None else Rows(self.whole.vectors[:, : self._dims], norms)

    def extend(self, rows: Rows, slots: NDArray[np.uint32]) -> None:
        """Copy the rows of all leaders that are not here yet; `slots` are all leaders'."""
        self._make_room(len(slots))
        while self.n < len(slots):
            part = slice(self.n, min(self.n + _PART, len(slots)))
            self.whole.vectors[part] = rows.vectors[slots[part]]
            if self._metric is Metric.COSINE:
                self.whole.inv_norms[part] = rows.inv_norms[slots[part]]
                if self._dims is not None:
                    self.walked.inv_norms[part] = short_norms(self.walked.vectors[part])
            self.n = part.stop

    def _make_room(self, rows: int) -> None:
        if rows <= len(self.whole.vectors):
            return
        room = max(rows, int(len(self.whole.vectors) * _GROWTH), 1024)
        vectors, norms, short = self._room.longer(self.whole.vectors, room, self.n), *self._norms(room)
        self.whole = Rows(vectors, norms)
        self.walked = self._walked(short)

    def _norms(self, room: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Longer norms of whole rows and of leading dimensions, where there are some."""
        if self._metric is not Metric.COSINE:
            return self.whole.inv_norms, self.whole.inv_norms
        return longer(self.whole.inv_norms, room, self.n), longer(self.walked.inv_norms, room, self.n)

    @property
    def memory_bytes(self) -> int:
        """Bytes of norms, and of rows that are not in a file."""
        vectors, norms = self.whole
        return norms.nbytes + (0 if is_mapped(vectors) else vectors.nbytes)


class SharedIndex:
    """As `FieldIndex`, over rows of which near-copies share a node; `share` as in `Dense`."""

    def __init__(
        self,
        index: FieldIndex,
        metric: Metric,
        columns: int,
        dtype: np.dtype[np.generic],
        share: float,
        dims: int | None = None,
    ) -> None:
        """index: empty, over `dims` leading columns, None for all."""
        self._index, self._metric, self._share = index, metric, float(share)
        self._columns, self._dtype, self._dims = columns, dtype, dims
        self._groups, self._leaders = self._none()

    def _none(self) -> tuple[Groups, _Leaders]:
        """Groups of no rows."""
        metric, columns = self._metric, self._columns
        return Groups(metric, columns, self._share), _Leaders(metric, columns, self._dims, self._dtype)

    @property
    def n(self) -> int:
        """Slots [0, n) are in the index, each by its leader."""
        covered = self._index.n
        return self._groups.n if covered >= self._groups.count else int(self._groups.leaders[covered])

    @property
    def may_code(self) -> bool:
        """Whether it is or will be walked on codes."""
        return self._index.may_code

    def searcher(self) -> SharedSearcher | None:
        """What a reader needs; None while the index is empty."""
        graph = self._index.searcher()
        if graph is None:
            return None
        if self._dims is not None:
            graph = ShortSearcher(graph, self._metric, self._leaders.walked)
        own = self._groups.memory_bytes + self._leaders.memory_bytes
        return SharedSearcher(graph, self._metric, self._leaders.whole, self._groups.picture(), self.n, own)

    def extend(self, rows: Rows, stop: int, cancel: Cancel, dead: NDArray[np.bool_] | None = None) -> None:
        """Take some or all of the slots n .. stop - 1 into the index; as `FieldIndex.extend`."""
        gone = self._groups.gone(dead)  # what may leave the index now takes in none of the rows that come
        self._groups.extend(rows, stop, dead, cancel)
        self._leaders.extend(rows, self._groups.leaders)
        count = self._groups.count
        if self._index.n < count:
            before = self._index.n
            self._index.extend(self._leaders.walked, count, cancel, _followed(gone, count))
            if self._index.n - before >= _PART and self.may_code:
                let_go(self._leaders.whole.vectors)  # building read all of them, searches read few

    def retire(self, rows: Rows, dead: NDArray[np.bool_] | None, cancel: Cancel) -> bool:
        """Take leaders out all of whose members are dead for good; as `FieldIndex.retire`."""
        del rows  # leaders' rows are kept here
        gone = _followed(self._groups.gone(dead), self._groups.count)
        return self._index.retire(self._leaders.walked, gone, cancel)

    def problems(self) -> list[str]:
        """What does not hold of the index of leaders, in words; for the thread that extends it."""
        return self._index.problems()

    def chunks(self) -> list[bytes | memoryview]:
        """Groups and index as bytes, to be written to a file before it takes in more."""
        groups = self._groups
        return [encode(groups.group_of, groups.radius, self._share), *self._index.chunks()]

    def decode(self, buffer: memoryview | bytes, rows: Rows, slots: int) -> None:
        """Take over an index of at most `slots` slots; CorruptData, or FormatTooNew, unless all of it holds."""
        saved = decode(buffer, self._share, slots)
        groups, leaders = self._none()
        groups.restore(saved.group_of, saved.radius)
        leaders.extend(rows, groups.leaders)
        self._index.decode(saved.rest, leaders.walked, groups.count)
        self._groups, self._leaders = groups, leaders
        if self.may_code:
            let_go(leaders.whole.vectors)


def _followed(gone: NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_] | None:
    """The mask, of `count` groups: those that came since live."""
    if gone is None:
        return None
    return np.concatenate([gone, np.zeros(count - len(gone), np.bool_)])
