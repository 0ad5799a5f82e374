"""The index of one dense field as readers hold it: a graph on floats, a coded graph, or cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from vicinal.index.cells import CellsIndex
from vicinal.index.coded import CodedIndex
from vicinal.index.exact import Found
from vicinal.index.filtered import FilteredIndex
from vicinal.index.graph import GraphPicture
from vicinal.index.hnsw import search_graph
from vicinal.index.layout import Layout
from vicinal.types import Bits, Metric, Rows

__all__ = ["LINES", "CellsSearcher", "CodedSearcher", "FloatSearcher", "Searcher", "SearcherOver"]

LINES: Final = {"int8": "bytes", "int4": "nibbles", "rabitq": "signs"}  # public names of codes, and their lines
_PUBLIC: Final = {line: name for name, line in LINES.items()}


class Searcher(Protocol):
    """A graph as a reader holds it: it answers over slots below `n` whatever the writer does next."""

    @property
    def n(self) -> int:
        """Slots [0, n) are in the graph."""

    @property
    def nbytes(self) -> int:
        """Bytes of the graph, without the vectors."""

    @property
    def room(self) -> int:
        """Slots below this enter the graph before its arrays are copied to larger ones, or it is made anew."""

    @property
    def layout(self) -> str:
        """`float`, `coded` or `cells`."""

    @property
    def codec(self) -> Mapping[str, Any]:
        """`chosen`: none, int8, int4 or rabitq; `why`; `recall_lost` to a walk on floats at equal ef, measured."""

    @property
    def placed(self) -> Layout:
        """Graph or cells, and why."""

    @property
    def filtered(self) -> FilteredIndex | None:
        """What answers under a filter without walking masked floats; None: nothing does."""

    def search(self, query: NDArray[Any], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None) -> Found:
        """At most k nearest of the allowed slots below limit, nearest first."""

    def ef_for(self, recall_target: float) -> int | None:
        """The least ef that reached a recall of the ten nearest, the largest if none did; None: not measured."""

    def recall_at(self, ef: int) -> float | None:
        """The recall of the ten nearest that was measured at an ef; None: not measured."""


@dataclass(frozen=True, slots=True)
class SearcherOver:
    """The base of searchers that put an inner one to use, which holds other rows: fewer, or parts of them."""

    inner: Searcher
    metric: Metric

    @property
    def layout(self) -> str:
        """`float`, `coded` or `cells`."""
        return self.inner.layout

    @property
    def placed(self) -> Layout:
        """Graph or cells of the inner rows, and why."""
        return self.inner.placed

    @property
    def codec(self) -> Mapping[str, Any]:
        """The codes of the inner rows."""
        return self.inner.codec

    @property
    def filtered(self) -> FilteredIndex | None:
        """What answers under a filter, over the inner rows."""
        return self.inner.filtered


@dataclass(frozen=True, slots=True)
class FloatSearcher:
    """A picture of an HNSW graph."""

    picture: GraphPicture
    metric: Metric
    why: str
    placed: Layout
    layout: str = "float"
    filtered: None = None

    @property
    def codec(self) -> Mapping[str, Any]:
        """Why no code is used."""
        return {"chosen": "none", "why": self.why, "recall_lost": 0.0}

    @property
    def n(self) -> int:
        """Slots in the graph."""
        return self.picture.n

    @property
    def room(self) -> int:
        """Slots that the arrays hold."""
        return self.picture.arrays.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of links and levels."""
        return self.picture.arrays.nbytes

    def search(self, query: NDArray[Any], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None) -> Found:
        """Beam search on floats."""
        return search_graph(self.picture, self.metric, rows, query, k, ef, limit=limit, allowed=allowed)

    def ef_for(self, recall_target: float) -> None:
        """Recall is not measured on floats."""
        del recall_target

    def recall_at(self, ef: int) -> None:
        """Recall is not measured on floats."""
        del ef


@dataclass(frozen=True, slots=True)
class CodedSearcher:
    """A coded index up to the rows it had when the View was made."""

    index: CodedIndex
    n: int
    room: int
    placed: Layout
    search: Callable[..., Found]  # of the index itself: one call less per query
    refits: int = 0
    filtered: FilteredIndex | None = None
    layout: str = "coded"

    @property
    def codec(self) -> Mapping[str, Any]:
        """The code by its public name, why it was taken, what it costs, and how often it was fitted again."""
        told = self.index.info
        lost = told["recall_lost"]
        return {"chosen": _PUBLIC[told["code"]], "why": told["why"], "recall_lost": lost, "refits": self.refits}

    @property
    def nbytes(self) -> int:
        """Bytes of codes, rows, links and cells."""
        return self.index.memory_bytes + (self.filtered.memory_bytes if self.filtered is not None else 0)

    def ef_for(self, recall_target: float) -> int | None:
        """The ef that reached a recall when the index was built; None: too few rows to measure."""
        return self.index.ef_for(recall_target) if self.index.efforts.measured else None

    def recall_at(self, ef: int) -> float | None:
        """The recall that was measured at an ef."""
        return self.index.efforts.recall_at(ef)


@dataclass(frozen=True, slots=True)
class CellsSearcher:
    """Cells up to the rows they had when the View was made."""

    index: CellsIndex
    n: int
    placed: Layout
    filtered: FilteredIndex | None = None
    layout: str = "cells"

    @property
    def room(self) -> int:
        """None beyond those in the lists: which list a row joins is not known before."""
        return self.n

    @property
    def codec(self) -> Mapping[str, Any]:
        """The code by its public name, and why it was taken."""
        told = self.index.info
        return {"chosen": _PUBLIC[told["code"]], "why": told["why"], "recall_lost": None}

    @property
    def nbytes(self) -> int:
        """Bytes of codes, lists and centres."""
        return self.index.memory_bytes

    def search(self, query: NDArray[Any], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None) -> Found:
        """Scan the nearest cells, settled on the stored vectors."""
        return self.index.search(query, k, ef, rows=rows, limit=limit, allowed=allowed)

    def ef_for(self, recall_target: float) -> int | None:
        """The ef that reached a recall when the cells were made; None: too few rows to measure."""
        return self.index.ef_for(recall_target) if self.index.efforts.measured else None

    def recall_at(self, ef: int) -> float | None:
        """The recall that was measured at an ef."""
        return self.index.recall_at(ef)
