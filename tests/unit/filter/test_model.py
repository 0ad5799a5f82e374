# mypy: disable-error-code="arg-type, assignment, dict-item, type-arg"
"""Constructors also take lists, text and numpy scalars, and wrong types are the point here."""

import math
from datetime import UTC, date, datetime

import numpy as np
import pytest

from vicinal.errors import InvalidFilter
from vicinal.filter.model import Filter, HasId, IsEmpty, IsNull, Match, MatchAny, MatchExcept, MinShould, Range
from vicinal.limits import FILTER_DEPTH_MAX, FILTER_NODES_MAX, FILTER_VALUES_MAX


def test_values_of_different_kinds_differ():
    assert Match("a", 1) != Match("a", True)
    assert Match("a", 1) != Match("a", "1")
    assert Match("a", 1) == Match("a", 1.0)
    assert hash(Match("a", 1)) == hash(Match("a", 1.0))
    assert Match("a", (1 << 53) + 1) != Match("a", 2.0**53)
    assert Match("a", 1) != MatchAny("a", (1,))
    assert MatchAny("a", (1,)) != MatchExcept("a", (1,))
    assert HasId((7,)) != HasId(("7",))
    assert Match("a", 1) != "a"


def test_trees_are_equal_by_their_parts():
    tree = Filter(must=(Match("a", 1),), min_should=MinShould((IsNull("b"),), 1))
    assert tree == Filter(must=[Match("a", 1)], min_should=MinShould([IsNull("b")], 1))
    assert len({tree, Filter(must=Match("a", 1), min_should=MinShould(IsNull("b"), 1)), Filter()}) == 2


def test_numpy_scalars_and_sets_are_taken():
    assert Match("a", np.int32(3)) == Match("a", 3)
    assert MatchAny("a", np.array([1, 2])) == MatchAny("a", (1, 2))
    assert Range("a", gte=np.float32(1.5)) == Range("a", gte=1.5)
    assert HasId({np.uint64(5)}) == HasId((5,))


def test_bounds_are_numbers_or_datetimes():
    day = datetime(2020, 1, 1, tzinfo=UTC)
    assert Range("a", gte="2020-01-01T02:00:00+02:00") == Range("a", gte=day) == Range("a", gte=date(2020, 1, 1))
    assert Range("a", gte=day).over_time
    assert Range("a", lt=math.inf).bounds == (("lt", math.inf),)
    assert Range("a").bounds == ()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Match("a", None), "is_null"),
        (lambda: Match("a", math.nan), "NaN"),
        (lambda: Match("a", 1 << 64), "64 bits"),
        (lambda: Match("a", -(1 << 63) - 1), "64 bits"),
        (lambda: Match("a", 10**5000), "64 bits"),
        (lambda: Match("a", []), "list"),
        (lambda: Match(3, 1), "key must be a string"),
        (lambda: Match("a..b", 1), "cannot be read"),
        (lambda: MatchAny("a", "x"), "must be a list"),
        (lambda: MatchAny("a", [1, {}]), r"values\[1\]"),
        (lambda: MatchAny("a", range(FILTER_VALUES_MAX)), "must be a list"),
        (lambda: MatchAny("a", [0] * (FILTER_VALUES_MAX + 1)), "at most 10000"),
        (lambda: Range("a", gt="yesterday"), "ISO 8601"),
        (lambda: Range("a", gt=True), "true/false"),
        (lambda: Range("a", gte=math.nan), "NaN"),
        (lambda: Range("a", gte=[]), "list"),
        (lambda: Range("a", gte=1, lt="2020-01-01"), "all numbers or all datetimes"),
        (lambda: IsEmpty(""), "1 to 1024"),
        (lambda: HasId([-1]), r"has_id\[0\]"),
        (lambda: HasId([True]), "must be an id"),
        (lambda: HasId([""]), "1 to 512 bytes"),
        (lambda: HasId(["é" * 257]), "1 to 512 bytes"),
        (lambda: HasId(7), "must be a list"),
        (lambda: Filter(must=[1]), "hold conditions"),
        (lambda: Filter(must="a = 1"), "list of conditions"),
        (lambda: Filter(min_should=[]), "MinShould"),
        (lambda: MinShould([], -1), "min_count"),
        (lambda: MinShould([], True), "min_count"),
    ],
)
def test_wrong_values_are_refused(build, says):
    with pytest.raises(InvalidFilter, match=says):
        build()


def test_a_tree_beyond_the_limits_cannot_be_built():
    tree = Filter(must=Match("a", 1))
    for _ in range(FILTER_DEPTH_MAX - 1):
        tree = Filter(must=tree)
    with pytest.raises(InvalidFilter, match="nested levels"):
        Filter(must_not=tree)
    Filter(must=[IsNull("a")] * (FILTER_NODES_MAX - 1))
    with pytest.raises(InvalidFilter, match="conditions"):
        Filter(must=[IsNull("a")] * FILTER_NODES_MAX)
    half = MatchAny("a", list(range(FILTER_VALUES_MAX // 2 + 1)))
    with pytest.raises(InvalidFilter, match="listed values"):
        Filter(must=[half, half])
