"""Slots in an order, and the bits of its stretches.

Where every slot stands once, sets of the first slots are kept at quantiles of the order and at the ends of *runs*,
stretches that are asked for as a whole: a stretch is then the difference of two sets, and only the slots between its
ends and the nearest sets are flipped one by one (`kernels.spans`). Where slots stand more than once the runs' own bits
are kept instead, and the slots of other stretches are set one by one.

This is the cumulative quantile bitset of the design. Thirty-two quantiles take 4 bytes a slot and leave a 128th of the
slots to flip at each end, so a stretch of a million slots takes about as long as reading the two sets twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_slots, no_bits
from vicinal.types import Bits

__all__ = ["Ordered", "Spans", "no_spans", "spans_of", "total"]

Spans = NDArray[np.int64]
Run = tuple[int, int]

_QUANTILES: Final = 32
_ONE_SPAN: Final = 1


def no_spans() -> Spans:
    """No stretch."""
    return np.zeros((0, 2), np.int64)


def total(spans: Spans) -> int:
    """Entries in all of the spans."""
    if len(spans) == _ONE_SPAN:
        return int(spans[0, 1]) - int(spans[0, 0])
    return int((spans[:, 1] - spans[:, 0]).sum())


@cache
def _kernels() -> tuple[Callable[..., None], Callable[..., None]]:
    """Imported with the first sorted column that is asked: numba is not needed before."""
    from numba import types

    from vicinal.kernels import entry
    from vicinal.kernels.spans import flip_spans, set_spans

    order, spans, bits = types.uint32[::1], types.int64[:, ::1], types.uint64[::1]
    flip = entry(flip_spans, (order, types.int64[::1], types.uint64[:, ::1], spans, bits))
    return flip, entry(set_spans, (order, spans, bits))


class Ordered(NamedTuple):
    """`order` holds slots below `stop`; if `single`, none twice.

    ranks, sets: `sets[r - 1]` holds order[: ranks[r]], none if slots stand more than once. runs, run_bits: then the
    slots of those stretches, ascending.
    """

    stop: int
    order: NDArray[np.uint32]
    single: bool
    ranks: NDArray[np.int64]
    sets: NDArray[np.uint64]
    runs: tuple[Run, ...]
    run_bits: tuple[Bits, ...]

    @classmethod
    def of(cls, order: NDArray[np.uint32], stop: int, runs: list[Run], *, single: bool) -> Ordered:
        """Prepare the sets; `runs` are stretches that do not overlap, ascending."""
        order = np.ascontiguousarray(order)
        if not single:
            kept = tuple(runs)
            sets = np.zeros((0, 0), np.uint64)
            run_bits = tuple(bits_from_slots(order[i:j], stop) for i, j in kept)
            return cls(stop, order, single, np.zeros(1, np.int64), sets, kept, run_bits)
        ranks = _ranks(order.size, runs)
        sets = np.zeros((len(ranks) - 1, no_bits(stop).size), np.uint64)
        for r, (begin, end) in enumerate(zip(ranks[:-1].tolist(), ranks[1:].tolist(), strict=True)):
            sets[r] = bits_from_slots(order[begin:end], stop)
            if r:
                sets[r] |= sets[r - 1]
        return cls(stop, order, single, ranks, sets, (), ())

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""
        return self.order.nbytes + self.ranks.nbytes + self.sets.nbytes + sum(b.nbytes for b in self.run_bits)

    def bits(self, spans: Spans) -> Bits:
        """The slots of the stretches [i, j) of the order, over `stop` slots; the caller's own array."""
        bits = no_bits(self.stop)
        if not len(spans):
            return bits
        flip, fill = _kernels()
        if self.single:
            flip(self.order, self.ranks, self.sets, spans, bits)
            return bits
        fill(self.order, self._without_runs(spans, bits) if self.runs else spans, bits)
        return bits

    def _without_runs(self, spans: Spans, bits: Bits) -> Spans:
        """Add the runs that lie within the spans, and give the stretches between them."""
        gaps: list[Run] = []
        for i, j in spans.tolist():
            at = i
            for number, (begin, end) in enumerate(self.runs):
                if i <= begin and end <= j:
                    np.bitwise_or(bits, self.run_bits[number], out=bits)
                    gaps.append((at, begin))
                    at = end
            gaps.append((at, j))
        return np.array(gaps, np.int64)


def _ranks(size: int, runs: list[Run]) -> NDArray[np.int64]:
    """Where sets are kept: the ends of runs, and quantiles outside of them."""
    step = -(-size // _QUANTILES)
    ranks, at = [0], 0
    for begin, end in [*runs, (size, size)]:
        pieces = -(-(begin - at) // step) if size else 0
        ranks += [at + (begin - at) * piece // pieces for piece in range(1, pieces + 1)]
        ranks.append(end)
        at = end
    return np.unique(np.array(ranks, np.int64))


def spans_of(begins: Any, ends: Any) -> Spans:
    """The stretches that hold anything, those that touch put together; they ascend."""
    some = begins < ends
    begins, ends = begins[some], ends[some]
    apart = np.ones(len(begins), np.bool_)
    np.not_equal(begins[1:], ends[:-1], out=apart[1:])
    last = np.ones(len(begins), np.bool_)
    last[:-1] = apart[1:]
    return np.ascontiguousarray(np.stack((begins[apart], ends[last]), axis=1).astype(np.int64))
