"""Which slots of a View match a filter: attribute columns kept up to the View, and the tree evaluated over them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.cache import BitmapCache
from vicinal.filter.columns import Columns
from vicinal.filter.model import Filter
from vicinal.filter.parse import parse_filter
from vicinal.storage.catalog import Catalog
from vicinal.types import Bits, PointId
from vicinal.view import View

__all__ = ["Matcher"]

CHUNK_ROWS: Final = 4096  # payloads read at once when columns catch up with the catalogue


class Matcher:
    """Columns are derived from the catalogue's payloads on the first filter and extended by later ones."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._columns = Columns()
        self._bitmaps = BitmapCache(self._columns)
        self._catching_up = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the columns and of remembered bitmaps."""
        return self._columns.memory_bytes + self._bitmaps.memory_bytes

    def bits(self, filter: Mapping[str, Any] | str | Filter | None, view: View) -> Bits | None:
        """Bitmap of the slots below view.n that match, dead ones included; None when there is no filter."""
        tree = parse_filter(filter)
        if tree is None:
            return None
        self._extend(view)
        return self._bitmaps.evaluate(tree, lambda ids: self._slots_of(ids, view), view.n)

    def _extend(self, view: View) -> None:
        if self._columns.n >= view.n:
            return
        with self._catching_up:
            while (first := self._columns.n) < view.n:
                stop = min(first + CHUNK_ROWS, view.n)
                self._columns.extend(self._catalog.payload_range(first, stop, view.seq))

    def _slots_of(self, ids: Sequence[PointId], view: View) -> NDArray[np.uint32]:
        slots = self._catalog.slots_at(list(ids), view.seq)
        return np.array([s for s in slots if s is not None], np.uint32)
