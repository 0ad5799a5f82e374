"""How many slots have each value of a key: strings, integers and booleans, alone or in a list, once per slot.

Strings that a column keeps as digests only are counted by these, with a slot that has one: its payload has the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.columns import Column, Columns, Kind, Tag
from vicinal.filter.path import Path
from vicinal.types import Bits

__all__ = ["Tally", "tally"]


@dataclass(slots=True)
class Tally:
    """Slots by value; `digests` are strings that no dictionary has, `found_at` a slot for each of these."""

    booleans: Counter[bool] = field(default_factory=Counter)
    integers: Counter[int] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    digests: Counter[int] = field(default_factory=Counter)
    found_at: dict[int, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Count another tally's slots too; none may be in both."""
        self.booleans.update(other.booleans)
        self.integers.update(other.integers)
        self.texts.update(other.texts)
        self.digests.update(other.digests)
        self.found_at |= other.found_at


@dataclass(frozen=True, slots=True)
class _Part:
    """Pairs of slot and value at one path: `values[which[i]]` is at `slots[i]`."""

    slots: NDArray[np.uint32]
    which: NDArray[np.intp]
    values: list[Any]


def tally(columns: Columns, path: Path, bits: Bits, slot_of: NDArray[np.integer] | None = None) -> Tally:
    """Count the slots of `bits`, all below `columns.n`; `slot_of` translates slots for `found_at`."""
    found = Tally()
    at = [column for step in ((), (None,)) if (column := columns.column((*path, *step))) is not None]
    mask = np.unpackbits(bits.view(np.uint8), bitorder="little").view(np.bool_)
    found.booleans.update(_counted([p for c in at for p in _parts(c, Kind.TAG, mask)]))
    found.integers.update(_counted([p for c in at for kind in (Kind.INT, Kind.BIG) for p in _parts(c, kind, mask)]))
    hashed = [p for c in at for p in _parts(c, Kind.HASH, mask)]
    coded = [p for c in at for p in _parts(c, Kind.CODE, mask)]
    if not hashed:
        found.texts.update(_counted(coded))
        return found
    known: dict[int, str] = {}
    for part in coded:  # the same text may be coded at one path and hashed at the other
        digests = columns.digests(part.values)
        known.update(zip(digests, part.values, strict=True))
        hashed.append(_Part(part.slots, part.which, digests))
    for digest, count in _counted(hashed).items():
        if digest in known:
            found.texts[known[digest]] = count
        else:
            found.digests[digest] = count
    for part in hashed:
        first = np.zeros(len(part.values), np.int64)
        first[part.which] = part.slots if slot_of is None else slot_of[part.slots]
        found.found_at |= {d: s for d, s in zip(part.values, first.tolist(), strict=True) if d in found.digests}
    return found


def _parts(column: Column, kind: Kind, mask: NDArray[np.bool_]) -> Iterator[_Part]:
    values = column.kinds.get(kind)
    if values is None:
        return
    slots, stored = values.entries(mask.size)
    kept = mask[slots]
    if kind is Kind.TAG:
        kept &= stored >= Tag.FALSE
    slots, stored = slots[kept], stored[kept]
    if not slots.size:
        return
    distinct, which = np.unique(stored, return_inverse=True)
    listed: list[Any] = distinct.tolist()
    if kind is Kind.TAG:
        listed = [tag == Tag.TRUE for tag in listed]
    elif kind is Kind.CODE:
        listed = column.texts(listed)
    yield _Part(slots, which, listed)


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
