"""A thread's scratch memory for the coded walk, borrowed per call."""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.coded_arrays import DEGREE, CodedArrays, address, aligned
from vicinal.types import Bits, Rows

__all__ = ["Aim", "Scratch", "bits_at"]

_GUARD = 8  # keys before a pool's first entry
_LINE_BYTES = 256  # a query as code lines, at most four
_CALL = struct.Struct("<7q")  # a Call


class Aim(Protocol):
    """What is searched: slots below `n` of these rows that are alive (None: all); only its bits may change."""

    @property
    def rows(self) -> Rows:
        """Vectors and norms."""

    @property
    def n(self) -> int:
        """Slots below it."""

    @property
    def alive(self) -> Bits | None:
        """A bit for each."""


class Scratch:
    """Scratch memory for one walk at a time; holds room for `pool` estimates, `results` results, `slots` bits.

    `aim` says what is searched; `index_at`, `rows`, `limit` and `allowed` tell what was said last, so that a call over
    the same need not say it again. What the addresses lead to is kept alive. `fit` does as much for the effort.
    """

    index_at, limit = 0, -1  # nothing was said yet
    rows: Rows | None = None
    allowed: Bits | None = None
    aimed: Aim | None = None  # the same as one object, where that is what was given
    has_floats = True
    k, ef, packed = 0, 0, 0

    def __init__(self, padded: int, projected: int, cells: int, *, pool: int, results: int, slots: int) -> None:
        from vicinal.kernels.lines import WORK_BYTES
        from vicinal.kernels.walk_fields import Call, Work

        self.pool, self.results = pool, results
        words, wide = (slots + 511) // 512 * 8, max(padded, projected, 64)
        self.room = words * 64
        keys = _GUARD + results + _GUARD
        listed = (pool + 4) * DEGREE + 2 * DEGREE  # every pop and the entry list at most DEGREE slots
        arrays: dict[str, NDArray[np.generic]] = {
            "vector": aligned((wide,), np.float32),
            "centred": aligned((wide,), np.float32),
            "bytes": aligned((wide,), np.int8),
            "projected": aligned((wide,), np.float32),
            "dots": aligned((wide,), np.int32),
            "lines": aligned((_LINE_BYTES,), np.uint8),
            "scores": aligned((cells,), np.float32),
            "pool": aligned((_GUARD + pool + _GUARD,), np.int64),
            "results": aligned((keys,), np.int64),
            "settled": aligned((keys,), np.int64),
            "estimates": aligned((DEGREE,), np.float32),
            "lane_work": aligned((WORK_BYTES,), np.uint8),
            "listed": aligned((listed,), np.uint32),
            "chosen": aligned((results,), np.uint32),
            "seen": aligned((words,), np.int64),
            "hops": aligned((3,), np.int64),
            "sure": aligned((1,), np.int64),
        }
        self._arrays = arrays
        places = {name: address(array) for name, array in arrays.items()}
        for name in ("pool", "results", "settled"):
            places[name] += 8 * _GUARD
        fields = Work(**places, pool_room=pool, results_room=results, listed_room=listed, seen_words=words)
        self.table = np.array(fields, np.int64)
        self.at = address(self.table)
        self.call = np.zeros(len(Call._fields), np.int64)
        self._call_bytes, self.call_at = self.call.data.cast("B"), address(self.call)
        told = arrays["hops"]
        self.hops, self.slack = told[:2].view(np.int64), told[2:].view(np.float32)
        self.sure: NDArray[np.int64] = arrays["sure"]  # type: ignore[assignment]

    def aim(
        self,
        arrays: CodedArrays,
        rows: Rows,
        places: tuple[int, int],
        limit: int,
        allowed: Bits | None = None,
        hidden: int = -1,
        words: int = 0,
    ) -> None:
        """Search these arrays from now on and settle on rows whose vectors and norms lie at `places`: see `Call`.

        places: 0 for vectors that are not floats. allowed: None for all slots below limit, or those of bits that the
        caller keeps at the address `words`; then it sets `index_at` back to 0 after the call. hidden: a slot to leave
        out as if it were not in the graph, -1: none.
        """
        if allowed is not None:
            words = bits_at(allowed, limit)
        self.index_at = arrays.at
        _CALL.pack_into(self._call_bytes, 0, self.index_at, self.at, *places, words, limit, hidden)
        self.has_floats = places[0] != 0
        self.rows, self.limit, self.allowed, self._searched = rows, limit, allowed, arrays
        self.aimed = None

    def fit(self, k: int, ef: int, packed: int, wanted: int) -> None:
        """Take an effort, which this memory has room for, and make room for the answer to a row of its own."""
        self.k, self.ef, self.packed, self.wanted = k, ef, packed, wanted
        self.slots, self.distances = np.empty((1, wanted), np.uint32), np.empty((1, wanted), np.float32)
        self.one_slots, self.one_distances = self.slots[0], self.distances[0]


def bits_at(allowed: Bits, limit: int) -> int:
    """Give the address of bits, which the caller keeps alive; refuse bits that kernels would read beyond."""
    if allowed.dtype != np.uint64 or not allowed.flags.c_contiguous or len(allowed) * 64 < limit:
        raise InvalidArgument(
            f"allowed is a C-contiguous uint64 array with a bit for each of {limit} slots",
            field="allowed",
            value=allowed.shape,
            limit=limit,
        )
    return address(allowed)
