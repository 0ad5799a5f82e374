"""What filters mean, one payload at a time in plain Python, and strategies that make payloads and trees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tests.support.places_oracle import area_text, areas, lies_within, places

from vicinal.filter.geo import GeoCondition
from vicinal.filter.model import (
    Condition,
    Filter,
    HasId,
    IsEmpty,
    IsNull,
    KeyCondition,
    Match,
    MatchAny,
    MatchExcept,
    MinShould,
    Range,
)
from vicinal.types import Bits

__all__ = [
    "ALL_KEYS",
    "bits_to_list",
    "conditions",
    "facet_of",
    "holds",
    "payloads",
    "to_text",
    "trees",
]

# --- meaning --------------------------------------------------------------------------------------


def _steps(key: str) -> list[str]:
    """`a.b[]` as ["a", "b", "[]"]; quoted keys hold no quotes."""
    steps, rest = [], key
    while rest:
        if rest.startswith("[]"):
            steps.append("[]")
            rest = rest[2:]
        elif rest.startswith('"'):
            name, rest = rest[1:].split('"', 1)
            steps.append("k" + name)
        elif rest.startswith("."):
            rest = rest[1:]
        else:
            name = ""
            while rest and rest[0] not in ".[":
                name, rest = name + rest[0], rest[1:]
            steps.append("k" + name)
    return steps


def _at(value: Any, steps: list[str]) -> Iterator[Any]:
    if not steps:
        yield value
    elif steps[0] == "[]":
        if isinstance(value, list):
            for element in value:
                yield from _at(element, steps[1:])
    elif isinstance(value, dict) and steps[0][1:] in value:
        yield from _at(value[steps[0][1:]], steps[1:])


def _elements(values: list[Any]) -> list[Any]:
    """Each array replaced by its elements, one level deep."""
    return [e for v in values for e in (v if isinstance(v, list) else [v])]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(stored: Any, asked: Any) -> bool:
    if _number(stored) and _number(asked):
        return bool(stored == asked)
    return type(stored) is type(asked) and bool(stored == asked)


def _instant(value: Any) -> float | datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str) or len(value) < 10 or value[4] != "-" or value[7] != "-":
        return None
    try:
        return _instant(datetime.fromisoformat(value))
    except ValueError:
        return None


def _within(value: Any, asked: Range) -> bool:
    if asked.over_time:
        value = _instant(value)
        if value is None:
            return False
    elif not _number(value):
        return False
    for name, bound in asked.bounds:
        limit: Any = _instant(bound) if isinstance(bound, datetime) else bound
        if not {"gt": value > limit, "gte": value >= limit, "lt": value < limit, "lte": value <= limit}[name]:
            return False
    return True


def holds(condition: Condition, payload: dict[str, Any] | None, point: Any) -> bool:  # noqa: PLR0911
    """Whether a point with this payload and id satisfies the condition."""
    if isinstance(condition, Filter):
        return _filter_holds(condition, payload, point)
    if isinstance(condition, HasId):
        return any(type(point) is type(i) and point == i for i in condition.ids)
    assert isinstance(condition, KeyCondition)
    found = list(_at(payload or {}, _steps(condition.key)))
    if isinstance(condition, IsEmpty):
        return all(v is None or v == [] for v in found)
    if isinstance(condition, IsNull):
        return any(v is None for v in found)
    values = _elements(found)
    if isinstance(condition, Match):
        return any(_same(v, condition.value) for v in values)
    if isinstance(condition, MatchAny):
        return any(_same(v, a) for v in values for a in condition.values)
    if isinstance(condition, MatchExcept):
        return any(v is not None and not any(_same(v, a) for a in condition.values) for v in values)
    if isinstance(condition, GeoCondition):
        return any(lies_within(v, condition) for v in values)
    assert isinstance(condition, Range)
    return any(_within(v, condition) for v in values)


def _filter_holds(tree: Filter, payload: dict[str, Any] | None, point: Any) -> bool:
    few = tree.min_should
    return (
        all(holds(c, payload, point) for c in tree.must)
        and not any(holds(c, payload, point) for c in tree.must_not)
        and (not tree.should or any(holds(c, payload, point) for c in tree.should))
        and (few is None or sum(holds(c, payload, point) for c in few.conditions) >= few.min_count)
    )


def facet_of(rows: list[dict[str, Any] | None], key: str) -> list[tuple[bool | int | str, int]]:
    """The values of a key with how many payloads have each, in the order of `Collection.facet`."""
    counts: dict[tuple[int, Any], int] = {}
    ranks = {bool: 0, int: 1, str: 2}
    for row in rows:
        found = list(_at(row or {}, _steps(key)))
        inside = [*found, *(e for v in found if isinstance(v, list) for e in v)]
        for entry in {(ranks[type(v)], v) for v in inside if type(v) in ranks}:
            counts[entry] = counts.get(entry, 0) + 1
    return [(value, n) for (_, value), n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def bits_to_list(bits: Bits, n: int) -> list[bool]:
    """One boolean for each of n slots; bits beyond must be clear."""
    flags = np.unpackbits(bits.view(np.uint8), bitorder="little").astype(bool)
    assert bits.dtype == np.uint64
    assert bits.size == (n + 63) // 64
    assert not flags[n:].any()
    return [bool(f) for f in flags[:n]]


# --- text -----------------------------------------------------------------------------------------


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    if isinstance(value, datetime):
        return f"'{value.isoformat()}'"
    return repr(value)


def to_text(condition: Condition) -> str | None:  # noqa: PLR0911
    """The condition as text, None if the language has no words for it."""
    if isinstance(condition, Filter):
        return _filter_text(condition)
    if isinstance(condition, HasId):
        return f"id in ({', '.join(map(_literal, condition.ids))})"
    assert isinstance(condition, KeyCondition)
    key = f"`{condition.key}`"
    if isinstance(condition, Match):
        return f"{key} = {_literal(condition.value)}"
    if isinstance(condition, MatchAny):
        return f"{key} in ({', '.join(map(_literal, condition.values))})"
    if isinstance(condition, IsEmpty):
        return f"{key} is empty"
    if isinstance(condition, IsNull):
        return f"{key} is null"
    if isinstance(condition, GeoCondition):
        return area_text(condition, key)
    if (
        isinstance(condition, Range)
        and condition.bounds
        and not any(b in (math.inf, -math.inf) for _, b in condition.bounds)
    ):
        if len(condition.bounds) == 1:
            sign = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
            return " and ".join(f"{key} {sign[n]} {_literal(b)}" for n, b in condition.bounds)
        if condition.gt is None and condition.lt is None:
            return f"{key} between {_literal(condition.gte)} and {_literal(condition.lte)}"
    return None


def _filter_text(tree: Filter) -> str | None:
    if tree.min_should is not None:
        return None
    must = [to_text(c) for c in tree.must]
    must_not = [to_text(c) for c in tree.must_not]
    should = [to_text(c) for c in tree.should]
    if None in [*must, *must_not, *should] or not tree.clauses:
        return None
    parts = [f"({c})" for c in must] + [f"not ({c})" for c in must_not]
    if should:
        parts.append("(" + " or ".join(f"({c})" for c in should) + ")")
    return " and ".join(parts)


# --- strategies -----------------------------------------------------------------------------------

_BIG = 1 << 63
INTEGERS = [0, 1, 2, 3, -1, 200, 40_000, -70_000, 1 << 40, 1 << 53, (1 << 53) + 1, _BIG - 1, _BIG, 2 * _BIG - 1, -_BIG]
FLOATS = [0.0, -0.0, 1.0, 1.5, -2.5, 2.0**53, 2.0**63, 2.0**64, -(2.0**63), 1e300, 5e-324, 0.1]
STRINGS = ["x", "y", "", "it's", "é" * 40, "long" * 20, "long" * 20 + "!", "1", "true", "null", "back\\slash"]
DATES = [
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "2020-01-01T01:00:00+02:00",
    "2021-06-30 12:30:00.250",
    "1969-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-12:00",
    "2020-13-01",
]
_SCALARS = st.one_of(
    st.sampled_from(INTEGERS),
    st.sampled_from(FLOATS),
    st.sampled_from(STRINGS),
    st.sampled_from(DATES),
    st.booleans(),
)
_STORED = st.one_of(_SCALARS, _SCALARS, st.none())
_VALUES: st.SearchStrategy[Any] = st.one_of(
    _STORED,
    _STORED,
    st.lists(_STORED, max_size=4),
    st.just({}),
    st.lists(st.lists(_STORED, max_size=2), max_size=2),
    places,
)
_INNER = st.fixed_dictionaries(
    {},
    optional={
        "d": _VALUES,
        "e": st.one_of(
            _VALUES, st.lists(st.one_of(_STORED, st.fixed_dictionaries({}, optional={"f": _VALUES})), max_size=3)
        ),
    },
)
_PAYLOAD = st.fixed_dictionaries(
    {},
    optional={
        "a": _VALUES,
        "b": _VALUES,
        "tags": _VALUES,
        "c": st.one_of(_INNER, _VALUES),
        "x.y": _VALUES,
        "": _STORED,
    },
)
payloads = st.one_of(_PAYLOAD, _PAYLOAD, _PAYLOAD, st.none())

ALL_KEYS = [
    "a",
    "b",
    "tags",
    "tags[]",
    "tags[][]",
    "c",
    "c.d",
    "c.d[]",
    "c.e",
    "c.e[]",
    "c.e[].f",
    "c.e[].f[]",
    '"x.y"',
    "x.y",
    '""',
    "none",
]
_KEYS = st.sampled_from(ALL_KEYS)
_NUMBERS = st.one_of(
    st.none(), st.sampled_from(INTEGERS), st.sampled_from(FLOATS), st.sampled_from([math.inf, -math.inf])
)
_TIMES = st.one_of(st.none(), st.sampled_from(DATES[:-1]))


def _ranges(bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[Range]:
    return st.builds(Range, _KEYS, gt=bounds, gte=bounds, lt=bounds, lte=bounds)


_LEAVES = st.one_of(
    st.builds(Match, _KEYS, _SCALARS),
    st.builds(MatchAny, _KEYS, st.lists(_SCALARS, max_size=5)),
    st.builds(MatchExcept, _KEYS, st.lists(_SCALARS, max_size=4)),
    _ranges(_NUMBERS),
    st.one_of(
        st.builds(Range, _KEYS, gte=_NUMBERS, lt=_NUMBERS),
        st.builds(Range, _KEYS, gte=_NUMBERS, lte=_NUMBERS),
        st.builds(Range, _KEYS, gt=_NUMBERS),
    ),
    st.one_of(_ranges(_TIMES), st.builds(Range, _KEYS, gte=_TIMES), st.builds(Range, _KEYS, lt=_TIMES)),
    st.builds(IsEmpty, _KEYS),
    st.builds(IsNull, _KEYS),
    areas(_KEYS),
    st.builds(HasId, st.lists(st.one_of(st.integers(0, 70), st.sampled_from(["p1", "p3", "7"])), max_size=4)),
)


def _filters(children: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    few = st.lists(children, max_size=3)
    return st.builds(
        Filter,
        must=few,
        should=few,
        must_not=st.lists(children, max_size=2),
        min_should=st.one_of(
            st.none(), st.none(), st.builds(MinShould, st.lists(children, max_size=4), st.integers(0, 4))
        ),
    )


conditions: st.SearchStrategy[Condition] = st.recursive(_LEAVES, _filters, max_leaves=8)
trees: st.SearchStrategy[Filter] = _filters(conditions).map(lambda c: c if isinstance(c, Filter) else Filter(must=(c,)))
