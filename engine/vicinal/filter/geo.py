"""Conditions on places: within a radius, a box, a polygon.

A place is an object `{"lon": .., "lat": ..}` of two numbers, -180 to 180 and -90 to 90 degrees, as Qdrant's; what
is out of these bounds is no place and satisfies nothing. A key holds one place or a list of them. Borders belong
to a radius and to a box. The edges of a polygon are straight in degrees and it does not cross the antimeridian,
as in Qdrant; a place exactly on an edge may be found or not. Bad coordinates raise InvalidFilter.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vicinal.errors import InvalidFilter
from vicinal.filter.literals import checked_list, plain, refuse
from vicinal.filter.model import KeyCondition

__all__ = ["LAT_MAX", "LON_MAX", "GeoBoundingBox", "GeoCondition", "GeoPoint", "GeoPolygon", "GeoRadius", "Ring"]

LON_MAX: Final = 180.0
LAT_MAX: Final = 90.0
_CORNERS_MIN: Final = 3


class GeoPoint(NamedTuple):
    """Degrees east of Greenwich and north of the equator."""

    lon: float
    lat: float


Ring = tuple[GeoPoint, ...]


def _degrees(value: Any, most: float, name: str) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"{name} must be a number of degrees, not {type(value).__name__}", value, name)
    if not -most <= value <= most:  # NaN too
        refuse(f"{name} must lie within -{most:g} and {most:g} degrees", value, name)
    return float(value)


def _point(value: Any, name: str) -> GeoPoint:
    """The point of a mapping with lon and lat, or of a pair (lon, lat)."""
    if isinstance(value, Mapping):
        if set(value) != {"lon", "lat"}:
            refuse(f"{name} must have lon and lat and nothing else", value, name)
        value = (value["lon"], value["lat"])
    if not isinstance(value, list | tuple) or len(value) != len(GeoPoint._fields):
        refuse(f'{name} must be {{"lon": .., "lat": ..}} or a pair (lon, lat)', value, name)
    return GeoPoint(_degrees(value[0], LON_MAX, f"{name}.lon"), _degrees(value[1], LAT_MAX, f"{name}.lat"))


def _ring(value: Any, name: str) -> Ring:
    """The corners of a ring, in order, the first not repeated at the end; a mapping holds them as `points`."""
    if isinstance(value, Mapping):
        if set(value) != {"points"}:
            refuse(f"{name} must have points and nothing else", value, name)
        value = value["points"]
    points = tuple(_point(p, f"{name}.points[{i}]") for i, p in enumerate(checked_list(value, f"{name}.points")))
    if len(points) > 1 and points[0] == points[-1]:
        points = points[:-1]
    if len(points) < _CORNERS_MIN:
        raise InvalidFilter(f"{name} must have at least {_CORNERS_MIN} corners", field=name, limit=_CORNERS_MIN)
    return points


@dataclass(frozen=True, eq=False)
class GeoCondition(KeyCondition):
    """Some place at the key lies within an area."""


@dataclass(frozen=True, eq=False)
class GeoRadius(GeoCondition):
    """Some place at the key is at most `radius` metres from `center`, on a sphere of 6,371,008.8 m."""

    center: GeoPoint
    radius: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "center", _point(self.center, "center"))
        radius = plain(self.radius)
        if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 <= radius < math.inf:
            refuse("radius must be a number of metres, 0 or more", radius, "radius")
        object.__setattr__(self, "radius", float(radius))

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind, path, centre, radius."""
        return (*super().identity, self.center, self.radius)


@dataclass(frozen=True, eq=False)
class GeoBoundingBox(GeoCondition):
    """Some place at the key lies in the box; across the antimeridian if the left side is east of the right one."""

    top_left: GeoPoint
    bottom_right: GeoPoint

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("top_left", "bottom_right"):
            object.__setattr__(self, name, _point(getattr(self, name), name))
        if self.top_left.lat < self.bottom_right.lat:
            refuse("top_left.lat must not lie south of bottom_right.lat", self.top_left.lat, "top_left.lat")

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind, path, corners."""
        return (*super().identity, self.top_left, self.bottom_right)


@dataclass(frozen=True, eq=False)
class GeoPolygon(GeoCondition):
    """Some place at the key lies within the ring `exterior` and in none of the rings `interiors`."""

    exterior: Ring
    interiors: tuple[Ring, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "exterior", _ring(self.exterior, "exterior"))
        rings = checked_list(self.interiors, "interiors")
        object.__setattr__(self, "interiors", tuple(_ring(r, f"interiors[{i}]") for i, r in enumerate(rings)))

    @property
    def size(self) -> tuple[int, int, int]:
        """A leaf with as many values as corners."""
        return (0, 1, len(self.exterior) + sum(map(len, self.interiors)))

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind, path, rings."""
        return (*super().identity, self.exterior, self.interiors)
