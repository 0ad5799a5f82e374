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
_LINE = 64
_LINE_BYTES = 256  # a query as code lines, at most four
_CALL = struct.Struct("<8q")  # a Call


class Aim(Protocol):
    """What is searched: slots below `n` of these rows that are alive (None: all); only its bits may change.

    What is found is told by `labels`, by slot; `plain` says that each is its slot's number.
    """

    @property
    def rows(self) -> Rows:
        """Vectors and norms."""

    @property
    def n(self) -> int:
        """Slots below it."""

    @property
    def alive(self) -> Bits | None:
        """A bit for each."""

    @property
    def labels(self) -> NDArray[np.uint64]:
        """One for each slot."""

    @property
    def plain(self) -> bool:
        """Whether labels are numbers of slots."""


class Scratch:
    """Scratch memory for one walk at a time; holds room for `pool` estimates, `results` results, `slots` bits.

    For a batch, whose walks take turns, there are as many of each array as there are `lanes`, one after another.
    `aim` says what is searched; `index_at`, `rows`, `limit` and `allowed` tell what was said last, so that a call over
    the same need not say it again. What the addresses lead to is kept alive. `fit` does as much for the effort.
    """

    index_at, limit = 0, -1  # nothing was said yet
    rows: Rows | None = None
    allowed: Bits | None = None
    aimed: Aim | None = None  # the same as one object, where that is what was given
    has_floats = True
    k, ef, packed = 0, 0, 0

    def __init__(
        self, padded: int, projected: int, cells: int, *, pool: int, results: int, slots: int, lanes: int = 1
    ) -> None:
        from vicinal.kernels.walk_fields import SLOTS, Call, Work

        self.pool, self.results = pool, results
        shapes = _shapes(max(padded, projected, 64), cells, pool, results, slots)
        listed, words = shapes["listed"][0], shapes["seen"][0]
        self.room = words * 64
        arrays = {name: _lanes_of(lanes, length, dtype) for name, (length, dtype) in shapes.items()}
        self._arrays = arrays
        fields = []
        for lane in range(lanes):
            places = {name: address(array[lane]) for name, array in arrays.items()}
            for name in ("pool", "results", "settled"):
                places[name] += 8 * _GUARD
            fields.append(Work(**places, pool_room=pool, results_room=results, listed_room=listed, seen_words=words))
        self.table = np.array(fields, np.int64)
        self.at = address(self.table)
        self.call = np.zeros(len(Call._fields), np.int64)
        self._call_bytes, self.call_at = self.call.data.cast("B"), address(self.call)
        self._slots = SLOTS
        told = arrays["hops"][0]
        self.hops, self.slack = told[:2].view(np.int64), told[2:3].view(np.float32)

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
        _CALL.pack_into(self._call_bytes, 0, self.index_at, self.at, *places, words, limit, hidden, self._slots)
        self.has_floats = places[0] != 0
        self.rows, self.limit, self.allowed, self._searched = rows, limit, allowed, arrays
        self.aimed = None

    def name(self, aim: Aim) -> None:
        """Be known by what was aimed at, and tell its labels from now on."""
        from vicinal.kernels.walk_fields import WIDE_SLOTS

        self.aimed = aim
        self.call[-1] = WIDE_SLOTS if aim.plain else address(aim.labels)

    def fit(self, k: int, ef: int, packed: int, wanted: int) -> None:
        """Take an effort, which this memory has room for; answers are `wanted` long, one as a row has this `shape`."""
        self.k, self.ef, self.packed, self.wanted, self.shape = k, ef, packed, wanted, (1, k)


def _shapes(wide: int, cells: int, pool: int, results: int, slots: int) -> dict[str, tuple[int, type[np.generic]]]:
    """Length and type of each array that `Work` has the address of."""
    from vicinal.kernels.lines import WORK_BYTES
    from vicinal.kernels.walk_fields import KEPT_BYTES

    keys = _GUARD + results + _GUARD
    return {
        "vector": (wide, np.float32),
        "centred": (wide, np.float32),
        "bytes": (wide, np.int8),
        "projected": (wide, np.float32),
        "dots": (wide, np.int32),
        "lines": (_LINE_BYTES, np.uint8),
        "scores": (cells, np.float32),
        "pool": (_GUARD + pool + _GUARD, np.int64),
        "results": (keys, np.int64),
        "settled": (keys, np.int64),
        "estimates": (DEGREE, np.float32),
        "lane_work": (WORK_BYTES, np.uint8),
        # every pop and the entry list at most DEGREE slots
        "listed": ((pool + 4) * DEGREE + 2 * DEGREE, np.uint32),
        "chosen": (results, np.uint32),
        "seen": ((slots + 511) // 512 * 8, np.int64),
        "narrow": (wide, np.int8),
        "hops": (8, np.int64),
        "kept": (KEPT_BYTES // 8, np.int64),
    }


def _lanes_of(lanes: int, length: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    """Make an array for each lane that begins on a cache line, all evenly apart: (lanes, length)."""
    size = np.dtype(dtype).itemsize
    apart = -(-length * size // _LINE) * _LINE // size
    return aligned((lanes, apart), dtype)[:, :length]


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
