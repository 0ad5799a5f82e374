"""Areas of the globe as questions to columns of places, complex128: longitude + latitude * 1j, in degrees.

Every area has a box that holds it; the exact test sees what lies in the box. Sorted columns hold places in cells, and
an area says of a cell's box whether all of it lies inside, all of it outside, or neither for sure (`sides`). Distances
are great circles by the haversine formula in float64: within a millimetre, except close to the antipode, where it is
some metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.geo import LAT_MAX, LON_MAX, GeoBoundingBox, GeoCondition, GeoPolygon, GeoRadius, Ring

__all__ = ["EARTH_RADIUS", "Area", "Boxes", "area_of"]

EARTH_RADIUS: Final = 6_371_008.8  # metres, the mean radius of the ellipsoid; Qdrant's too
_MARGIN: Final = 1e-6  # degrees, 0.1 m: the box of a radius must not lose a place to rounding
_CELL_MARGIN: Final = 1e-4  # degrees, 11 m: nor may what is said of a whole cell, close to the antipode either

Degrees = NDArray[np.float64]
Truths = NDArray[np.bool_]
Inside = Callable[[Degrees, Degrees], Truths]


class Boxes(NamedTuple):
    """Bounds of many boxes, none across the antimeridian; each (boxes,) degrees."""

    west: Degrees
    east: Degrees
    south: Degrees
    north: Degrees


Sides = Callable[[Boxes], tuple[Truths, Truths]]


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """The places of a box for which `inside`, if any, holds too; `lons` are one or two ranges of longitude.

    cells: which boxes `inside` certainly holds for, and for which it certainly does not, wherever in them.
    """

    lons: tuple[tuple[float, float], ...]
    south: float
    north: float
    inside: Inside | None = None
    cells: Sides | None = None

    def sides(self, boxes: Boxes) -> tuple[Truths, Truths]:
        """Which boxes lie inside with all of their places, and which outside; the others may do either."""
        level = (boxes.south >= self.south) & (boxes.north <= self.north)
        within, apart = np.zeros(level.size, np.bool_), np.ones(level.size, np.bool_)
        for low, high in self.lons:
            within |= (boxes.west >= low) & (boxes.east <= high)
            apart &= (boxes.east < low) | (boxes.west > high)
        within &= level
        apart |= (boxes.north < self.south) | (boxes.south > self.north)
        if self.cells is not None:
            near = np.flatnonzero(~apart)
            inside, outside = self.cells(Boxes(*(side[near] for side in boxes)))
            within[near] &= inside
            apart[near] |= outside
        return within, apart

    def __call__(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a place lies within."""
        lons, lats = values.real, values.imag
        found = np.zeros(values.size, np.bool_)
        for low, high in self.lons:
            found |= (lons >= low) & (lons <= high)
        found &= (lats >= self.south) & (lats <= self.north)
        if self.inside is not None:
            candidates = np.flatnonzero(found)
            found[candidates] = self.inside(lons[candidates], lats[candidates])
        return found


def area_of(condition: GeoCondition) -> Area:
    """The area that a condition describes."""
    match condition:
        case GeoRadius():
            return _disc(condition)
        case GeoBoundingBox():
            left, north = condition.top_left
            right, south = condition.bottom_right
            across = left > right
            return Area(((left, LON_MAX), (-LON_MAX, right)) if across else ((left, right),), south, north)
        case GeoPolygon():
            return _polygon(condition)
    raise AssertionError(f"an area of unknown kind: {type(condition).__name__}")


def _disc(condition: GeoRadius) -> Area:
    lon, lat = condition.center
    angle = min(condition.radius / EARTH_RADIUS, math.pi)
    reach = math.degrees(angle) + _MARGIN
    south, north = lat - reach, lat + reach
    lons: tuple[tuple[float, float], ...] = ((-LON_MAX, LON_MAX),)
    if south > -LAT_MAX and north < LAT_MAX:  # no pole within: the meridians that touch the circle bound it
        width = math.degrees(math.asin(min(1.0, math.sin(math.radians(reach)) / math.cos(math.radians(lat))))) + _MARGIN
        west, east = lon - width, lon + width
        if west < -LON_MAX:
            lons = ((-LON_MAX, east), (west + 2 * LON_MAX, LON_MAX))
        elif east > LON_MAX:
            lons = ((west, LON_MAX), (-LON_MAX, east - 2 * LON_MAX))
        else:
            lons = ((west, east),)
    most = math.sin(angle / 2) ** 2

    def inside(lons: Degrees, lats: Degrees) -> NDArray[np.bool_]:
        across = np.sin(np.radians(lons - lon) / 2) ** 2
        along = np.sin(np.radians(lats - lat) / 2) ** 2
        return np.asarray(along + np.cos(np.radians(lats)) * math.cos(math.radians(lat)) * across <= most)

    def cells(boxes: Boxes) -> tuple[Truths, Truths]:
        """By the distance to the middle of a box and that of its farthest place, at most one step north, one east."""
        lats, lons = (boxes.south + boxes.north) / 2, (boxes.west + boxes.east) / 2
        widest = np.cos(np.radians(np.where(boxes.south * boxes.north <= 0, 0.0, _least(boxes.south, boxes.north))))
        reach = np.radians((boxes.north - boxes.south) / 2 + widest * (boxes.east - boxes.west) / 2 + _CELL_MARGIN)
        across = np.sin(np.radians(lons - lon) / 2) ** 2
        along = np.sin(np.radians(lats - lat) / 2) ** 2
        square = along + np.cos(np.radians(lats)) * math.cos(math.radians(lat)) * across
        away = 2 * np.arcsin(np.sqrt(np.minimum(square, 1.0)))
        return away + reach <= angle, away - reach > angle

    return Area(lons, south, north, *((None, None) if angle >= math.pi else (inside, cells)))


def _least(south: Degrees, north: Degrees) -> Degrees:
    """The latitude nearest to the equator of boxes that do not cross it."""
    return np.minimum(np.abs(south), np.abs(north))


def _polygon(condition: GeoPolygon) -> Area:
    lons, lats = zip(*condition.exterior, strict=True)

    def inside(lons: Degrees, lats: Degrees) -> NDArray[np.bool_]:
        within = _within(condition.exterior, lons, lats)
        for ring in condition.interiors:
            within &= ~_within(ring, lons, lats)
        return within

    def cells(boxes: Boxes) -> tuple[Truths, Truths]:
        """A box that no edge can cross lies on the side of its middle."""
        crossed = np.zeros(boxes.west.size, np.bool_)
        for ring in (condition.exterior, *condition.interiors):
            for (lon, lat), (to_lon, to_lat) in zip(ring, ring[1:] + ring[:1], strict=True):
                crossed |= _may_cross(boxes, (lon, lat), (to_lon, to_lat))
        middle = inside((boxes.west + boxes.east) / 2, (boxes.south + boxes.north) / 2)
        return middle & ~crossed, ~(middle | crossed)

    return Area(((min(lons), max(lons)),), min(lats), max(lats), inside, cells)


def _may_cross(boxes: Boxes, one: tuple[float, float], other: tuple[float, float]) -> Truths:
    """Whether the boxes, a little enlarged, meet the box of an edge and do not lie on one side of its line."""
    (x, y), (to_x, to_y) = one, other
    west, east, south, north = boxes.west - _MARGIN, boxes.east + _MARGIN, boxes.south - _MARGIN, boxes.north + _MARGIN
    near = (west <= max(x, to_x)) & (east >= min(x, to_x)) & (south <= max(y, to_y)) & (north >= min(y, to_y))
    turns = [(to_x - x) * (lat - y) - (to_y - y) * (lon - x) for lon in (west, east) for lat in (south, north)]
    return np.asarray(near & (np.min(turns, axis=0) <= 0) & (np.max(turns, axis=0) >= 0))


def _within(ring: Ring, lons: Degrees, lats: Degrees) -> NDArray[np.bool_]:
    """Whether a ray to the east crosses the ring an odd number of times."""
    odd = np.zeros(lons.size, np.bool_)
    for (lon, lat), (next_lon, next_lat) in zip(ring, ring[1:] + ring[:1], strict=True):
        if lat != next_lat:
            between = (lat > lats) != (next_lat > lats)
            odd ^= between & (lons < lon + (next_lon - lon) * ((lats - lat) / (next_lat - lat)))
    return odd
