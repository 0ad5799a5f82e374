"""The values of one kind at one path, by slot: typed arrays that grow while readers read.

A slot's first value lies in a *dense* array indexed by slot, with a bit that says it is there; further values
of the slot, as in lists, lie in *extra*, pairs of slot and value ascending by slot. A column that few slots
have is sparse: all of its values are extra. Integers and codes start in the narrowest dtype and are widened
when a value asks for it, because a scan is as fast as its bytes are few.

One writer appends; readers take `picture`, a tuple of arrays and extents that is replaced as a whole. The
writer only touches what lies beyond the extents of every earlier picture, or arrays that are new; a word of
presence bits shared with older slots is changed in one store that keeps their bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask, bits_from_slots, clear_beyond, count_bits, no_bits, word_count
from vicinal.filter.membership import Question
from vicinal.filter.place_grid import grid
from vicinal.filter.sealed import SEAL_FROM, Sorted, seal
from vicinal.types import Bits

__all__ = ["Picture", "Values"]

_TO_DENSE = 3  # one slot in so many has a value: dense is as small and much faster
_SEAL_GROWTH = 0.5  # sort anew when so many times as many entries are not sorted as are
_TO_SPARSE = 8  # fewer than one in so many: the dense array is mostly holes


class Picture(NamedTuple):
    """What a reader sees: `dense[:stop]` with `present` bits, and `pairs` of `slots`, `extra`."""

    dense: NDArray[Any]
    present: Bits
    stop: int
    slots: NDArray[np.uint32]
    extra: NDArray[Any]
    pairs: int
    sealed: Sorted | None


class Values:
    """A growing column; `ladder` are its dtypes, narrow to wide."""

    def __init__(self, *ladder: str) -> None:
        self._ladder = [np.dtype(d) for d in ladder]
        self.picture = _empty(self._ladder[0])
        self._filled = 0  # slots with a value
        self._sealed_entries = 0
        self._end = 0  # one beyond the last slot with a value
        self.sorts = True  # false: answers by scans, see `unsort`
        self.asked = 0  # questions, about: threads may lose one

    @classmethod
    def restored(cls, picture: Picture, *ladder: str) -> Values:
        """A column that holds a picture, not sorted; its arrays have no room, so the first addition copies them."""
        values = cls(*ladder)
        values.picture = picture
        some = picture.slots[: picture.pairs]
        values._filled = count_bits(picture.present) if picture.stop else int(np.count_nonzero(_firsts(some)))
        values._end = max(picture.stop, int(some[-1]) + 1 if some.size else 0)
        return values

    @property
    def widest(self) -> np.dtype[Any]:
        """The dtype values are exchanged in."""
        return self._ladder[-1]

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""
        p = self.picture
        return p.dense.nbytes + p.present.nbytes + p.slots.nbytes + p.extra.nbytes + self.sorted_bytes

    def append(self, slots: NDArray[np.uint32], values: NDArray[Any]) -> None:
        """Add values, ascending by slot, all slots beyond those of earlier calls."""
        self._widen(values)
        first = _firsts(slots)
        firsts = int(np.count_nonzero(first))
        self._filled += firsts
        self._end = int(slots[-1]) + 1
        dense = bool(self.picture.stop)
        wanted = self._filled * (_TO_SPARSE if dense else _TO_DENSE) >= self._end
        if dense != wanted:
            self._lay_out(wanted)
        picture = self.picture
        if wanted and firsts == slots.size:
            picture = _with_dense(picture, slots, values)
        elif wanted:
            picture = _with_dense(picture, slots[first], values[first])
            picture = _with_extra(picture, slots[~first], values[~first])
        else:
            picture = _with_extra(picture, slots, values)
        self.picture = picture
        self._seal_when_due()

    def _widen(self, values: NDArray[Any]) -> None:
        """Move to a dtype that holds the new values."""
        p = self.picture
        if p.dense.dtype == self._ladder[-1]:
            return
        low, high = int(values.min()), int(values.max())
        fits = next(d for d in self._ladder if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
        if fits.itemsize > p.dense.dtype.itemsize:
            dense = _grown(p.dense, p.stop, p.dense.size, fits)
            self.picture = p._replace(dense=dense, extra=_grown(p.extra, p.pairs, p.extra.size, fits))

    def _lay_out(self, dense: bool) -> None:
        """Build the arrays anew, dense or sparse."""
        slots, values = self.entries(self._end)
        order = np.argsort(slots, kind="stable")  # `entries` lists a slot's first value before the others
        slots, values = slots[order], values[order]
        picture = _empty(values.dtype)._replace(sealed=self.picture.sealed)
        if dense and slots.size:
            first = _firsts(slots)
            picture = _with_dense(picture, slots[first], values[first])
            slots, values = slots[~first], values[~first]
        self.picture = _with_extra(picture, slots, values)

    @property
    def unsealed(self) -> int:
        """Entries that are not sorted yet, about."""
        return self._filled + (self.picture.pairs if self.picture.stop else 0) - self._sealed_entries

    def _seal_when_due(self) -> None:
        if self.sorts and self.unsealed >= max(SEAL_FROM, _SEAL_GROWTH * self._sealed_entries):
            self.seal()

    def seal(self) -> None:
        """Sort what there is, so that selective questions and counts need no scan."""
        if self._end and self.sorts:
            slots, values = self.entries(self._end)
            arrange: Callable[..., Sorted] = grid if values.dtype.kind == "c" else seal
            self.picture = self.picture._replace(sealed=arrange(slots, values, self._end))
            self._sealed_entries += self.unsealed

    @property
    def sorted_bytes(self) -> int:
        """Bytes of what is sorted."""
        found = self.picture.sealed
        return 0 if found is None else found.memory_bytes

    def unsort(self) -> None:
        """Give up what is sorted, for good: scans answer, as right and slower."""
        self.sorts, self._sealed_entries = False, 0
        self.picture = self.picture._replace(sealed=None)

    def entries(self, n: int) -> tuple[NDArray[np.uint32], NDArray[Any]]:
        """Slots and values of all slots below n: first values by slot, then the extra ones by slot."""
        p = self.picture
        stop = min(n, p.stop)
        has = np.unpackbits(p.present[: word_count(stop)].view(np.uint8), count=stop, bitorder="little")
        slots = np.flatnonzero(has).astype(np.uint32)
        count = int(np.searchsorted(p.slots[: p.pairs], np.uint32(n)))
        return np.concatenate((slots, p.slots[:count])), np.concatenate((p.dense[slots], p.extra[:count]))

    def bits(self, question: Question, start: int, stop: int) -> Bits:
        """The slots of [start, stop) with a value that satisfies the question; bit 0 is slot start.

        `start` is a multiple of 64.
        """
        p = self.picture
        self.asked += 1
        if start == 0 and p.sealed is not None:
            return _with_later(p, p.sealed.bits(question), p.sealed.stop, question, stop)
        return _scanned(p, question, start, stop)

    def count(self, question: Question, n: int) -> tuple[int, int, int]:
        """Slots below n with a value that satisfies the question: at least, about, at most.

        Exact without looking at the values if they are sorted and a slot has one, or one is asked for.
        """
        p = self.picture
        if p.sealed is None:
            exact = count_bits(self.bits(question, 0, n))
            return exact, exact, exact
        low, about, high = p.sealed.counted(question)
        if n == p.sealed.stop:
            return low, about, high
        if n < p.sealed.stop:
            hidden = p.sealed.stop - n  # sorted slots that this reader does not know
            about = about * n // p.sealed.stop
            low, high = max(0, low - hidden), min(high, n)
            return low, min(max(about, low), high), high
        begin = p.sealed.stop & ~63
        later = _scanned(p, question, begin, n)
        if later.size:
            later[0] &= ~np.uint64((1 << (p.sealed.stop - begin)) - 1)
        fresh = count_bits(later)
        return low + fresh, about + fresh, high + fresh


def _empty(dtype: np.dtype[Any]) -> Picture:
    none = np.zeros(0, dtype)
    return Picture(none, no_bits(0), 0, np.zeros(0, np.uint32), none, 0, None)


def _firsts(slots: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """True at the first entry of every slot."""
    first = np.ones(slots.size, np.bool_)
    np.not_equal(slots[1:], slots[:-1], out=first[1:])
    return first


def _with_dense(p: Picture, slots: NDArray[np.uint32], values: NDArray[Any]) -> Picture:
    """The picture with first values of slots that lie beyond its own."""
    begin, stop = int(slots[0]), int(slots[-1]) + 1
    dense, present = p.dense, p.present
    if stop > dense.size:
        room = -(-max(stop, dense.size * 3 // 2) // 64) * 64
        dense = _grown(dense, p.stop, room, dense.dtype)
        present = _grown(present, word_count(p.stop), room // 64, present.dtype)
    if stop - begin == slots.size:
        dense[begin:stop] = values
    else:
        dense[slots] = values
    word = begin >> 6
    present[word : word_count(stop)] |= bits_from_slots(slots - np.uint32(word << 6), stop - (word << 6))
    return p._replace(dense=dense, present=present, stop=stop)


def _with_extra(p: Picture, slots: NDArray[np.uint32], values: NDArray[Any]) -> Picture:
    """The picture with more pairs of slot and value."""
    pairs = p.pairs + slots.size
    to, extra = p.slots, p.extra
    if pairs > extra.size:
        room = max(pairs, extra.size * 3 // 2)
        to, extra = _grown(to, p.pairs, room, to.dtype), _grown(extra, p.pairs, room, extra.dtype)
    to[p.pairs : pairs] = slots
    extra[p.pairs : pairs] = values
    return p._replace(slots=to, extra=extra, pairs=pairs)


def _with_later(p: Picture, known: Bits, sealed_stop: int, question: Question, stop: int) -> Bits:
    """The slots found in the sorted part, and a scan of the slots after it."""
    if stop <= sealed_stop:
        return known if stop == sealed_stop else clear_beyond(known[: word_count(stop)], stop)
    resume = sealed_stop & ~63
    later = _scanned(p, question, resume, stop)
    bits = np.concatenate((known[: resume >> 6], later))
    bits[resume >> 6 : known.size] |= known[resume >> 6 :]
    return bits


def _scanned(p: Picture, question: Question, start: int, stop: int) -> Bits:
    end = min(stop, p.stop)
    bits = no_bits(0)
    if end > start:
        bits = bits_from_mask(question(p.dense[start:end]))
        bits &= p.present[start >> 6 : word_count(end)]
    if bits.size < word_count(stop - start):
        bits = np.concatenate((bits, no_bits(stop - start - 64 * bits.size)))
    i, j = np.searchsorted(p.slots[: p.pairs], np.array((start, stop), np.uint32))  # else the array is cast
    if j > i:
        bits |= bits_from_slots(p.slots[i:j][question(p.extra[i:j])] - np.uint32(start), stop - start)
    return bits


def _grown(array: NDArray[Any], keep: int, room: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A new array of `room` elements that begins with the first `keep` of the old one."""
    grown = np.zeros(room, dtype)  # zeros are mapped when touched: room that is not used costs nothing
    grown[:keep] = array[:keep]
    return grown
