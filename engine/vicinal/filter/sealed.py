"""The sorted side of a column: slots in the order of their values, up to a watermark.

It counts exactly, and it finds slots in one of three ways, whichever is estimated to cost least:

- the bits of a *frequent* value (one slot in 64 or more has it) are kept: a copy answers;
- the entries of a stretch of the order are set one by one: cheap while they are few;
- where slots have one value each, a byte per slot, its *bucket*, is its rank in 256 steps: any range is one
  comparison of bytes, and the entries of the two buckets that it cuts are set one by one. (Cumulative bitsets
  at quantiles, the usual way, cost twice the memory for the same work.)

It never changes; when a column has grown to twice the size it is sorted anew, and slots after the watermark
are scanned meanwhile.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.areas import Area
from vicinal.filter.bits import bits_of, count_bits, no_bits, pack
from vicinal.filter.membership import Between, OneOf
from vicinal.types import Bits

__all__ = ["SEAL_FROM", "Sealed", "Span", "seal"]

SEAL_FROM: Final = 32_768  # entries; a scan of fewer takes some microseconds

_FREQUENT: Final = 64  # one slot in so many: the bits take twice the room of the entries in `order`
_BUCKETS: Final = 256
_SAMPLE: Final = 512  # places looked at to estimate how many an area holds
# nanoseconds, measured for a million slots; only their ratios matter
_COPY_NS: Final = 0.01  # a slot of a frequent value's bits
_MASK_NS: Final = 0.05  # a slot of a mask that is made and packed
_SET_NS: Final = 1.5  # an entry set in a mask
_BUCKET_NS: Final = 0.06  # a slot whose bucket is compared

Span = tuple[int, int]


class Sealed(NamedTuple):
    """`order[i]` is the slot of the i-th smallest value `keys[i]`; each (value, slot) once.

    Covers the slots below `stop`. `most` is the largest number of values of one slot. `runs` are the stretches
    of frequent values, ascending, `run_bits` their slots. `buckets` is by slot, empty if slots have several
    values; `having` are the slots with a value.
    """

    stop: int
    order: NDArray[np.uint32]
    keys: NDArray[Any]
    most: int
    runs: tuple[Span, ...]
    run_bits: tuple[Bits, ...]
    buckets: NDArray[np.uint8]
    having: Bits

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""
        bits = sum(b.nbytes for b in self.run_bits) + self.having.nbytes
        return self.order.nbytes + self.keys.nbytes + self.buckets.nbytes + bits

    def spans(self, ranges: list[Between]) -> list[Span]:
        """For each range the positions [i, j) of `order` that lie within, if any."""
        spans: list[Span] = []
        for between in ranges:
            low, high = between.low, between.high
            if self.keys.dtype.kind != "f":
                info = np.iinfo(self.keys.dtype)
                if low > high or low > info.max or high < info.min:
                    continue
                low, high = max(low, info.min), min(high, info.max)
            i = int(np.searchsorted(self.keys, self.keys.dtype.type(low), "left"))
            j = int(np.searchsorted(self.keys, self.keys.dtype.type(high), "right"))
            if i < j:
                spans.append((i, j))
        return spans

    def counted(self, question: Between | OneOf | Area) -> tuple[int, int, int]:
        """Slots with a value that satisfies the question: at least, about, at most."""
        if isinstance(question, Area):
            return self._count_of_area(question)
        ranges = question.ranges()
        found = sum(j - i for i, j in self.spans(ranges))
        single = self.most == 1 or (len(ranges) == 1 and ranges[0].low == ranges[0].high)
        low, high = found if single else -(-found // self.most), min(found, self.stop)
        return low, (low + high) // 2, high

    def _count_of_area(self, area: Area) -> tuple[int, int, int]:
        """From a sample, if there are many places between the meridians."""
        spans = self._between_meridians(area)
        found = sum(j - i for i, j in spans)
        if found <= _SAMPLE:
            exact = np.unique(self.order_within(area)).size
            return exact, exact, exact
        step = found // _SAMPLE + 1
        sample = np.concatenate([self.keys[i:j:step] for i, j in spans])
        high = min(found, self.stop)
        share = np.count_nonzero(area(sample)) / sample.size
        return 0, min(round(share * found * self.having_count / self.order.size), high), high

    @property
    def having_count(self) -> int:
        """Slots with a value."""
        return self.order.size if self.most == 1 else count_bits(self.having)

    def _between_meridians(self, area: Area) -> list[Span]:
        keys = self.keys
        ends = [(np.searchsorted(keys, low), np.searchsorted(keys, high, "right")) for low, high in area.meridians()]
        return [(int(i), int(j)) for i, j in ends if i < j]

    def order_within(self, area: Area) -> NDArray[np.uint32]:
        """The slots with a place within the area, one as often as it has such places."""
        spans = self._between_meridians(area)
        found = [self.order[i:j][area(self.keys[i:j])] for i, j in spans]
        return np.concatenate(found) if found else np.zeros(0, np.uint32)

    def cost(self, spans: list[Span]) -> float:
        """Nanoseconds that `bits` will take, about."""
        return min(self._cost_of_runs(spans), self._cost_of_buckets(spans))

    def bits(self, spans: list[Span]) -> Bits:
        """The slots of the spans' entries, over `stop` slots; the caller's own array."""
        if self._cost_of_runs(spans) <= self._cost_of_buckets(spans):
            return self._from_runs(spans)
        return self._from_buckets(spans)

    def _split(self, spans: list[Span]) -> tuple[list[int], list[Span]]:
        """The runs that lie within the spans, and the stretches between them."""
        within: list[int] = []
        gaps: list[Span] = []
        for i, j in spans:
            at = i
            for number, (begin, end) in enumerate(self.runs):
                if i <= begin and end <= j:
                    within.append(number)
                    gaps.append((at, begin))
                    at = end
            gaps.append((at, j))
        return within, [(i, j) for i, j in gaps if i < j]

    def _cost_of_runs(self, spans: list[Span]) -> float:
        within, gaps = self._split(spans)
        single = sum(j - i for i, j in gaps)
        return (len(within) * _COPY_NS + bool(single) * _MASK_NS) * self.stop + single * _SET_NS

    def _from_runs(self, spans: list[Span]) -> Bits:
        within, gaps = self._split(spans)
        bits = self.run_bits[within[0]].copy() if within else no_bits(self.stop)
        for number in within[1:]:
            bits |= self.run_bits[number]
        if gaps:
            bits |= bits_of(np.concatenate([self.order[i:j] for i, j in gaps]), self.stop)
        return bits

    def _cost_of_buckets(self, spans: list[Span]) -> float:
        if not self.buckets.size:
            return float("inf")
        cut = sum(min(j - i, 2 * self.order.size // _BUCKETS) for i, j in spans)
        return (len(spans) * _BUCKET_NS + _MASK_NS) * self.stop + cut * _SET_NS

    def _from_buckets(self, spans: list[Span]) -> Bits:
        mask = np.zeros(0, np.bool_)
        size = self.order.size
        for i, j in spans:
            first, beyond = -(-i * _BUCKETS // size), j * _BUCKETS // size  # buckets wholly inside
            within = self._in_buckets(first, beyond)
            mask = np.logical_or(mask, within, out=mask) if mask.size else within
            if first < beyond:
                mask[self.order[i : -(-first * size // _BUCKETS)].astype(np.intp)] = True
                mask[self.order[-(-beyond * size // _BUCKETS) : j].astype(np.intp)] = True
            else:
                mask[self.order[i:j].astype(np.intp)] = True
        if not mask.size:
            return no_bits(self.stop)
        bits = pack(mask)
        bits &= self.having
        return bits

    def _in_buckets(self, first: int, beyond: int) -> NDArray[np.bool_]:
        if first >= beyond:
            return np.zeros(self.stop, np.bool_)
        if beyond - first == _BUCKETS:
            return np.ones(self.stop, np.bool_)
        offset = self.buckets - np.uint8(first)  # wraps, so that one comparison bounds both sides
        mask = offset.view(np.bool_)
        np.less(offset, np.uint8(beyond - first), out=mask)
        return mask


def seal(slots: NDArray[np.uint32], values: NDArray[Any], stop: int) -> Sealed:
    """Sort entries by value, then slot; repeated entries are dropped."""
    per_slot = np.bincount(slots, minlength=1)
    most = int(per_slot.max())
    if most == 1:
        # 16-bit keys are sorted by radix when a stable order is asked for
        order = np.argsort(values, kind="stable" if values.dtype.itemsize <= 2 else None)
        slots, values = slots[order], values[order]
    else:
        order = np.lexsort((slots, values))
        slots, values = slots[order], values[order]
        distinct = np.ones(slots.size, np.bool_)
        distinct[1:] = (slots[1:] != slots[:-1]) | (values[1:] != values[:-1])
        slots, values = slots[distinct], values[distinct]
    buckets = np.zeros(0, np.uint8)
    if most == 1:
        buckets = np.zeros(stop, np.uint8)
        buckets[slots] = np.arange(slots.size, dtype=np.int64) * _BUCKETS // slots.size
    runs = _runs(values, stop // _FREQUENT)
    run_bits = tuple(bits_of(slots[i:j], stop) for i, j in runs)
    return Sealed(stop, slots, values, most, runs, run_bits, buckets, bits_of(slots, stop))


def _runs(keys: NDArray[Any], least: int) -> tuple[Span, ...]:
    """Stretches of at least so many equal keys."""
    ends = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    begins = np.concatenate((np.zeros(1, np.int64), ends))
    ends = np.concatenate((ends, np.array([keys.size])))
    long = ends - begins >= max(1, least)
    return tuple(zip(begins[long].tolist(), ends[long].tolist(), strict=True))
