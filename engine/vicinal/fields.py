"""What fields of a collection share, and those of single vectors: files, what is derived from them, and the index.

The writer thread appends, the indexer thread builds the graph, readers take pictures; a field is shared by those
two threads only through `view`, whose arrays are complete before they are published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.batch import DensePart, MultiPart
from vicinal.bits import bits_at, bits_from_mask
from vicinal.casting import inverse_norms_of
from vicinal.index.field_index import FieldIndex, Searcher
from vicinal.index.mapped import let_go
from vicinal.index.shared import SharedIndex
from vicinal.index.short import ShortSearcher, short_norms
from vicinal.schema import Dense
from vicinal.storage.vectors import RowFile
from vicinal.types import Bits, Metric, Rows
from vicinal.view import DenseView, MultiView

__all__ = ["Cancel", "DenseField", "FieldStore", "Presence", "growable", "present_at", "vector_file"]

_NO_NORMS = np.empty(0, np.float32)
Cancel = Callable[[], bool]


def growable(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """`array` when it has `rows` rows, else a copy with at least half as many again.

    Readers keep the old one, which gets no further writes.
    """
    if rows <= len(array):
        return array
    wider = np.zeros((max(rows, len(array) + len(array) // 2, 1024), *array.shape[1:]), array.dtype)
    wider[: len(array)] = array
    return wider


class Presence:
    """Which slots have a vector in this field; stays None while all have."""

    def __init__(self) -> None:
        self._mask: NDArray[np.bool_] | None = None

    def load(self, mask: NDArray[np.bool_]) -> None:
        """Take what the catalogue says."""
        self._mask = None if mask.all() else mask.copy()

    def extend(self, first: int, count: int, present: bool | NDArray[np.bool_]) -> None:
        """Say of `count` slots from `first` whether they have one."""
        if self._mask is None:
            if np.all(present):
                return
            self._mask = np.ones(first, np.bool_)
        self._mask = growable(self._mask, first + count)
        self._mask[first : first + count] = present

    def useless(self, n: int, dead: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Which of n slots no search of this field may return: `dead` (at least n,), or absent. None: none."""
        if self._mask is None:
            return dead
        absent: NDArray[np.bool_] = ~self._mask[:n]
        return absent if dead is None else absent | dead[:n]

    def bits(self, n: int) -> NDArray[np.uint64] | None:
        """The first n slots that have one; None: all."""
        return None if self._mask is None else bits_from_mask(self._mask[:n])


class FieldStore(Protocol):
    """What the writer, the indexer and recovery need of a field, dense or multi."""

    files: Mapping[str, RowFile]

    @property
    def indexed(self) -> int:
        """Slots below this are in the graph."""

    def append(self, part: DensePart | MultiPart | None, first: int, count: int) -> None:
        """Append `count` slots from `first`; None where the batch has no vectors for this field."""

    def copy(self, other: Any, source: Any, slots: NDArray[np.intp], first: int) -> None:
        """Append what the `other` generation's field stores at these slots, as slots from `first` on.

        source: a picture of it that has them.
        """

    def view(self, n: int) -> DenseView | MultiView:
        """Picture of the first n slots."""

    def extend_index(self, n: int, cancel: Cancel, dead: NDArray[np.bool_] | None) -> None:
        """Take some or all of the slots indexed..n into the graph; dead (n,): those that need not be."""

    def retire(self, n: int, dead: NDArray[np.bool_] | None, cancel: Cancel) -> bool:
        """Take slots that are dead, or lack this vector, out of the graph; False when that is not worth a pass yet."""

    def rewind(self, n: int) -> None:
        """Forget slots from n on, which no commit holds."""

    def problems(self, n: int) -> list[str]:
        """What does not hold of n slots' places and of the index, in words; no thread may extend it meanwhile."""

    def tail_bytes(self, n: int) -> int:
        """Bytes that a query scans because they are not in the graph yet."""

    def load(self, n: int, present: NDArray[np.bool_]) -> None:
        """Derive norms, ends and presence of the n committed slots after opening."""

    def snapshot(self) -> Sequence[bytes | memoryview]:
        """The graph as bytes, in parts to be written before it changes."""

    def restore(self, buffer: memoryview | bytes, n: int) -> None:
        """Take a graph snapshot over at most n slots; whatever it raises when that does not fit, the index is empty."""


def _index_of(spec: Dense) -> FieldIndex | SharedIndex:
    """The index of a field, empty; over leaders of near-copies where these share nodes."""
    index = FieldIndex(spec.metric, spec.walked, spec.params, codec=spec.codec, layout=spec.layout, filters=True)
    if spec.share is None:
        return index
    return SharedIndex(index, spec.metric, spec.columns, spec.stored, spec.share, spec.search_dims)


class DenseField:
    """Vectors by slot, in the declared dtype, in one row file; 1/|x| derived under cosine."""

    def __init__(self, name: str, spec: Dense, vectors: RowFile) -> None:
        self._index = _index_of(spec)
        self._short = spec.search_dims if spec.share is None else None  # leading columns that are read where they lie
        self.name, self.spec = name, spec
        self.files: Mapping[str, RowFile] = {vector_file(name): vectors}
        self._vectors = vectors
        self._norms = _NO_NORMS
        self._short_norms = _NO_NORMS  # of the leading dimensions that are searched, under cosine
        self._presence = Presence()

    @property
    def indexed(self) -> int:
        """Slots below this are in the graph."""
        return self._index.n

    def snapshot(self) -> Sequence[bytes | memoryview]:
        """The graph as bytes, in parts."""
        return self._index.chunks()

    def append(self, part: DensePart | MultiPart | None, first: int, count: int) -> None:
        """Append the rows as sent; a slot without this vector takes a row of zeros."""
        block = part.vectors if isinstance(part, DensePart) else np.zeros((count, self.spec.columns), self.spec.stored)
        self._take(block, first, part is not None, part.inv_norms if isinstance(part, DensePart) else 0)

    def copy(self, other: Any, source: DenseView, slots: NDArray[np.intp], first: int) -> None:  # noqa: ARG002
        """Append rows as another generation stores them."""
        norms = source.rows.inv_norms[slots] if self.spec.metric is Metric.COSINE else 0
        self._take(source.rows.vectors[slots], first, present_at(source.present, slots), norms)

    def _take(
        self, block: NDArray[Any], first: int, present: bool | NDArray[np.bool_], inv_norms: NDArray[np.float32] | int
    ) -> None:
        self._vectors.append(block.view(np.uint8))
        stop = first + len(block)
        self._presence.extend(first, len(block), present)
        self._shorten(block, first)
        if self.spec.metric is Metric.COSINE:
            self._grow_norms(stop)
            self._norms[first:stop] = inv_norms

    def _rows(self) -> Rows:
        return Rows(self._vectors.matrix(self.spec.stored, (self.spec.columns,)), self._norms)

    def _walked(self) -> Rows:
        """The rows that the index is over: all of each, or its leading dimensions where they lie."""
        rows, dims = self._rows(), self._short
        return rows if dims is None else Rows(rows.vectors[:, :dims], self._short_norms)

    def _shorten(self, block: NDArray[Any], first: int) -> None:
        """Derive 1/|x| of the leading dimensions of rows from `first` on, where the index is over them."""
        if self._short is None or self.spec.metric is not Metric.COSINE:
            return
        stop = first + len(block)
        norms = growable(self._short_norms, max(stop, len(self._rows().vectors)))
        norms[first:stop] = short_norms(block[:, : self._short])
        self._short_norms = norms

    def _grow_norms(self, n: int) -> None:
        # kernels may route through any mapped row, so norms reach as far as the map
        self._norms = growable(self._norms, max(n, len(self._rows().vectors)))

    def view(self, n: int) -> DenseView:
        """Picture of the first n slots."""
        graph: Searcher | None = self._index.searcher()  # before the rows: what it links to must lie inside their map
        if graph is not None and self._short is not None:
            graph = ShortSearcher(graph, self.spec.metric, self._walked())
        return DenseView(self._rows(), graph, graph.n if graph else 0, self._presence.bits(n))

    def rewind(self, n: int) -> None:
        """Forget rows from n on."""
        self._vectors.rewind(n)

    def extend_index(self, n: int, cancel: Cancel, dead: NDArray[np.bool_] | None) -> None:
        """Take slots up to n into the graph."""
        self._index.extend(self._walked(), n, cancel, self._presence.useless(n, dead))

    def retire(self, n: int, dead: NDArray[np.bool_] | None, cancel: Cancel) -> bool:
        """Take dead slots out of the graph."""
        return self._index.retire(self._walked(), self._presence.useless(n, dead), cancel)

    def restore(self, buffer: memoryview | bytes, n: int) -> None:
        """Take a graph snapshot."""
        try:
            self._index.decode(buffer, self._walked(), n)
        except BaseException:
            self._index = _index_of(self.spec)
            raise
        if self._index.may_code:
            let_go(self._rows().vectors)  # encoding read all of them, searches read few

    def problems(self, n: int) -> list[str]:
        """What does not hold of the graph."""
        if self.indexed > n:
            return [f"the graph has {self.indexed} slots of {n}"]
        return self._index.problems() if self.indexed else []

    def tail_bytes(self, n: int) -> int:
        """Bytes of vectors scanned per query."""
        return (n - self.indexed) * self.spec.row_bytes

    def load(self, n: int, present: NDArray[np.bool_]) -> None:
        """Derive 1/|x| of the committed rows, and of their leading dimensions."""
        self._presence.load(present)
        for first in range(0, n, 8192):
            self._shorten(self._rows().vectors[first : min(first + 8192, n)], first)
        if self.spec.metric is not Metric.COSINE:
            return
        self._grow_norms(n)
        vectors = self._rows().vectors
        for first in range(0, n, 8192):
            block = vectors[first : min(first + 8192, n)]
            here = present[first : first + len(block)]
            self._norms[first : first + len(block)][here] = inverse_norms_of(block[here], self.name)


def present_at(bits: Bits | None, slots: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of these slots have a vector, where `bits` are those of a field's picture."""
    return np.ones(len(slots), np.bool_) if bits is None else bits_at(bits, slots)


def vector_file(name: str) -> str:
    """File of a dense field's rows, generation 1."""
    return f"{name or 'vectors'}-1.vec"
