# mypy: disable-error-code="arg-type, assignment, dict-item, type-arg"
"""Constructors also take lists, text and numpy scalars, and wrong types are the point here."""

from datetime import UTC, datetime

from vicinal.filter.model import Filter, HasId, IsEmpty, IsNull, Match, MatchAny, MatchExcept, MinShould, Range
from vicinal.filter.parse import parse_filter
from vicinal.filter.render import to_mapping


def test_every_condition_is_read_back():
    tree = Filter(
        must=(Match("a", 1), MatchAny("b", ("x", 2)), MatchExcept("c", (True,)), HasId((1, "a"))),
        should=(Range("d", gt=1, lte=2.5), Range("e", gte=datetime(2020, 1, 1, tzinfo=UTC)), Filter()),
        must_not=(IsEmpty("f"), IsNull("g")),
        min_should=MinShould((IsNull("h"),), 1),
    )
    assert parse_filter(to_mapping(tree)) == tree


def test_the_mapping_is_qdrants():
    assert to_mapping(Filter(must=Match("a", 1), must_not=IsNull("b"))) == {
        "must": [{"key": "a", "match": {"value": 1}}],
        "must_not": [{"is_null": {"key": "b"}}],
    }
