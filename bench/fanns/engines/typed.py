"""Filters evaluated on our typed columns, as the planner does: for single methods that are given a bitmap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.fanns.columns import Predicate, Table
from bench.fanns.engines.planned import text_of
from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import evaluate
from vicinal.filter.model import Filter
from vicinal.filter.parse import parse_filter
from vicinal.types import Bits, PointId

__all__ = ["TypedColumns"]

_ROWS = 4096  # taken in at once


class TypedColumns:
    """Columns of a table's documents."""

    def __init__(self, table: Table) -> None:
        self.table, self.columns = table, Columns()
        for first in range(0, table.n, _ROWS):
            rows = range(first, min(first + _ROWS, table.n))
            self.columns.extend([orjson.dumps(table.payload(i)) for i in rows])
        self.columns.seal()

    def tree(self, predicate: Predicate) -> Filter:
        """The filter as a parsed tree."""
        tree = parse_filter(text_of(predicate, self.table))
        assert tree is not None  # only None gives None
        return tree

    def bits(self, tree: Filter) -> Bits:
        """The slots that match."""
        return evaluate(tree, self.columns, _no_ids, self.table.n)


def _no_ids(ids: Sequence[PointId]) -> NDArray[np.uint32]:
    """No filter here is about ids."""
    del ids
    return np.empty(0, np.uint32)
