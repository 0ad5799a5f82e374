"""Bitmaps of recent filters, kept within a bound of bytes.

A slot's payload never changes, so a bitmap stays right for the slots it covers: when the collection has grown,
only the new slots are evaluated. Equivalent filters share an entry. Filters on ids are not kept, because the
slots of an id change. An instance belongs to one `Columns`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import numpy as np

from vicinal.bits import clear_beyond, word_count
from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import SlotsOf, evaluate_from
from vicinal.filter.model import Filter
from vicinal.filter.normal import normalise
from vicinal.types import Bits

__all__ = ["BitmapCache"]

_ENTRY_BYTES: Final = 400  # of an entry beside its words


class BitmapCache:
    """Evaluates filters over `columns`, remembering up to `max_bytes` of bitmaps, the latest used."""

    def __init__(self, columns: Columns, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.columns = columns
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[bytes, tuple[int, Bits]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        return self._bytes

    def evaluate(self, tree: Filter, slots_of: SlotsOf, n: int) -> Bits:
        """As `evaluate.evaluate`; the array is shared and read-only."""
        node = normalise(tree)
        if node.has_id:
            return evaluate_from(node, self.columns, slots_of, 0, n)
        with self._lock:
            known, bits = self._entries.get(node.key, (0, None))
            if bits is None:
                self.misses += 1
            else:
                self.hits += 1
                self._entries.move_to_end(node.key)
        if bits is not None and known == n:
            return bits
        if bits is not None and known > n:
            return clear_beyond(bits[: word_count(n)].copy(), n)
        start = known & ~63
        fresh = evaluate_from(node, self.columns, slots_of, start, n)
        if bits is not None and start:
            fresh = np.concatenate((bits[: start >> 6], fresh))
        fresh.setflags(write=False)
        self._keep(node.key, n, fresh)
        return fresh

    def _keep(self, key: bytes, n: int, bits: Bits) -> None:
        if bits.nbytes > self.max_bytes >= self._bytes:
            return  # it would be dropped again at once
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[1].nbytes + _ENTRY_BYTES
                if old[0] > n:  # another reader was further
                    n, bits = old
            self._entries[key] = (n, bits)
            self._bytes += bits.nbytes + _ENTRY_BYTES
            while self._bytes > self.max_bytes:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._bytes -= dropped.nbytes + _ENTRY_BYTES
