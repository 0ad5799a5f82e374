"""What filtered graphs know of attributes, and the conditions they answer: arrays by slot, no payloads, no keys.

Every method of the FANNS comparison (arXiv 2507.21989) is built from `Rows` and one of these attributes and answers
those conditions of it that its paper covers; it refuses the others with InvalidArgument. A method returns
min(k, matches) slots when its walk finds them, never one that does not match, and leaves falling back to an exact
scan to its caller.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask, mask_from_bits
from vicinal.errors import InvalidArgument
from vicinal.types import Bits

__all__ = [
    "AllOf",
    "AnyOf",
    "Between",
    "Condition",
    "Exactly",
    "FilteredGraph",
    "Found",
    "Keys",
    "LabelSets",
    "Marked",
    "matching_bits",
    "matching_mask",
]

Found = tuple[NDArray[np.uint32], NDArray[np.float32]]


class LabelSets(NamedTuple):
    """The labels of each slot: `codes[ends[s - 1] : ends[s]]` (ends[-1] = 0), ascending, without repeats.

    codes (total,) uint32; ends (n,) int64. One label per slot is the case of an equality filter (EM), several that
    of set membership (EMIS).
    """

    codes: NDArray[np.uint32]
    ends: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each slot's labels begin."""
        return np.concatenate((np.zeros(1, np.int64), self.ends[:-1]))

    @classmethod
    def of(cls, codes: NDArray[Any]) -> LabelSets:
        """One label per slot."""
        return cls(codes.astype(np.uint32), np.arange(1, len(codes) + 1, dtype=np.int64))

    @classmethod
    def check(cls, labels: LabelSets, n: int) -> None:
        """InvalidArgument unless there are n ascending label sets inside the codes."""
        codes, ends = labels
        if codes.dtype != np.uint32 or ends.dtype != np.int64 or len(ends) != n:
            raise InvalidArgument(f"labels are uint32 codes and {n} int64 ends", field="labels", value=len(ends))
        if n and (ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(codes)):
            raise InvalidArgument("ends ascend from 0 to the number of codes", field="labels")
        if len(codes) > 1:
            first = np.zeros(len(codes), np.bool_)
            first[labels.starts[labels.starts < len(codes)]] = True
            if ((codes[1:] <= codes[:-1]) & ~first[1:]).any():
                raise InvalidArgument("the labels of a slot ascend without repeats", field="labels")


class Keys(NamedTuple):
    """One number per slot: values (n,), int64 or float64 without NaN. Ties are broken by slot."""

    values: NDArray[Any]


class AnyOf(NamedTuple):
    """Slots with at least one of these labels; with a single one, equality or membership."""

    labels: tuple[int, ...]


class AllOf(NamedTuple):
    """Slots with all of these labels."""

    labels: tuple[int, ...]


class Exactly(NamedTuple):
    """Slots whose label set is this one."""

    labels: tuple[int, ...]


class Between(NamedTuple):
    """Slots with low <= key <= high."""

    low: float
    high: float


class Marked(NamedTuple):
    """Slots whose bit is set: any predicate."""

    bits: Bits


Condition = AnyOf | AllOf | Exactly | Between | Marked


class FilteredGraph(Protocol):
    """One method of the comparison, built once over slots [0, n)."""

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors."""

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """At most k nearest of the slots that satisfy the condition, nearest first, ties by slot."""


def matching_mask(attribute: LabelSets | Keys, condition: Condition, n: int) -> NDArray[np.bool_]:
    """The slots (n,) that satisfy a condition, by looking at each: the oracle and the exact scan's input."""
    if isinstance(condition, Marked):
        return mask_from_bits(condition.bits, n)
    if isinstance(condition, Between):
        if not isinstance(attribute, Keys):
            raise InvalidArgument("a range needs keys", field="condition", value=condition)
        return (attribute.values >= condition.low) & (attribute.values <= condition.high)
    if not isinstance(attribute, LabelSets):
        raise InvalidArgument("labels are asked for of keys", field="condition", value=condition)
    codes, ends = attribute
    owner = np.repeat(np.arange(n), np.diff(ends, prepend=0))
    hits = np.bincount(owner[np.isin(codes, condition.labels)], minlength=n)
    wanted = 1 if isinstance(condition, AnyOf) else len(set(condition.labels))
    mask = np.asarray(hits >= wanted)
    if isinstance(condition, Exactly):
        mask &= np.diff(ends, prepend=0) == wanted
    return mask


def matching_bits(attribute: LabelSets | Keys, condition: Condition, n: int) -> Bits:
    """`matching_mask` as words of 64 bits."""
    if isinstance(condition, Marked):
        return condition.bits
    return bits_from_mask(matching_mask(attribute, condition, n))
