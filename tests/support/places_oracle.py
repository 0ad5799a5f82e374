"""What areas mean, one place at a time by unit vectors, and strategies that make places and areas."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from vicinal.filter.geo import GeoBoundingBox, GeoCondition, GeoPoint, GeoPolygon, GeoRadius

__all__ = ["area_text", "areas", "lies_within", "metres", "places"]


def _unit(lon: float, lat: float) -> tuple[float, float, float]:
    a, b = math.radians(lon), math.radians(lat)
    return math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)


def metres(a: GeoPoint, b: GeoPoint) -> float:
    """Distance over the sphere, from cross and dot product: exact at every distance."""
    u, v = _unit(*a), _unit(*b)
    cross = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    return 6_371_008.8 * math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(u, v, strict=True)))


def _place(value: Any) -> GeoPoint | None:
    if not isinstance(value, dict) or not {"lon", "lat"} <= set(value):
        return None
    lon, lat = value["lon"], value["lat"]
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (lon, lat)):
        return None
    return GeoPoint(lon, lat) if abs(lon) <= 180 and abs(lat) <= 90 else None


def _winds(ring: tuple[GeoPoint, ...], at: GeoPoint) -> bool:
    """Whether the angles under which the edges are seen add up to an odd number of turns."""
    turn = 0.0
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        ax, ay, bx, by = a.lon - at.lon, a.lat - at.lat, b.lon - at.lon, b.lat - at.lat
        turn += math.atan2(ax * by - ay * bx, ax * bx + ay * by)
    return round(turn / (2 * math.pi)) % 2 == 1


def lies_within(value: Any, asked: GeoCondition) -> bool:
    """Whether a payload value is a place within the area."""
    at = _place(value)
    if at is None:
        return False
    if isinstance(asked, GeoRadius):
        return metres(at, asked.center) <= asked.radius + 1e-3
    if isinstance(asked, GeoBoundingBox):
        west, east = asked.top_left.lon, asked.bottom_right.lon
        between = west <= at.lon <= east if west <= east else at.lon >= west or at.lon <= east
        return between and asked.bottom_right.lat <= at.lat <= asked.top_left.lat
    assert isinstance(asked, GeoPolygon)
    return _winds(asked.exterior, at) and not any(_winds(ring, at) for ring in asked.interiors)


def _pair(point: GeoPoint) -> str:
    return f"({point.lon!r}, {point.lat!r})"


def area_text(asked: GeoCondition, key: str) -> str:
    """The condition as text."""
    if isinstance(asked, GeoRadius):
        return f"geo_radius({key}, {_pair(asked.center)}, {asked.radius!r})"
    if isinstance(asked, GeoBoundingBox):
        return f"geo_bounding_box({key}, {_pair(asked.top_left)}, {_pair(asked.bottom_right)})"
    assert isinstance(asked, GeoPolygon)
    rings = ", ".join(f"({', '.join(map(_pair, ring))})" for ring in (asked.exterior, *asked.interiors))
    return f"Geo_Polygon({key}, {rings})"


# Stored places lie on whole degrees and the corners of polygons do not, so that none lies on an edge; no distance
# between two of them is within a metre of a radius, but 0.
_LONS = [-180, -179, -90, 0, 1, 13, 14, 90.0, 179, 180]
_LATS = [-90, -89, -45, 0, 1.0, 52, 53, 89, 90]
_COORDINATE = st.one_of(st.sampled_from([181, -181, 91, "1", None, True]), st.sampled_from(_LATS))
_PLACE = st.one_of(
    st.fixed_dictionaries({"lon": st.sampled_from(_LONS), "lat": st.sampled_from(_LATS)}),
    st.fixed_dictionaries({"lon": st.sampled_from(_LONS), "lat": st.sampled_from(_LATS)}),
    st.fixed_dictionaries({}, optional={"lon": _COORDINATE, "lat": _COORDINATE, "name": st.just("x")}),
)
places: st.SearchStrategy[Any] = st.one_of(_PLACE, st.lists(st.one_of(_PLACE, st.none()), max_size=3))

_CENTRES = st.builds(GeoPoint, st.sampled_from(_LONS), st.sampled_from(_LATS))
_RADII = st.sampled_from([1.0, 50_000.0, 130_000, 1e6, 5e6, 1.2e7, 2.01e7, 1e9])
_CORNERS = st.builds(
    GeoPoint, st.sampled_from([-170.5, -0.53, 0.27, 13.5, 100.7]), st.sampled_from([-60.5, 0.51, 52.3])
)
_RINGS = st.lists(_CORNERS, min_size=3, max_size=6, unique=True).map(tuple)


def areas(keys: st.SearchStrategy[str]) -> st.SearchStrategy[GeoCondition]:
    """Radii around places, boxes between places, polygons of one or two rings that may cross themselves."""

    def box(key: str, a: GeoPoint, b: GeoPoint) -> GeoBoundingBox:
        return GeoBoundingBox(key, GeoPoint(a.lon, max(a.lat, b.lat)), GeoPoint(b.lon, min(a.lat, b.lat)))

    return st.one_of(
        st.builds(GeoRadius, keys, _CENTRES, _RADII),
        st.builds(box, keys, _CENTRES, _CENTRES),
        st.builds(GeoPolygon, keys, _RINGS, st.lists(_RINGS, max_size=1).map(tuple)),
    )
