"""The methods of the FANNS paper on our kernels, each alone: `vicinal.index`'s FilteredGraph classes.

One graph is built per attribute that a cell asks about, when it is first asked; a method refuses what its paper does
not cover. Where a method takes any predicate the bitmap is made inside the clock.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from bench.datasets import Dataset
from bench.fanns.columns import Among, Both, Predicate, Table, Within
from bench.fanns.engines.base import EF, Filtered, Floats
from bench.fanns.engines.typed import TypedColumns
from bench.rivals.base import Unsupported
from bench.rivals.vicinal_coded import rows_of
from vicinal.errors import VicinalError
from vicinal.index.attributes import AllOf, AnyOf, Between, Condition, FilteredGraph, Keys, LabelSets, Marked
from vicinal.types import Metric

__all__ = ["condition_of"]

_SECONDS_MAX = 120.0  # of building, after which no graph on one more attribute is begun
_LABELS_MAX = 5000  # a graph per label set is not built for a column of names


def condition_of(predicate: Predicate) -> tuple[str, Condition]:
    """The one column that a predicate is about, and the condition; Unsupported where it is about more."""
    match predicate:
        case Within(name, low, high):
            return name, Between(low, high)
        case Among(name, codes):
            return name, AnyOf(codes)
        case Both((Among(name, (first,)), Among(other, (second,)))) if name == other:
            return name, AllOf((first, second))
    raise Unsupported("answers one clause on one attribute")


class _Method(Filtered):
    package = "vicinal"
    lines = (EF,)
    module: ClassVar[str] = ""
    cls: ClassVar[str] = ""
    takes: ClassVar[str] = ""  # labels, keys or any

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        try:
            self.make: Any = getattr(import_module(f"vicinal.index.{self.module}"), self.cls)
        except (ImportError, AttributeError) as error:
            raise Unsupported(f"is not there: {error}") from None
        self.metric, self.table, self.threads = Metric(data.metric), table, threads
        self.rows = rows_of(data.base.copy(), self.metric)
        self.graphs: dict[str, FilteredGraph] = {}
        self.seconds: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        if self.takes == "any":
            self.typed = TypedColumns(table)
            self._graph("")

    def phrase(self, predicate: Predicate) -> Any:
        if self.takes == "any":
            return "", self.typed.tree(predicate)
        name, condition = condition_of(predicate)
        if (self.takes == "keys") != isinstance(condition, Between):
            raise Unsupported(f"answers {'ranges' if self.takes == 'keys' else 'labels'} only")
        self._graph(name)
        return name, condition

    def _graph(self, name: str) -> None:
        if name in self.refused:
            raise Unsupported(self.refused[name])
        if name in self.graphs:
            return
        spent = sum(self.seconds.values())
        if spent > _SECONDS_MAX:
            raise Unsupported(f"is not built on {name}: other attributes took {spent:.0f} s")
        attribute, started = self._attribute(name), perf_counter()
        try:
            self.graphs[name] = self._built(attribute)
        except VicinalError as error:
            self.refused[name] = f"cannot be built on {name}: {error}"
            raise Unsupported(self.refused[name]) from None
        self.seconds[name] = perf_counter() - started

    def _attribute(self, name: str) -> LabelSets | Keys:
        column = self.table.columns[name or "draw"]  # which one is the same to a method that is given bitmaps
        if self.takes != "labels":
            return Keys(column.values.astype(np.int64))
        if int(column.values.max()) > _LABELS_MAX:
            raise Unsupported(f"{name} has more than {_LABELS_MAX} labels")
        if column.ends is None:
            return LabelSets.of(column.values)
        return LabelSets(column.values.astype(np.uint32), column.ends)

    def _built(self, attribute: LabelSets | Keys) -> FilteredGraph:
        """Not every method builds on several threads."""
        many = {"threads": self.threads} if "threads" in inspect.signature(self.make.build).parameters else {}
        graph: FilteredGraph = self.make.build(self.rows, self.table.n, self.metric, attribute, **many)
        return graph

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        name, condition = phrased
        if not name:
            condition = Marked(self.typed.bits(condition))
        return self.graphs[name].search(vector, condition, k, max(k, self.setting))[0]

    @property
    def builds(self) -> dict[str, float]:
        return {name or "any": seconds for name, seconds in self.seconds.items()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name or "any": int(graph.nbytes) for name, graph in self.graphs.items()}

    @property
    def nbytes(self) -> int | None:
        return sum(self.sizes.values())


class Acorn1(_Method):
    module, cls, takes = "acorn", "AcornOne", "any"
    alone = True


class AcornGamma(_Method):
    module, cls, takes = "acorn", "AcornGamma", "any"


class FilteredVamana(_Method):
    module, cls, takes = "stitched", "FilteredVamana", "labels"


class StitchedVamana(_Method):
    module, cls, takes = "stitched", "StitchedVamana", "labels"


class LabelGraph(_Method):
    module, cls, takes = "label_graph", "LabelGraph", "labels"


class SegmentGraph(_Method):
    module, cls, takes = "segment_graph", "SegmentGraph", "keys"


class RangeTree(_Method):
    module, cls, takes = "range_tree", "RangeTree", "keys"
    alone = True


class LabelCells(_Method):
    module, cls, takes = "label_cells", "LabelCells", "labels"
    alone = True
