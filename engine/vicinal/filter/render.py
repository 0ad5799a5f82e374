"""A filter as the mapping that `parse_filter` reads back: Qdrant's JSON shape, ready to be sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from vicinal.filter.geo import GeoBoundingBox, GeoCondition, GeoPoint, GeoPolygon, GeoRadius, Ring
from vicinal.filter.model import (
    Condition,
    Filter,
    HasId,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    Range,
)

__all__ = ["to_mapping"]


def to_mapping(condition: Condition) -> dict[str, Any]:
    """The condition in JSON values; datetimes become ISO 8601 text."""
    mapping: dict[str, Any]
    match condition:
        case Filter():
            mapping = _filter(condition)
        case Match():
            mapping = {"key": condition.key, "match": {"value": condition.value}}
        case MatchAny():
            mapping = {"key": condition.key, "match": {"any": list(condition.values)}}
        case MatchExcept():
            mapping = {"key": condition.key, "match": {"except": list(condition.values)}}
        case Range():
            bounds = {n: b.isoformat() if isinstance(b, datetime) else b for n, b in condition.bounds}
            mapping = {"key": condition.key, "range": bounds}
        case IsEmpty():
            mapping = {"is_empty": {"key": condition.key}}
        case IsNull():
            mapping = {"is_null": {"key": condition.key}}
        case GeoCondition():
            mapping = {"key": condition.key, **_area(condition)}
        case HasId():
            mapping = {"has_id": list(condition.ids)}
        case _:
            raise AssertionError(f"a condition of unknown kind: {type(condition).__name__}")
    return mapping


def _area(condition: GeoCondition) -> dict[str, Any]:
    match condition:
        case GeoRadius():
            return {"geo_radius": {"center": _point(condition.center), "radius": condition.radius}}
        case GeoBoundingBox():
            corners = {"top_left": _point(condition.top_left), "bottom_right": _point(condition.bottom_right)}
            return {"geo_bounding_box": corners}
        case GeoPolygon():
            holes = [_ring(ring) for ring in condition.interiors]
            return {"geo_polygon": {"exterior": _ring(condition.exterior), "interiors": holes}}
    raise AssertionError(f"an area of unknown kind: {type(condition).__name__}")


def _point(point: GeoPoint) -> dict[str, float]:
    return point._asdict()


def _ring(ring: Ring) -> dict[str, Any]:
    return {"points": [_point(p) for p in (*ring, ring[0])]}  # closed, as Qdrant wants it


def _filter(tree: Filter) -> dict[str, Any]:
    roles = {"must": tree.must, "should": tree.should, "must_not": tree.must_not}
    mapping: dict[str, Any] = {role: [to_mapping(c) for c in clauses] for role, clauses in roles.items() if clauses}
    if tree.min_should is not None:
        conditions = [to_mapping(c) for c in tree.min_should.conditions]
        mapping["min_should"] = {"conditions": conditions, "min_count": tree.min_should.min_count}
    return mapping or {"must": []}  # an empty object is no condition
