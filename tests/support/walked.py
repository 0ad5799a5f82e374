"""Let small collections be walked as large ones are: what a scan would answer says nothing of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from vicinal import limits, planner
from vicinal.index import field_index
from vicinal.index.field_index import FieldIndex

__all__ = ["walked"]


@contextmanager
def walked(coded_from: int | None = None) -> Iterator[None]:
    """Meanwhile no query is scanned because few points match; from so many rows graphs have codes, cells are made."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(limits, "EXACT_BELOW_ROWS", 0))
        stack.enter_context(mock.patch.object(planner, "SWEEP_COST", 0))
        if coded_from is not None:
            wanted = {**(FieldIndex.__init__.__kwdefaults__ or {}), "coded_from": coded_from}
            stack.enter_context(mock.patch.object(FieldIndex.__init__, "__kwdefaults__", wanted))
            stack.enter_context(mock.patch.object(field_index, "CELLS_FROM_ROWS", coded_from))
        yield
