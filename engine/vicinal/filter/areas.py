"""Areas of the globe as questions to columns of places, complex128: longitude + latitude * 1j, in degrees.

Every area has a box that holds it. Columns are sorted by longitude, so that only the places between two
meridians are looked at; of these the exact test sees what lies in the box. Distances are great circles by the
haversine formula in float64: within a millimetre, except close to the antipode, where it is some metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.geo import LAT_MAX, LON_MAX, GeoBoundingBox, GeoCondition, GeoPolygon, GeoRadius, Ring

__all__ = ["EARTH_RADIUS", "Area", "area_of"]

EARTH_RADIUS: Final = 6_371_008.8  # metres, the mean radius of the ellipsoid; Qdrant's too
_MARGIN: Final = 1e-6  # degrees, 0.1 m: the box of a radius must not lose a place to rounding

Degrees = NDArray[np.float64]
Inside = Callable[[Degrees, Degrees], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """The places of a box for which `inside`, if any, holds too; `lons` are one or two ranges of longitude."""

    lons: tuple[tuple[float, float], ...]
    south: float
    north: float
    inside: Inside | None = None

    def meridians(self) -> list[tuple[complex, complex]]:
        """Lower and upper ends, in the order of complex numbers in numpy, of what has to be looked at."""
        return [(complex(low, -math.inf), complex(high, math.inf)) for low, high in self.lons]

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

    return Area(lons, south, north, None if angle >= math.pi else inside)


def _polygon(condition: GeoPolygon) -> Area:
    lons, lats = zip(*condition.exterior, strict=True)

    def inside(lons: Degrees, lats: Degrees) -> NDArray[np.bool_]:
        within = _within(condition.exterior, lons, lats)
        for ring in condition.interiors:
            within &= ~_within(ring, lons, lats)
        return within

    return Area(((min(lons), max(lons)),), min(lats), max(lats), inside)


def _within(ring: Ring, lons: Degrees, lats: Degrees) -> NDArray[np.bool_]:
    """Whether a ray to the east crosses the ring an odd number of times."""
    odd = np.zeros(lons.size, np.bool_)
    for (lon, lat), (next_lon, next_lat) in zip(ring, ring[1:] + ring[:1], strict=True):
        if lat != next_lat:
            between = (lat > lats) != (next_lat > lats)
            odd ^= between & (lons < lon + (next_lon - lon) * ((lats - lat) / (next_lat - lat)))
    return odd
