"""A condition on a key, put to the typed columns: which arrays are asked which question.

A condition holds if any probe finds a value. For the key `a` the values at `a` itself and the elements of an
array at `a` count, which are the paths (a,) and (a, None).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from vicinal.filter.areas import area_of
from vicinal.filter.columns import Column, Columns, Kind, Tag, digests_of
from vicinal.filter.geo import GeoCondition
from vicinal.filter.instants import instant_of
from vicinal.filter.literals import INTEGER_MAX, INTEGER_MIN, Value
from vicinal.filter.membership import Between, NoneOf, OneOf, Question
from vicinal.filter.model import Condition, IsEmpty, IsNull, KeyCondition, Match, MatchAny, MatchExcept, Range
from vicinal.filter.path import Path
from vicinal.filter.values import Values

__all__ = ["Probe", "is_complement", "probes"]

_INT64_MAX: Final = (1 << 63) - 1
_INTEGERS: Final = {Kind.INT: (INTEGER_MIN, _INT64_MAX), Kind.BIG: (_INT64_MAX + 1, INTEGER_MAX)}
_WIDEST: Final = {
    Kind.TAG: np.uint8,
    Kind.CODE: np.uint16,
    Kind.HASH: np.int64,
    Kind.INT: np.int64,
    Kind.BIG: np.uint64,
    Kind.REAL: np.float64,
}
_VALUED: Final = Between(Tag.ARRAY, Tag.TRUE)  # the tags of what is neither null nor []
_ALL_CODES: Final = Between(0, 0xFFFF)
_ALL_SIGNED: Final = Between(INTEGER_MIN, _INT64_MAX)
_ALL_REALS: Final = Between(-math.inf, math.inf)
Asked = tuple[tuple[Kind, Question], ...]
_NOTHING: Final[Asked] = ((Kind.TAG, Between(Tag.NULL, Tag.NULL)),)
_ANYTHING: Final[Asked] = (
    (Kind.TAG, _VALUED),
    (Kind.CODE, _ALL_CODES),
    (Kind.HASH, _ALL_SIGNED),
    (Kind.INT, _ALL_SIGNED),
    (Kind.BIG, Between(0, INTEGER_MAX)),
    (Kind.REAL, _ALL_REALS),
)


class Probe(NamedTuple):
    """One question to one array of values."""

    values: Values
    question: Question


def is_complement(condition: Condition) -> bool:
    """True if the probes find the slots that do *not* satisfy the condition: what is not empty."""
    return isinstance(condition, IsEmpty)


def probes(condition: KeyCondition, columns: Columns) -> list[Probe]:
    """All probes of the condition; none if no payload has the key."""
    plan = condition.asked
    if plan is None:
        plan = _Plan.of(condition)
        object.__setattr__(condition, "asked", plan)
    assert isinstance(plan, _Plan)
    found: list[Probe] = []
    for path in plan.paths:
        column = columns.column(path)
        if column is not None:
            questions = plan.questions or _questions(condition, column, element=path is not plan.paths[0])
            for kind, question in questions:
                values = column.kinds.get(kind)
                if values is not None:
                    found.append(Probe(values, question))
    return found


class _Plan(NamedTuple):
    """What is the same whatever the columns: where to look and, if strings are not asked for, what to ask."""

    paths: tuple[Path, ...]
    questions: Asked

    @classmethod
    def of(cls, condition: KeyCondition) -> _Plan:
        path = condition.path
        direct = isinstance(condition, IsEmpty | IsNull)  # these are about the value itself, not its elements
        return cls((path,) if direct else (path, (*path, None)), _fixed(condition))


def _fixed(condition: KeyCondition) -> Asked:
    """The questions that do not depend on a column, none if they do."""
    match condition:
        case Range():
            return tuple(_within(condition))
        case GeoCondition():
            return ((Kind.PLACE, area_of(condition)),)
        case IsNull() | IsEmpty():
            return _NOTHING if isinstance(condition, IsNull) else _ANYTHING
        case Match() | MatchAny():
            values = (condition.value,) if isinstance(condition, Match) else condition.values
            return () if any(isinstance(value, str) for value in values) else tuple(_one_of(values, None))
    return ()


def _questions(condition: KeyCondition, column: Column, *, element: bool) -> Iterable[tuple[Kind, Question]]:
    match condition:
        case Match(value=str() as text):
            return _text(text, column)
        case Match():  # a number that nothing can be equal to
            return ()
        case MatchAny():
            return _one_of(condition.values, column)
        case MatchExcept():
            return _none_of(condition.values, column, element=element)
    raise AssertionError(f"a condition of unknown kind: {type(condition).__name__}")


def _text(text: str, column: Column) -> Asked:
    """A string, as columns hold it."""
    code = column.codes.get(text)
    if code is not None:
        return ((Kind.CODE, Between(code, code)),)
    if Kind.HASH not in column.kinds:
        return ()
    digest = int(digests_of((text,), column.salt)[0])
    return ((Kind.HASH, Between(digest, digest)),)


def _stored(value: Value, column: Column | None) -> Iterator[tuple[Kind, int | float]]:
    """How columns would hold the value: a number may be there as an integer and as a float."""
    if isinstance(value, bool):
        yield Kind.TAG, Tag.TRUE if value else Tag.FALSE
    elif isinstance(value, str):
        if column is not None:
            for kind, question in _text(value, column):
                assert isinstance(question, Between)
                yield kind, question.low
    else:
        if not math.isinf(value) and value == int(value):
            for kind, (low, high) in _INTEGERS.items():
                if low <= value <= high:
                    yield kind, int(value)
        if float(value) == value:  # Python compares an integer with a float exactly
            yield Kind.REAL, float(value)


def _listed(values: Iterable[Value], column: Column | None) -> dict[Kind, list[int | float]]:
    by_kind: dict[Kind, list[int | float]] = {}
    for value in values:
        for kind, stored in _stored(value, column):
            by_kind.setdefault(kind, []).append(stored)
    return by_kind


def _array(kind: Kind, values: list[Any]) -> Any:
    return np.unique(np.array(values, _WIDEST[kind]))


def _one_of(values: Iterable[Value], column: Column | None) -> Iterator[tuple[Kind, Question]]:
    for kind, stored in _listed(values, column).items():
        if len(stored) == 1:
            yield kind, Between(stored[0], stored[0])
        else:
            yield kind, OneOf(_array(kind, stored))


def _none_of(values: Iterable[Value], column: Column, *, element: bool) -> Iterator[tuple[Kind, Question]]:
    listed = _listed(values, column)
    # an array is not a value of its key, its elements are; an array among these is one, whatever it holds
    tags = {Tag.OBJECT, Tag.FALSE, Tag.TRUE} | ({Tag.EMPTY, Tag.ARRAY} if element else set())
    tags.difference_update(int(tag) for tag in listed.pop(Kind.TAG, []))
    yield Kind.TAG, OneOf(_array(Kind.TAG, sorted(tags)))
    for kind, anything in _ANYTHING:
        if kind is not Kind.TAG:
            yield kind, NoneOf(_array(kind, listed[kind])) if kind in listed else anything


def _within(condition: Range) -> Iterator[tuple[Kind, Question]]:
    bounds = {n: b if isinstance(b, int | float) else instant_of(b) for n, b in condition.bounds}
    whole = _whole(bounds)
    if condition.over_time:
        yield Kind.INSTANT, whole
        return
    yield Kind.INT, whole
    yield Kind.BIG, whole
    lows = [_real(b, strict=n == "gt", sign=1) for n, b in bounds.items() if n in ("gt", "gte")]
    highs = [_real(b, strict=n == "lt", sign=-1) for n, b in bounds.items() if n in ("lt", "lte")]
    yield Kind.REAL, Between(max(lows, default=-math.inf), min(highs, default=math.inf))


def _whole(bounds: dict[str, int | float]) -> Between:
    """The integers within the bounds; columns clip what is beyond their dtype."""
    low, high = INTEGER_MIN, INTEGER_MAX
    for name, bound in bounds.items():
        if math.isinf(bound):
            bound = INTEGER_MAX + 1 if bound > 0 else INTEGER_MIN - 1  # noqa: PLW2901 - beyond all integers
        if name in ("gt", "gte"):
            low = max(low, math.floor(bound) + 1 if name == "gt" else math.ceil(bound))
        else:
            high = min(high, math.ceil(bound) - 1 if name == "lt" else math.floor(bound))
    return Between(low, high)


def _real(bound: float, *, strict: bool, sign: int) -> float:
    """The outermost float within a lower (sign 1) or upper (-1) bound, which may be an integer no float equals."""
    real = float(bound)
    # Python compares an integer with a float exactly; no payload holds an infinity, so those may stand
    while (real < bound if sign > 0 else real > bound) or (strict and real == bound and not math.isinf(real)):
        real = math.nextafter(real, sign * math.inf)
    return real
