"""Which rows have the same codes as an earlier one, by hash."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import patch, rows8
from vicinal.kernels.rows8 import Codes

__all__ = ["KnownRows"]

_RECENT = 10_000  # rows held in a dictionary before they are sorted in


class KnownRows:
    """The first row of every distinct code, found by hash: a sorted array of most and a dictionary of the last ones."""

    def __init__(self) -> None:
        self._hashes = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int32)
        self._recent: dict[int, int] = {}

    def add_many(self, codes: Codes, rows: NDArray[np.int64]) -> None:
        """Know these rows, which ascend, and nothing else."""
        self._hashes, first = np.unique(_hashes(codes, rows), return_index=True)
        self._rows = rows[first].astype(np.int32)
        self._recent = {}

    def forget(self, codes: Codes, gone: NDArray[np.int32], heirs: NDArray[np.int32], dead: NDArray[np.uint8]) -> None:
        """Let heirs stand for rows that were removed, if they have one; `dead` marks all that ever were."""
        heirs = np.where(heirs >= 0, heirs, -1)
        while (chained := (heirs >= 0) & (dead[heirs] != 0)).any():
            heirs[chained] = heirs[heirs[chained]]
        lost = dead[self._rows] != 0
        self._rows[lost] = heirs[self._rows[lost]]
        kept = self._rows >= 0
        self._hashes, self._rows = self._hashes[kept], self._rows[kept]
        for code, row in zip(_hashes(codes, gone.astype(np.int64)).tolist(), gone.tolist(), strict=True):
            if self._recent.get(code) == row:
                if heirs[row] >= 0:
                    self._recent[code] = int(heirs[row])
                else:
                    del self._recent[code]

    def split(
        self, codes: Codes, start: int, stop: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Tell new rows (known from now on) from copies and give those two and the copies' first rows."""
        hashes = _hashes(codes, np.arange(start, stop))
        old = np.full(len(hashes), -1, np.int32)
        if len(self._hashes):
            places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
            old = np.where(self._hashes[places] == hashes, self._rows[places], old)
        fresh: list[int] = []
        copies: list[int] = []
        owners: list[int] = []
        for row, (code, owner) in enumerate(zip(hashes.tolist(), old.tolist(), strict=True), start):
            first = owner if owner >= 0 else self._recent.setdefault(code, row)
            if first != row and patch.equal_rows(codes, first, row):
                copies.append(row)
                owners.append(first)
            else:  # new, or only the hash is the same
                fresh.append(row)
        if len(self._recent) > max(_RECENT, len(self._hashes) // 8):
            self._sort_in()
        return np.array(fresh, np.int32), np.array(copies, np.int32), np.array(owners, np.int32)

    def owner_of(self, codes: Codes, row: int, code: int) -> int:
        """The first row with the codes of a new one, whose hash is `code`; -1: none, and it is known from now on."""
        first = -1
        if len(self._hashes):
            place = int(self._hashes.searchsorted(np.uint64(code)))
            if place < len(self._hashes) and int(self._hashes[place]) == code:
                first = int(self._rows[place])
        if first < 0:
            first = self._recent.setdefault(code, row)
        if len(self._recent) > max(_RECENT, len(self._hashes) // 8):
            self._sort_in()
        return first if first != row and patch.equal_rows(codes, first, row) else -1

    def _sort_in(self) -> None:
        """Move the dictionary's rows to the sorted array."""
        hashes = np.concatenate([self._hashes, np.array(list(self._recent), np.uint64)])
        rows = np.concatenate([self._rows, np.array(list(self._recent.values()), np.int32)])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._rows, self._recent = hashes[order], rows[order], {}


def _hashes(codes: Codes, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash rows."""
    out = np.empty(len(rows), np.uint64)
    rows8.hash_rows(codes.rows.view(np.uint64), rows, out, 0, len(rows))
    return out
