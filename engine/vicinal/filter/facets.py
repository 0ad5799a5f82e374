"""How many slots have each value of a key: strings, integers and booleans, alone or in a list, once per slot.

Strings that a column keeps as digests only are counted by these, with a slot that has one: its payload has the text.
Integers and digests are counted in arrays, because a key may have as many of them as there are points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.columns import Column, Columns, Kind, Tag
from vicinal.filter.path import Path
from vicinal.types import Bits

__all__ = ["Counts", "Tally", "tally"]

_Entries = tuple[NDArray[np.uint32], NDArray[Any]]


class Counts(NamedTuple):
    """Values, ascending and distinct, how many slots have each, and the first of these."""

    values: NDArray[Any]
    slots: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any], slots: NDArray[np.integer]) -> Counts:
        """Count entries; a slot that has a value several times counts once."""
        order = np.lexsort((slots, values))
        return cls._of_sorted(values[order], slots[order].astype(np.int64))

    @classmethod
    def _of_sorted(cls, values: NDArray[Any], slots: NDArray[np.int64]) -> Counts:
        fresh = np.ones(values.size, np.bool_)
        np.not_equal(values[1:], values[:-1], out=fresh[1:])
        once = fresh.copy()
        once[1:] |= slots[1:] != slots[:-1]
        values, slots, fresh = values[once], slots[once], fresh[once]
        begins = np.flatnonzero(fresh)
        return cls(values[begins], np.diff(begins, append=values.size), slots[begins])

    def plus(self, other: Counts) -> Counts:
        """Both, where no slot is in both."""
        if not self.values.size or not other.values.size:
            return self if self.values.size else other
        values, at = np.unique(np.concatenate((self.values, other.values)), return_inverse=True)
        slots, first = np.zeros(values.size, np.int64), np.full(values.size, np.iinfo(np.int64).max)
        np.add.at(slots, at, np.concatenate((self.slots, other.slots)))
        np.minimum.at(first, at, np.concatenate((self.first, other.first)))
        return Counts(values, slots, first)

    def where(self, chosen: NDArray[Any]) -> Counts:
        """Some of the values, by mask or by place."""
        return Counts(self.values[chosen], self.slots[chosen], self.first[chosen])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Value and number of slots, as plain integers."""
        return zip(self.values.tolist(), self.slots.tolist(), strict=True)


def _no_counts() -> Counts:
    return Counts(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(slots=True)
class Tally:
    """Slots by value; `large` are integers of 2**63 and above, `digests` strings that no dictionary has.

    Keys of as many values as points have integers or digests: those are arrays.
    """

    booleans: Counter[bool] = field(default_factory=Counter)
    integers: Counts = field(default_factory=_no_counts)
    large: Counts = field(default_factory=_no_counts)
    texts: Counter[str] = field(default_factory=Counter)
    digests: Counts = field(default_factory=_no_counts)

    def add(self, other: Tally) -> None:
        """Count another tally's slots too; none may be in both."""
        self.booleans.update(other.booleans)
        self.texts.update(other.texts)
        self.integers = self.integers.plus(other.integers)
        self.large = self.large.plus(other.large)
        self.digests = self.digests.plus(other.digests)


@dataclass(frozen=True, slots=True)
class _Part:
    """Pairs of slot and value at one path: `values[which[i]]` is at `slots[i]`."""

    slots: NDArray[np.uint32]
    which: NDArray[np.intp]
    values: list[Any]


def tally(columns: Columns, path: Path, bits: Bits, slot_of: NDArray[np.integer] | None = None) -> Tally:
    """Count the slots of `bits`, all below `columns.n`; `slot_of` translates the slots that tallies keep."""
    found = Tally()
    at = [column for step in ((), (None,)) if (column := columns.column((*path, *step))) is not None]
    mask = np.unpackbits(bits.view(np.uint8), bitorder="little").view(np.bool_)
    found.booleans.update(_counted([p for c in at for p in _parts(c, Kind.TAG, mask)]))
    found.integers = _numbers([_kept(c, Kind.INT, mask) for c in at], slot_of)
    found.large = _numbers([_kept(c, Kind.BIG, mask) for c in at], slot_of)
    coded = [p for c in at for p in _parts(c, Kind.CODE, mask)]
    hashed = [entries for c in at if (entries := _kept(c, Kind.HASH, mask))[0].size]
    if not hashed:
        found.texts.update(_counted(coded))
        return found
    known: dict[int, str] = {}
    for part in coded:  # the same text may be coded at one path and hashed at the other
        digests = columns.digests(part.values)
        known.update(zip(digests, part.values, strict=True))
        hashed.append((part.slots, np.array(digests, np.int64)[part.which]))
    counts = _numbers(hashed, slot_of)
    coded_too = np.isin(counts.values, np.array(list(known), np.int64))
    found.texts.update({known[digest]: n for digest, n in counts.where(coded_too).pairs()})
    found.digests = counts.where(~coded_too)
    return found


def _numbers(parts: list[_Entries], slot_of: NDArray[np.integer] | None) -> Counts:
    """Slots by stored value, over all parts."""
    parts = [part for part in parts if part[0].size]
    if not parts:
        return _no_counts()
    slots = np.concatenate([slots for slots, _ in parts])
    values = np.concatenate([stored for _, stored in parts])
    return Counts.of(values, slots if slot_of is None else slot_of[slots])


def _kept(column: Column, kind: Kind, mask: NDArray[np.bool_]) -> _Entries:
    """Slots of the mask and their stored values."""
    values = column.kinds.get(kind)
    if values is None:
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    slots, stored = values.entries(mask.size)
    kept = mask[slots]
    return slots[kept], stored[kept].astype(values.widest, copy=False)


def _parts(column: Column, kind: Kind, mask: NDArray[np.bool_]) -> Iterator[_Part]:
    slots, stored = _kept(column, kind, mask)
    if kind is Kind.TAG:
        said = stored >= Tag.FALSE
        slots, stored = slots[said], stored[said]
    if not slots.size:
        return
    distinct, which = np.unique(stored, return_inverse=True)
    listed: list[Any] = distinct.tolist()
    yield _Part(slots, which, [t == Tag.TRUE for t in listed] if kind is Kind.TAG else column.texts(listed))


def _counted(parts: list[_Part]) -> Counter[Any]:
    """Slots by value, over all parts."""
    if len(parts) == 1 and bool(np.all(parts[0].slots[1:] > parts[0].slots[:-1])):
        (part,) = parts
        return _zipped(part.values, part.which)
    numbers: dict[Any, int] = {}
    pairs = []
    for part in parts:
        at = np.array([numbers.setdefault(value, len(numbers)) for value in part.values], np.int64)
        pairs.append((part.slots.astype(np.int64) << 32) | at[part.which])
    if not pairs:
        return Counter()
    once = np.unique(np.concatenate(pairs)) & 0xFFFFFFFF
    return _zipped(list(numbers), once)


def _zipped(values: list[Any], which: NDArray[np.integer]) -> Counter[Any]:
    return Counter(dict(zip(values, np.bincount(which, minlength=len(values)).tolist(), strict=True)))
