"""The sorted side of a column: slots in the order of their values, up to a watermark.

It answers "how many" exactly and "which" in time proportional to the answer. It never changes; when a column
has grown to twice the size it is sorted anew, and slots after the watermark are scanned meanwhile.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.membership import Between

__all__ = ["SEAL_FROM", "Sealed", "seal"]

SEAL_FROM: Final = 32_768  # entries; a scan of fewer takes some microseconds


class Sealed(NamedTuple):
    """`order[i]` is the slot of the i-th smallest value `keys[i]`; each (value, slot) once.

    Covers the slots below `stop`. `most` is the largest number of values of one slot.
    """

    stop: int
    order: NDArray[np.uint32]
    keys: NDArray[Any]
    most: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""
        return self.order.nbytes + self.keys.nbytes

    def spans(self, ranges: list[Between]) -> list[tuple[int, int]]:
        """For each range the positions [i, j) of `order` that lie within."""
        spans: list[tuple[int, int]] = []
        for between in ranges:
            low, high = between.low, between.high
            if self.keys.dtype.kind != "f":
                info = np.iinfo(self.keys.dtype)
                if low > high or low > info.max or high < info.min:
                    continue
                low, high = max(low, info.min), min(high, info.max)
            i = int(np.searchsorted(self.keys, self.keys.dtype.type(low), "left"))
            j = int(np.searchsorted(self.keys, self.keys.dtype.type(high), "right"))
            if i < j:
                spans.append((i, j))
        return spans


def seal(slots: NDArray[np.uint32], values: NDArray[Any], stop: int) -> Sealed:
    """Sort entries by value, then slot; repeated entries are dropped."""
    by_slot = np.sort(slots)
    single = by_slot.size < 2 or bool(np.all(by_slot[1:] != by_slot[:-1]))
    # ties need an order only where repeats are to be found
    order = np.argsort(values, kind="stable" if values.dtype.itemsize <= 2 else None) if single else None
    if order is not None:
        return Sealed(stop, slots[order], values[order], 1)
    order = np.lexsort((slots, values))
    slots, values = slots[order], values[order]
    distinct = np.ones(slots.size, np.bool_)
    distinct[1:] = (slots[1:] != slots[:-1]) | (values[1:] != values[:-1])
    slots, values = slots[distinct], values[distinct]
    most = int(np.diff(np.flatnonzero(np.concatenate(([True], np.diff(np.sort(slots)) > 0, [True])))).max())
    return Sealed(stop, slots, values, most)
