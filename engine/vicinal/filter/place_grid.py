"""The sorted side of a column of places: strips of longitude, each in cells of latitude.

An area takes whole cells as stretches of the order (`ordered`); only in cells that its border may cross are places
tested one by one. Which cells those are is decided on their boxes by `Area.sides`, which may err towards testing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.areas import Area, Boxes
from vicinal.filter.ordered import Ordered, Spans, spans_of, total
from vicinal.filter.sealed import Counted, in_order
from vicinal.types import Bits

__all__ = ["PlaceGrid", "grid"]

_CELL: Final = 96  # places in a cell, about
_STRIPS_MAX: Final = 128
_SAMPLE: Final = 512  # places looked at to estimate how many the border cells hold


class PlaceGrid(NamedTuple):
    """`ordered.order[firsts[c] : firsts[c + 1]]` are the slots of cell c, `places` their places, boxes[c] around them.

    Covers the slots below `stop`; `filled` of them have a place, at most `most` each.
    """

    stop: int
    ordered: Ordered
    places: NDArray[np.complex128]
    firsts: NDArray[np.int64]
    boxes: Boxes
    most: int
    filled: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays."""
        boxes = sum(side.nbytes for side in self.boxes)
        return self.ordered.memory_bytes + self.places.nbytes + self.firsts.nbytes + boxes

    def bits(self, area: Area) -> Bits:
        """The slots with a place within the area, over `stop` slots; the caller's own array."""
        inside, border = self._cells(area)
        places = _places_of(border)
        within = places[area(self.places[places])]
        if not self.ordered.single:
            return self.ordered.bits(np.concatenate((inside, np.stack((within, within + 1), axis=1))))
        bits = self.ordered.bits(inside)
        slots = self.ordered.order[within].astype(np.int64)
        np.bitwise_xor.at(bits, slots >> 6, np.uint64(1) << (slots & 63).astype(np.uint64))
        return bits

    def counted(self, area: Area) -> Counted:
        """Slots with a place within the area: at least, about, at most."""
        inside, border = self._cells(area)
        whole, crossed = total(inside), total(border)
        if crossed <= _SAMPLE:
            places = _places_of(border)
            found = int(np.count_nonzero(area(self.places[places])))
            low = high = whole + found
        else:
            places = _places_of(border)[:: crossed // _SAMPLE + 1]
            share = float(np.count_nonzero(area(self.places[places]))) / places.size
            low, found, high = whole, round(share * crossed), whole + crossed
        about = whole + found
        if self.most == 1:
            return low, about, high
        low, high = -(-low // self.most), min(high, self.filled)
        return low, min(max(about * self.filled // self.places.size, low), high), high

    def _cells(self, area: Area) -> tuple[Spans, Spans]:
        """The stretches of cells wholly inside the area, and of those that its border may cross."""
        inside, outside = area.sides(self.boxes)
        begins, ends = self.firsts[:-1], self.firsts[1:]
        border = ~(inside | outside)
        return spans_of(begins[inside], ends[inside]), spans_of(begins[border], ends[border])


def _places_of(spans: Spans) -> NDArray[np.int64]:
    """The places in the order that lie in the spans."""
    lengths = spans[:, 1] - spans[:, 0]
    return np.repeat(spans[:, 1] - np.cumsum(lengths), lengths) + np.arange(int(lengths.sum()))


def grid(slots: NDArray[np.uint32], places: NDArray[np.complex128], stop: int) -> PlaceGrid:
    """Sort some places, at least one, all of slots below `stop`."""
    slots, places, most = in_order(slots, places)  # by longitude
    cells = max(1, places.size // _CELL)
    strips = min(_STRIPS_MAX, max(1, round(cells**0.5)))
    strip = np.arange(places.size) * strips // places.size
    order = np.lexsort((places.imag, strip))
    slots, places = slots[order], places[order]
    edges = np.searchsorted(strip, np.arange(strips + 1))
    per_strip = max(1, cells // strips)
    firsts = [edges[s] + (edges[s + 1] - edges[s]) * c // per_strip for s in range(strips) for c in range(per_strip)]
    ends = np.unique(np.array([*firsts, places.size], np.int64))
    lons, lats, at = places.real, places.imag, ends[:-1]
    boxes = Boxes(
        np.minimum.reduceat(lons, at), np.maximum.reduceat(lons, at),
        np.minimum.reduceat(lats, at), np.maximum.reduceat(lats, at),
    )  # fmt: skip
    filled = slots.size if most == 1 else int(np.unique(slots).size)
    return PlaceGrid(stop, Ordered.of(slots, stop, [], single=most == 1), places, ends, boxes, most, filled)
