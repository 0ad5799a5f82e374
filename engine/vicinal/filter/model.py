"""The filter tree: what a query demands of a point's payload and id.

The operators and their meaning are Qdrant's:

- a condition on a key holds if *any* value at the key satisfies it; an array stands for its elements (one
  level deep), so `Match("tags", "a")` finds `{"tags": ["a", "b"]}`;
- `MatchExcept`: some value at the key that is not null and not in the list; a missing key does not satisfy
  it (`must_not` a `MatchAny` is the complement instead);
- `IsEmpty`: missing, null or `[]`; `IsNull`: present and null;
- `Filter`: all of `must`, none of `must_not`, at least one of `should`, at least `min_count` of
  `min_should`. An empty list demands nothing.

Three things go beyond Qdrant or are decided here. Numbers compare by value and exactly: 1 equals 1.0, and
2**53 + 1 does not equal 2.0**53; true and false are not numbers. A list may mix types. Range bounds are
numbers or datetimes, and a datetime bound looks only at strings that are ISO 8601 datetimes.

Every object checks itself when it is built and raises InvalidFilter, and a `Filter` knows its depth and
size, so a tree beyond the limits cannot exist and no walk over one can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vicinal.errors import InvalidFilter
from vicinal.filter.instants import instant_of
from vicinal.filter.literals import (
    Bound,
    Value,
    checked_bound,
    checked_id,
    checked_list,
    checked_value,
    refuse,
    value_identity,
)
from vicinal.filter.path import Path, parse_key
from vicinal.limits import FILTER_DEPTH_MAX, FILTER_NODES_MAX, FILTER_VALUES_MAX
from vicinal.types import PointId

__all__ = [
    "Bound",
    "Condition",
    "Filter",
    "HasId",
    "IsEmpty",
    "IsNull",
    "KeyCondition",
    "Match",
    "MatchAny",
    "MatchExcept",
    "MinShould",
    "Range",
    "Value",
]


@dataclass(frozen=True, eq=False)
class Condition:
    """A node of the tree; equal to another if it has the same parts in the same order."""

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """What the node says, as a hashable tuple with values under their kinds."""
        raise NotImplementedError

    @property
    def size(self) -> tuple[int, int, int]:
        """Nested filters, nodes and listed values of the tree that begins here."""
        return (0, 1, 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Condition):
            return NotImplemented
        return self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@dataclass(frozen=True, eq=False)
class KeyCondition(Condition):
    """A condition on the values at a key (see `path`)."""

    key: str
    asked: object | None = field(init=False, repr=False, default=None)  # kept here by `probes`

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            refuse(f"key must be a string, not {type(self.key).__name__}", self.key, "key")
        parse_key(self.key)

    @property
    def path(self) -> Path:
        """The key's steps."""
        return parse_key(self.key)

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind and path."""
        return (type(self).__name__, self.path)


@dataclass(frozen=True, eq=False)
class Match(KeyCondition):
    """Some value at the key equals `value`."""

    value: Value

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "value", checked_value(self.value, "value"))

    @property
    def size(self) -> tuple[int, int, int]:
        """A leaf with one value."""
        return (0, 1, 1)

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind, path, value."""
        return (*super().identity, value_identity(self.value))


@dataclass(frozen=True, eq=False)
class _MatchList(KeyCondition):
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = checked_list(self.values, "values")
        object.__setattr__(self, "values", tuple(checked_value(v, f"values[{i}]") for i, v in enumerate(listed)))

    @property
    def size(self) -> tuple[int, int, int]:
        """A leaf with as many values as are listed."""
        return (0, 1, len(self.values))

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind, path, values."""
        return (*super().identity, *map(value_identity, self.values))


class MatchAny(_MatchList):
    """Some value at the key equals one of `values`; an empty list finds nothing."""


class MatchExcept(_MatchList):
    """Some value at the key is neither null nor one of `values`."""


@dataclass(frozen=True, eq=False)
class Range(KeyCondition):
    """Some value at the key lies within the bounds: numbers, or datetimes (also as ISO 8601 text)."""

    gt: Bound = None
    gte: Bound = None
    lt: Bound = None
    lte: Bound = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gt", "gte", "lt", "lte"):
            object.__setattr__(self, name, checked_bound(getattr(self, name), name))
        if len({isinstance(bound, datetime) for _, bound in self.bounds}) > 1:
            refuse("the bounds of a range must be all numbers or all datetimes", None, "range")

    @property
    def bounds(self) -> tuple[tuple[str, int | float | datetime], ...]:
        """The bounds that are set, as (name, bound)."""
        given = (("gt", self.gt), ("gte", self.gte), ("lt", self.lt), ("lte", self.lte))
        return tuple((name, bound) for name, bound in given if bound is not None)

    @property
    def over_time(self) -> bool:
        """True if the bounds are datetimes."""
        return any(isinstance(bound, datetime) for _, bound in self.bounds)

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind, path, bounds."""
        said = [
            (name, "d", instant_of(bound)) if isinstance(bound, datetime) else (name, *value_identity(bound))
            for name, bound in self.bounds
        ]
        return (*super().identity, *said)


class IsEmpty(KeyCondition):
    """The key is missing, null or `[]`."""


class IsNull(KeyCondition):
    """The key is present and null."""


@dataclass(frozen=True, eq=False)
class HasId(Condition):
    """The point has one of the ids."""

    ids: tuple[PointId, ...]

    def __post_init__(self) -> None:
        listed = checked_list(self.ids, "has_id")
        object.__setattr__(self, "ids", tuple(checked_id(v, f"has_id[{i}]") for i, v in enumerate(listed)))

    @property
    def size(self) -> tuple[int, int, int]:
        """A leaf with as many values as ids."""
        return (0, 1, len(self.ids))

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind and ids."""
        return ("HasId", *self.ids)


@dataclass(frozen=True, eq=False)
class MinShould:
    """At least `min_count` of `conditions`, a condition written twice counting twice."""

    conditions: tuple[Condition, ...]
    min_count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", _clauses(self.conditions, "min_should.conditions"))
        if isinstance(self.min_count, bool) or not isinstance(self.min_count, int) or self.min_count < 0:
            refuse("min_count must be an integer of 0 or more", self.min_count, "min_should.min_count")


def _clauses(clauses: Any, name: str) -> tuple[Condition, ...]:
    if isinstance(clauses, Condition):
        clauses = (clauses,)
    if not isinstance(clauses, list | tuple):
        refuse(f"{name} must be a condition or a list of conditions", clauses, name)
    for clause in clauses:
        if not isinstance(clause, Condition):
            refuse(f"{name} must hold conditions, not {type(clause).__name__}", clause, name)
    return tuple(clauses)


@dataclass(frozen=True, eq=False)
class Filter(Condition):
    """All of `must`, none of `must_not`, one of `should` (if any), enough of `min_should` (if given)."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()
    min_should: MinShould | None = None
    _size: tuple[int, int, int] = field(init=False, repr=False)
    normal: object | None = field(init=False, repr=False, default=None)  # kept here by `normal.normalise`

    def __post_init__(self) -> None:
        for name in ("must", "should", "must_not"):
            object.__setattr__(self, name, _clauses(getattr(self, name), name))
        if not isinstance(self.min_should, MinShould | None):
            refuse("min_should must be a MinShould", self.min_should, "min_should")
        sizes = [clause.size for clause in self.clauses]
        depth = 1 + max((s[0] for s in sizes), default=0)
        nodes = 1 + sum(s[1] for s in sizes)
        values = sum(s[2] for s in sizes)
        for what, got, limit in (
            ("nested levels", depth, FILTER_DEPTH_MAX),
            ("conditions", nodes, FILTER_NODES_MAX),
            ("listed values", values, FILTER_VALUES_MAX),
        ):
            if got > limit:
                raise InvalidFilter(f"a filter may have at most {limit} {what}, this has {got}", limit=limit)
        object.__setattr__(self, "_size", (depth, nodes, values))

    @property
    def clauses(self) -> tuple[Condition, ...]:
        """All direct conditions, in whatever role."""
        few = self.min_should.conditions if self.min_should else ()
        return (*self.must, *self.should, *self.must_not, *few)

    @property
    def size(self) -> tuple[int, int, int]:
        """Nested filters, nodes and listed values of the tree that begins here."""
        return self._size

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Kind and the identities of the clauses by role."""
        few = self.min_should
        return (
            "Filter",
            tuple(c.identity for c in self.must),
            tuple(c.identity for c in self.should),
            tuple(c.identity for c in self.must_not),
            None if few is None else (few.min_count, tuple(c.identity for c in few.conditions)),
        )
