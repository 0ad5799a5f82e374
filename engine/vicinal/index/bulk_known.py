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

    def add_many(self, codes: Codes, n: int) -> None:
        """Know rows 0 .. n, and nothing else."""
        hashes = _hashes(codes, 0, n)
        self._hashes, first = np.unique(hashes, return_index=True)
        self._rows = first.astype(np.int32)
        self._recent = {}

    def split(
        self, codes: Codes, start: int, stop: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Tell new rows (known from now on) from copies and give those two and the copies' first rows."""
        hashes = _hashes(codes, start, stop)
        places = np.minimum(np.searchsorted(self._hashes, hashes), max(len(self._hashes) - 1, 0))
        old = np.where(self._hashes[places] == hashes, self._rows[places], -1)
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

    def _sort_in(self) -> None:
        """Move the dictionary's rows to the sorted array."""
        hashes = np.concatenate([self._hashes, np.array(list(self._recent), np.uint64)])
        rows = np.concatenate([self._rows, np.array(list(self._recent.values()), np.int32)])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._rows, self._recent = hashes[order], rows[order], {}


def _hashes(codes: Codes, start: int, stop: int) -> NDArray[np.uint64]:
    """Hash rows start .. stop."""
    out = np.empty(stop - start, np.uint64)
    rows8.hash_rows(codes.rows.view(np.uint64), np.arange(start, stop), out, 0, stop - start)
    return out
