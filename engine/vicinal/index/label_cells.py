"""IVF^2: label filters by cells inside every long posting list (the filter track's entry of ParlayANN, NeurIPS 2023).

Each label has the list of its slots; a long list is clustered on its own and kept as a bitmap too. One label: its
list, or the nearest of its own cells. Two or more: the bitmap of those that have all of them, looked at in the cells
of the rarest, or slot by slot when few do. Departures: cells are scanned on the code lines all labels share, instead
of a graph or float rows; any number of labels; a disjunction merges the answers of its labels; no slot is lost
between the nearest cells of two labels, because cells are read until enough of the conjunction was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import AllOf, AnyOf, Condition, Found, Keys, LabelSets
from vicinal.index.bulk_pieces import Cancelled
from vicinal.index.cell_lists import CellLists, partition
from vicinal.index.code_scan import RESCORE_MAX, CodeScan
from vicinal.index.coded import CodedIndex
from vicinal.index.exact import exact_search_list
from vicinal.index.rank_order import check_search
from vicinal.kernels.bitset import bits_to_slots, slots_to_bits
from vicinal.types import Bits, Metric, Rows

__all__ = ["LabelCells"]

_QUOTA = 16  # rows estimated per unit of ef
_SETTLED = 256  # matching rows that are settled on their vectors without a look at codes


class _Posting(NamedTuple):
    """The slots of a label, ascending; of a long list also its bitmap and its cells."""

    slots: NDArray[np.uint32]
    bits: Bits | None = None
    scan: CodeScan | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the list, the bitmap and the cells."""
        lists = 0 if self.scan is None or self.scan.lists is None else self.scan.lists.memory_bytes
        return self.slots.nbytes + (0 if self.bits is None else self.bits.nbytes) + lists


class LabelCells:
    """Posting lists and their cells over slots [0, n) of one field; it keeps the rows and never changes them."""

    def __init__(self, rows: Rows, n: int, metric: Metric, index: CodedIndex, postings: dict[int, _Posting]) -> None:
        self._rows, self._n, self._metric, self._index = rows, n, metric, index
        self._scan = CodeScan(index)
        self._postings = postings
        self._nothing = _Posting(np.empty(0, np.uint32))

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets | Keys,
        *,
        long: int = 10_000,
        codec: str = "auto",
        threads: int = 1,
        seed: int = 42,
        cancel: Callable[[], bool] | None = None,
    ) -> LabelCells:
        """Encode slots [0, n) and list them by label; raises `Cancelled` when `cancel()` says so.

        long: lists of more slots are clustered. codec: as for `CodedIndex.build`.
        """
        if not isinstance(attribute, LabelSets):
            raise InvalidArgument("posting lists are of labels, not keys", field="attribute")
        LabelSets.check(attribute, n)
        index = CodedIndex.build(rows, n, metric, None, codec=codec, seed=seed)
        owners = np.repeat(np.arange(n, dtype=np.uint32), np.diff(attribute.ends, prepend=0))
        by_label = np.argsort(attribute.codes, kind="stable")
        labels, firsts = np.unique(attribute.codes[by_label], return_index=True)
        postings = {}
        for label, slots in zip(labels.tolist(), np.split(owners[by_label], firsts[1:]), strict=False):
            if cancel is not None and cancel():
                raise Cancelled
            scan = None
            if len(slots) > long:
                parts = partition(
                    rows, len(slots), metric, seed=seed, threads=threads, cancel=cancel, slots=slots.astype(np.int64)
                )
                scan = CodeScan(index, CellLists(rows, metric, index.choice, parts, threads=threads))
            postings[label] = _Posting(slots, None if scan is None else slots_to_bits(slots, n), scan)
        return cls(rows, n, metric, index, postings)

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors: code lines, lists, bitmaps and cells."""
        return self._index.memory_bytes + sum(posting.nbytes for posting in self._postings.values())

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """At most k nearest of the slots that satisfy `AnyOf` or `AllOf` of some labels.

        query: (dim,) of the rows' dtype. ef: estimates settled on vectors, and a sixteenth of the rows estimated in
        cells. Slots uint32 and distances float32, ascending, ties by slot.
        """
        check_search(k, ef)
        if not isinstance(condition, AnyOf | AllOf) or not condition.labels:
            raise InvalidArgument("posting lists answer any or all of some labels", field="condition", value=condition)
        postings = [self._postings.get(label, self._nothing) for label in sorted(set(condition.labels))]
        if isinstance(condition, AllOf):
            return self._all_of(query, sorted(postings, key=lambda posting: len(posting.slots)), k, ef)
        found = [self._listed(query, posting, posting.bits, len(posting.slots), k, ef) for posting in postings]
        return found[0] if len(found) == 1 else _merged(found, k)

    def _all_of(self, query: NDArray[np.float32], postings: list[_Posting], k: int, ef: int) -> Found:
        """Search the rarest label for those that have the others too; postings: the rarest first."""
        rarest, *others = postings
        if not others:
            return self._listed(query, rarest, rarest.bits, len(rarest.slots), k, ef)
        if rarest.bits is None:
            slots = rarest.slots
            for other in others:
                slots = slots[_has(other, slots)]
            return self._listed(query, _Posting(slots), None, len(slots), k, ef)
        both = rarest.bits.copy()
        for other in others:
            both &= other.bits if other.bits is not None else slots_to_bits(other.slots, self._n)
        matches = int(np.bitwise_count(both).sum())
        return self._listed(query, rarest._replace(slots=self._nothing.slots), both, matches, k, ef)

    def _listed(
        self, query: NDArray[np.float32], posting: _Posting, bits: Bits | None, matches: int, k: int, ef: int
    ) -> Found:
        """Answer from a posting's slots, of which those in `bits` match: all by vector, all by code, or near cells."""
        if matches <= max(_SETTLED, k):
            slots = posting.slots if bits is None else bits_to_slots(bits)
            return exact_search_list(self._metric, self._rows, query, k, slots)
        words = slots_to_bits(posting.slots, self._n) if bits is None else bits
        rescore, quota = min(max(ef, k), RESCORE_MAX), max(_QUOTA * ef, 2 * k)
        if posting.scan is None or matches <= quota:
            found = self._scan.scan_list(query, k, rows=self._rows, allowed=words, matches=matches, rescore=rescore)
        else:
            found = posting.scan.scan_cells(
                query, k, rows=self._rows, allowed=words, matches=matches, rescore=rescore, quota=quota
            )
        return found.slots, found.distances


def _has(posting: _Posting, slots: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which slots a posting holds."""
    if posting.bits is not None:
        return np.asarray((posting.bits[slots >> 6] >> (slots & np.uint32(63)).astype(np.uint64)) & np.uint64(1) != 0)
    return np.isin(slots, posting.slots, assume_unique=True)


def _merged(found: list[Found], k: int) -> Found:
    """The k nearest of several answers, each slot once."""
    slots, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    slots, first = np.unique(slots, return_index=True)
    nearest = np.lexsort((slots, distances[first]))[:k]
    return slots[nearest], distances[first][nearest]
