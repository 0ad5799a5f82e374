"""Filters as sent: a mapping in Qdrant's JSON shape, a text expression, or a `Filter`.

    {"must": [{"key": "year", "range": {"gte": 2020}},
              {"key": "topic", "match": {"any": ["cs.LG", "cs.IR"]}}],
     "must_not": {"is_empty": {"key": "title"}},
     "min_should": {"conditions": [...], "min_count": 2}}

A single condition may stand for a list, null for "not given". A key this module does not know is refused,
never ignored: an ignored condition returns points that should not be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeVar

import orjson

from vicinal.errors import InvalidFilter
from vicinal.filter.expression import parse_expression
from vicinal.filter.geo import GeoBoundingBox, GeoPolygon, GeoRadius
from vicinal.filter.model import (
    Condition,
    Filter,
    HasId,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MinShould,
    Range,
)
from vicinal.limits import FILTER_DEPTH_MAX, FILTER_NODES_MAX

__all__ = ["parse_filter"]

C = TypeVar("C", bound="Condition | MinShould")

_FILTER_KEYS: Final = frozenset(("must", "should", "must_not", "min_should"))
_GEO_KEYS: Final[dict[str, tuple[Callable[..., Condition], frozenset[str]]]] = {
    "geo_radius": (GeoRadius, frozenset(("center", "radius"))),
    "geo_bounding_box": (GeoBoundingBox, frozenset(("top_left", "bottom_right"))),
    "geo_polygon": (GeoPolygon, frozenset(("exterior", "interiors"))),
}
_FIELD_KEYS: Final = frozenset(("match", "range", "is_empty", "is_null", *_GEO_KEYS))
_MATCH_KEYS: Final = frozenset(("value", "any", "except"))
_RANGE_KEYS: Final = frozenset(("gt", "gte", "lt", "lte"))
_AS_IT_IS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_SHORT: Final = 1_024  # characters of a text that is remembered with its tree
_REMEMBERED_MAX: Final = 4_096
_REMEMBERED_BYTES_MAX: Final = 4_096
_remembered: Final[dict[bytes, Filter]] = {}
_LATER: Final = frozenset(("values_count", "nested", "has_vector", "text", "phrase"))


def parse_filter(filter: Mapping[str, Any] | str | Filter | None) -> Filter | None:
    """The filter as a checked tree; None, and a filter that demands nothing, give None.

    InvalidFilter names the clause (`must[1].range.gte`) or the character of the text.
    """
    if filter is None:
        return None
    if isinstance(filter, str):
        tree = _parse_text(filter)
    elif isinstance(filter, Filter):
        tree = filter
    elif isinstance(filter, Mapping):
        tree = _parse_mapping(filter)
    else:
        raise InvalidFilter(f"a filter is a mapping, a text or a Filter, not {type(filter).__name__}", field="filter")
    return tree if tree.clauses or tree.min_should else None


def _parse_text(text: str) -> Filter:
    return _parse_short(text) if len(text) <= _SHORT else parse_expression(text)


@lru_cache(maxsize=4096)
def _parse_short(text: str) -> Filter:
    return parse_expression(text)


def _parse_mapping(mapping: Mapping[str, Any]) -> Filter:
    """The tree of a mapping, remembered by its JSON: encoding takes a tenth of the time of reading."""
    try:
        text = orjson.dumps(mapping, option=_AS_IT_IS)
    except TypeError:  # not plain JSON, such as a numpy number, or nested deep
        return _filter_or_condition(mapping)
    # NaN and infinity are encoded as null, which means something else
    if len(text) > _REMEMBERED_BYTES_MAX or b"null" in text:
        return _filter_or_condition(mapping)
    tree = _remembered.get(text)
    if tree is None:
        tree = _filter_or_condition(mapping)
        if len(_remembered) >= _REMEMBERED_MAX:
            _remembered.clear()
        _remembered[text] = tree
    return tree


def _refuse(where: str, what: str) -> NoReturn:
    raise InvalidFilter(f"filter, at {where}: {what}", field=where)


def _made(where: str, build: Callable[..., C], *args: Any, **parts: Any) -> C:
    """The condition, its refusals given the name of the clause."""
    try:
        return build(*args, **parts)
    except InvalidFilter as error:
        raise InvalidFilter(f"filter, at {where}: {error.message}", field=where, limit=error.limit) from error


def _given(mapping: Any, where: str, known: frozenset[str]) -> dict[str, Any]:
    """The members that are not null; all names must be known."""
    if not isinstance(mapping, Mapping):
        _refuse(where, f"expected an object, found {type(mapping).__name__}")
    for name in mapping:
        if name in _LATER:
            _refuse(where, f"{name} is not supported")
        if name not in known:
            _refuse(where, f"unknown member {str(name)[:80]!r}, known are {', '.join(sorted(known))}")
    return {name: value for name, value in mapping.items() if value is not None}


def _filter_or_condition(mapping: Mapping[str, Any]) -> Filter:
    if not mapping or _FILTER_KEYS & mapping.keys():
        return _filter(mapping, "", 1)
    condition = _condition(mapping, "filter", 1)
    return condition if isinstance(condition, Filter) else Filter(must=(condition,))


def _filter(mapping: Mapping[str, Any], where: str, depth: int) -> Filter:
    if depth > FILTER_DEPTH_MAX:
        raise InvalidFilter(f"a filter may be nested {FILTER_DEPTH_MAX} deep", field="filter", limit=FILTER_DEPTH_MAX)
    given = _given(mapping, where or "filter", _FILTER_KEYS)
    dot = where and where + "."
    few = given.pop("min_should", None)
    roles = {role: _conditions(value, f"{dot}{role}", depth) for role, value in given.items()}
    few = None if few is None else _min_should(few, f"{dot}min_should", depth)
    return _made(where or "filter", Filter, **roles, min_should=few)


def _min_should(value: Any, where: str, depth: int) -> MinShould:
    given = _given(value, where, frozenset(("conditions", "min_count")))
    if "min_count" not in given:
        _refuse(where, "min_count is missing")
    conditions = _conditions(given.get("conditions", ()), f"{where}.conditions", depth)
    return _made(where, MinShould, conditions, given["min_count"])


def _conditions(value: Any, where: str, depth: int) -> tuple[Condition, ...]:
    if isinstance(value, Mapping | Condition):
        return (_condition(value, where, depth),)
    if not isinstance(value, list | tuple):
        _refuse(where, f"expected a condition or a list of conditions, found {type(value).__name__}")
    if len(value) > FILTER_NODES_MAX:
        raise InvalidFilter(
            f"filter, at {where}: at most {FILTER_NODES_MAX} conditions, not {len(value)}",
            field=where,
            limit=FILTER_NODES_MAX,
        )
    return tuple(_condition(c, f"{where}[{i}]", depth) for i, c in enumerate(value))


def _condition(value: Any, where: str, depth: int) -> Condition:
    if isinstance(value, Condition):
        return value
    if not isinstance(value, Mapping):
        _refuse(where, f"expected a condition, found {type(value).__name__}")
    if _FILTER_KEYS & value.keys():
        return _filter(value, where, depth + 1)
    if "key" in value:
        return _field(value, where)
    given = _given(value, where, frozenset(("is_empty", "is_null", "has_id")))
    if len(given) != 1:
        _refuse(where, "a condition has a key with match or range, or one of is_empty, is_null, has_id, must, ...")
    ((name, what),) = given.items()
    if name == "has_id":
        return _made(f"{where}.has_id", HasId, what)
    key = _given(what, f"{where}.{name}", frozenset(("key",))).get("key")
    return _made(f"{where}.{name}", IsEmpty if name == "is_empty" else IsNull, key)


def _field(value: Mapping[str, Any], where: str) -> Condition:
    """A condition on a key: {"key": .., "match" | "range" | "geo_..": ..}, or is_empty, is_null with true or false."""
    given = _given(value, where, _FIELD_KEYS | {"key"})
    key = given.pop("key", None)
    if len(given) != 1:
        _refuse(where, f"expected one of {', '.join(sorted(_FIELD_KEYS))} beside the key")
    ((name, what),) = given.items()
    if name == "match":
        return _match(key, what, f"{where}.match")
    if name == "range":
        return _made(f"{where}.range", Range, key, **_given(what, f"{where}.range", _RANGE_KEYS))
    if name in _GEO_KEYS:
        return _geo(key, name, what, f"{where}.{name}")
    if not isinstance(what, bool):
        _refuse(f"{where}.{name}", "expected true or false")
    condition = _made(where, IsEmpty if name == "is_empty" else IsNull, key)
    return condition if what else Filter(must_not=(condition,))


def _geo(key: Any, name: str, what: Any, where: str) -> Condition:
    kind, known = _GEO_KEYS[name]
    given = _given(what, where, known)
    missing = sorted(known - given.keys() - {"interiors"})
    if missing:
        _refuse(where, f"{missing[0]} is missing")
    return _made(where, kind, key, **given)


def _match(key: Any, what: Any, where: str) -> Condition:
    given = _given(what, where, _MATCH_KEYS)
    if len(given) != 1:
        _refuse(where, "expected one of value, any, except; a null is asked for with is_null")
    ((name, value),) = given.items()
    kinds: dict[str, Callable[..., Condition]] = {"value": Match, "any": MatchAny, "except": MatchExcept}
    return _made(f"{where}.{name}", kinds[name], key, value)
