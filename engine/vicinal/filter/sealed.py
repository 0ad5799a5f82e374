"""The sorted side of a column: slots in the order of their values, up to a watermark.

A question is a few stretches of that order, found by bisection: their lengths are the count, and `ordered` gives their
bits. Stretches of one value that one slot in 64 or more has are found without flipping a bit.

It never changes; when a column has grown by half it is sorted anew, and slots after the watermark are scanned
meanwhile.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.membership import Between, NoneOf, OneOf
from vicinal.filter.ordered import Ordered, Spans, no_spans, spans_of, total
from vicinal.types import Bits

__all__ = ["SEAL_FROM", "Counted", "Sealed", "Sorted", "in_order", "seal"]

SEAL_FROM: Final = 32_768  # entries; a scan of fewer takes some microseconds
_FREQUENT: Final = 64  # one slot in so many: what runs take is no more than a column of eight bytes

Counted = tuple[int, int, int]


class Sorted(Protocol):
    """What a column has beside the values in the order of slots: this, or cells of places."""

    @property
    def stop(self) -> int:
        """The slots below it are covered."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""

    def bits(self, question: Any) -> Bits:
        """The slots with a value that satisfies the question, over `stop` slots; the caller's own array."""

    def counted(self, question: Any) -> Counted:
        """How many these are: at least, about, at most."""


class Sealed(NamedTuple):
    """`ordered.order[i]` is the slot of the i-th smallest value `keys[i]`; each (value, slot) once.

    Covers the slots below `stop`. `filled` slots have a value, at most `most` each.
    """

    stop: int
    ordered: Ordered
    keys: NDArray[Any]
    most: int
    filled: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""
        return self.ordered.memory_bytes + self.keys.nbytes

    def bits(self, question: Between | OneOf | NoneOf) -> Bits:
        """The slots with a value that satisfies the question, over `stop` slots; the caller's own array."""
        return self.ordered.bits(self.spans(question))

    def counted(self, question: Between | OneOf | NoneOf) -> Counted:
        """Slots with a value that satisfies the question: at least, about, at most."""
        found = total(self.spans(question))
        if self.most == 1 or (isinstance(question, Between) and question.low == question.high):
            return found, found, found
        low, high = -(-found // self.most), min(found, self.filled)
        return low, (low + high) // 2, high

    def spans(self, question: Between | OneOf | NoneOf) -> Spans:
        """The stretches of the order that satisfy the question, ascending."""
        if isinstance(question, Between):
            return self._within(question)
        listed = question.listed
        if listed.dtype.kind != "f":  # what the narrower keys cannot hold is not there
            listed = listed[(listed >= int(self.keys[0])) & (listed <= int(self.keys[-1]))]
        listed = listed.astype(self.keys.dtype)
        begins, ends = np.searchsorted(self.keys, listed, "left"), np.searchsorted(self.keys, listed, "right")
        if isinstance(question, NoneOf):
            begins, ends = np.append(0, ends), np.append(begins, self.keys.size)
        return spans_of(begins, ends)

    def _within(self, question: Between) -> Spans:
        keys, (low, high) = self.keys, question
        least, greatest = keys[0], keys[-1]
        if low > high or low > greatest or high < least:
            return no_spans()
        cast = keys.dtype.type  # else all keys are cast to what holds the bound
        i = keys.searchsorted(cast(low)) if low > least else 0
        j = keys.searchsorted(cast(high), "right") if high < greatest else keys.size
        return np.array(((i, j),), np.int64) if i < j else no_spans()


def in_order(slots: NDArray[np.uint32], values: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[Any], int]:
    """The entries by value, then slot, those that repeat dropped; and how many a slot has at most."""
    most = int(np.bincount(slots).max())
    if most == 1:
        # 16-bit keys are sorted by radix when a stable order is asked for
        order = np.argsort(values, kind="stable" if values.dtype.itemsize <= 2 else None)
        return slots[order], values[order], most
    order = np.lexsort((slots, values))
    slots, values = slots[order], values[order]
    distinct = np.ones(slots.size, np.bool_)
    distinct[1:] = (slots[1:] != slots[:-1]) | (values[1:] != values[:-1])
    return slots[distinct], values[distinct], most


def seal(slots: NDArray[np.uint32], values: NDArray[Any], stop: int) -> Sealed:
    """Sort some entries, at least one, all of slots below `stop`."""
    slots, values, most = in_order(slots, values)
    filled = slots.size if most == 1 else int(np.unique(slots).size)
    ordered = Ordered.of(slots, stop, _runs(values, stop // _FREQUENT), single=most == 1)
    return Sealed(stop, ordered, values, most, filled)


def _runs(keys: NDArray[Any], least: int) -> list[tuple[int, int]]:
    """Stretches of at least so many equal keys."""
    ends = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    begins = np.concatenate((np.zeros(1, np.int64), ends))
    ends = np.concatenate((ends, np.array([keys.size])))
    long = ends - begins >= max(1, least)
    return list(zip(begins[long].tolist(), ends[long].tolist(), strict=True))
