"""Labels to slots: sorted arrays for most, a small dict for what changed since.

A label costs 12 bytes, or none while labels are 0, 1, 2, … in the order of the slots.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MISSING", "LabelMap"]

MISSING: Final = -1
_RECENT_MIN: Final = 1024
_RECENT_SHARE: Final = 8  # sort again when an eighth changed


class LabelMap:
    """A mapping of uint64 labels to slots; one writer, any number of readers between its calls."""

    def __init__(self) -> None:
        self._count = 0
        self._plain = 0  # labels 0 .. plain - 1 are at the slots of the same numbers
        self._keys = np.empty(0, np.uint64)
        self._slots = np.empty(0, np.uint32)
        self._recent: dict[int, int] = {}  # goes before the others; MISSING: taken out

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and, roughly, of the dict."""
        return self._keys.nbytes + self._slots.nbytes + 120 * len(self._recent)

    def get(self, label: int) -> int:
        """The label's slot, or MISSING."""
        slot = self._recent.get(label)
        if slot is not None:
            return slot
        if label < self._plain:
            return label
        at = int(self._keys.searchsorted(np.uint64(label)))
        return int(self._slots[at]) if at < len(self._keys) and int(self._keys[at]) == label else MISSING

    def find(self, labels: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The labels' slots (n,) int64, MISSING where there is none."""
        out = np.full(len(labels), MISSING, np.int64)
        if len(self._keys):
            at = np.minimum(self._keys.searchsorted(labels), len(self._keys) - 1)
            out = np.where(self._keys[at] == labels, self._slots[at].astype(np.int64), MISSING)
        plain = labels < np.uint64(self._plain)
        out[plain] = labels[plain].astype(np.int64)
        if self._recent:
            recent = self._recent
            for row, label in enumerate(labels.tolist()):
                slot = recent.get(label)
                if slot is not None:
                    out[row] = slot
        return out

    def put(self, labels: NDArray[np.uint64], slots: NDArray[np.integer]) -> None:
        """Let distinct labels lead to slots, new labels or not."""
        self._count += int((self.find(labels) == MISSING).sum())
        if not self._recent and not len(self._keys) and self._continues(labels, slots):
            self._plain += len(labels)
            return
        self._change(labels, slots.astype(np.int64))

    def put_new(self, label: int, slot: int) -> None:
        """Let one label that is not in it lead to a slot."""
        self._count += 1
        if not self._recent and not len(self._keys) and label == slot == self._plain:
            self._plain += 1
        elif len(self._recent) < max(_RECENT_MIN, self._count // _RECENT_SHARE):
            self._recent[label] = slot
        else:
            self._change(np.array([label], np.uint64), np.array([slot], np.int64))

    def drop(self, labels: NDArray[np.uint64]) -> None:
        """Take labels out that are in it."""
        self._count -= len(labels)
        self._change(labels, np.full(len(labels), MISSING, np.int64))

    def _continues(self, labels: NDArray[np.uint64], slots: NDArray[np.integer]) -> bool:
        expected = np.arange(self._plain, self._plain + len(labels))
        return bool((labels == expected).all() and (slots == expected).all())

    def _change(self, labels: NDArray[np.uint64], slots: NDArray[np.int64]) -> None:
        if len(self._recent) + len(labels) <= max(_RECENT_MIN, self._count // _RECENT_SHARE):
            self._recent.update(zip(labels.tolist(), slots.tolist(), strict=True))
            return
        recent = np.fromiter(self._recent, np.uint64, len(self._recent))
        recent_slots = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        plain = np.arange(self._plain)
        keys = np.concatenate((plain.astype(np.uint64), self._keys, recent, labels))
        values = np.concatenate((plain, self._slots.astype(np.int64), recent_slots, slots))
        order = np.argsort(keys, kind="stable")  # of equal keys the newest comes last
        keys, values = keys[order], values[order]
        last = np.append(keys[1:] != keys[:-1], True) & (values != MISSING)
        self._keys, self._slots = keys[last], values[last].astype(np.uint32)
        self._plain, self._recent = 0, {}
