# mypy: disable-error-code="arg-type, assignment, dict-item, type-arg"
"""Constructors also take lists, text and numpy scalars, and wrong types are the point here."""

import math
from collections import UserDict
from datetime import date
from enum import Enum
from uuid import UUID

import numpy as np
import pytest

from vicinal.errors import InvalidFilter
from vicinal.filter import parse as parse_module
from vicinal.filter.model import Filter, HasId, IsEmpty, IsNull, Match, MatchAny, MatchExcept, MinShould, Range
from vicinal.filter.parse import parse_filter
from vicinal.limits import FILTER_DEPTH_MAX


def test_the_documented_shapes():
    tree = parse_filter(
        {
            "must": [
                {"key": "year", "range": {"gte": 2020, "lt": None}},
                {"key": "topic", "match": {"any": ["cs.LG", "cs.IR"]}},
                {"key": "topic", "match": {"except": ["x"]}, "range": None},
                {"has_id": [1, "a"]},
                {"should": [{"key": "a", "match": {"value": True}}], "must": None},
            ],
            "must_not": {"is_empty": {"key": "title"}},
            "should": [{"is_null": {"key": "b"}}, {"key": "c", "is_empty": True}, {"key": "c", "is_null": False}],
            "min_should": {"conditions": [{"is_null": {"key": "d"}}], "min_count": 1},
        }
    )
    assert tree == Filter(
        must=(
            Range("year", gte=2020),
            MatchAny("topic", ("cs.LG", "cs.IR")),
            MatchExcept("topic", ("x",)),
            HasId((1, "a")),
            Filter(should=(Match("a", True),)),
        ),
        must_not=(IsEmpty("title"),),
        should=(IsNull("b"), IsEmpty("c"), Filter(must_not=(IsNull("c"),))),
        min_should=MinShould((IsNull("d"),), 1),
    )


@pytest.mark.parametrize("nothing", [None, {}, {"must": []}, {"must": None}, Filter(), UserDict()])
def test_demanding_nothing_is_no_filter(nothing):
    assert parse_filter(nothing) is None


def test_a_bare_condition_and_a_tree_are_taken():
    tree = Filter(must=(Match("a", 1),))
    assert parse_filter({"key": "a", "match": {"value": 1}}) == tree
    assert parse_filter(UserDict({"must": UserDict({"key": "a", "match": {"value": 1}})})) == tree
    assert parse_filter({"must": [Match("a", 1)]}) == tree
    assert parse_filter(tree) is tree
    assert parse_filter("a = 1") is parse_filter("a = 1")  # text is read once


def test_a_mapping_is_remembered_by_what_it_says():
    def year(bound):
        return {"must": [{"key": "year", "range": {"gte": bound}}]}

    assert parse_filter(year(2020)) is parse_filter(year(2020))
    assert parse_filter(year(2021)) != parse_filter(year(2020))
    assert parse_filter(year(None)) == Filter(must=(Range("year"),))
    for bound in (math.nan, True, [2020]):
        with pytest.raises(InvalidFilter):
            parse_filter(year(bound))
    assert parse_filter(year(math.inf)) == Filter(must=(Range("year", gte=math.inf),))
    assert parse_filter(year(np.int64(2020))) == parse_filter(year(2020))
    parse_filter({"key": "a", "match": {"value": "2020-01-01"}})
    with pytest.raises(InvalidFilter):  # a datetime is a bound, not a value, though its JSON is a text's
        parse_filter({"key": "a", "match": {"value": date(2020, 1, 1)}})
    with pytest.raises(InvalidFilter):
        parse_filter({"must": {"key": "a", "value": 1}})
    assert parse_filter({"must": Match("a", 1)}) == Filter(must=(Match("a", 1),))


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(parse_module, "_REMEMBERED_MAX", 5)
    for i in range(50):
        parse_filter({"key": "bounded", "match": {"value": i}})
    assert len(parse_module._remembered) <= 5
    long = {"key": "a", "match": {"any": list(range(5_000))}}
    assert parse_filter(long) is not parse_filter(long)


def test_uuids_and_enum_members_are_their_values():
    colour = Enum("colour", {"RED": "red"})
    uuid = UUID("00000000-0000-0000-0000-00000000000a")
    tree = Filter(must=(Match("a", "red"), HasId((str(uuid),))))
    for _ in range(2):
        assert parse_filter({"must": [{"key": "a", "match": {"value": colour.RED}}, {"has_id": [uuid]}]}) == tree


@pytest.mark.parametrize(
    ("bad", "where", "says"),
    [
        ({"most": []}, "filter", "unknown member 'most'"),
        ({"must": [], "key": "a"}, "filter", "unknown member 'key'"),
        ({"must": 3}, "must", "expected a condition or a list"),
        ({"must": "a = 1"}, "must", "expected a condition or a list"),
        ({"must": [[]]}, "must[0]", "expected a condition, found list"),
        ({"must": [{}]}, "must[0]", "a condition has a key"),
        ({"must": [{"key": "a"}]}, "must[0]", "expected one of"),
        ({"must": [{"key": "a", "match": {"value": 1}, "range": {"gt": 1}}]}, "must[0]", "expected one of"),
        ({"must": [{"match": {"value": 1}}]}, "must[0]", "unknown member 'match'"),
        ({"must": {"key": None, "match": {"value": 1}}}, "must.match.value", "key must be a string"),
        ({"must": {"key": "a", "match": {"value": None}}}, "must.match", "is_null"),
        ({"must": {"key": "a", "match": {"any": 3}}}, "must.match.any", "must be a list"),
        ({"must": {"key": "a", "match": 3}}, "must.match", "expected an object"),
        ({"must": {"key": "a", "match": {"text": "x"}}}, "must.match", "text is not supported"),
        ({"must": {"key": "a", "values_count": {}}}, "must", "values_count is not supported"),
        ({"must": {"nested": {}}}, "must", "nested is not supported"),
        ({"must": {"key": "a", "range": {"ge": 1}}}, "must.range", "unknown member 'ge'"),
        ({"must": {"key": "a", "range": {"gte": float("nan")}}}, "must.range", "NaN"),
        ({"must": {"key": "a", "range": [1, 2]}}, "must.range", "expected an object"),
        ({"must": {"key": "a", "is_null": 1}}, "must.is_null", "true or false"),
        ({"must": {"is_null": "a"}}, "must.is_null", "expected an object"),
        ({"must": {"is_null": {}}}, "must.is_null", "key must be a string"),
        ({"must": {"has_id": 5}}, "must.has_id", "must be a list"),
        ({"must": {"has_id": [1], "is_null": {"key": "a"}}}, "must", "one of is_empty"),
        ({"min_should": {"conditions": []}}, "min_should", "min_count is missing"),
        ({"min_should": {"conditions": [], "min_count": "2"}}, "min_should", "min_count"),
        ({"should": [{"must": [{"key": "a", "range": {"lt": "x"}}]}]}, "should[0].must[0].range", "ISO 8601"),
        ({"must": [{"is_null": {"key": "a"}}] * 300}, "must", "at most 256"),
        ({5: 1}, "filter", "unknown member '5'"),
    ],
)
def test_errors_name_the_clause(bad, where, says):
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(bad)
    assert caught.value.field == where
    assert says in caught.value.message


@pytest.mark.parametrize("bad", [3, True, [], b"a = 1", object(), ("a",)])
def test_other_types_are_refused(bad):
    with pytest.raises(InvalidFilter, match="a mapping, a text or a Filter"):
        parse_filter(bad)


@pytest.mark.parametrize("depth", [FILTER_DEPTH_MAX + 1, 1_000, 1_000_000])
def test_depth_never_exhausts_the_stack(depth):
    bad = {"is_null": {"key": "a"}}
    for _ in range(depth):
        bad = {"must": [bad]}
    with pytest.raises(InvalidFilter, match="nested"):
        parse_filter(bad)
    while "must" in bad:  # taken apart step by step, as deleting it at once is what recurses
        (bad,) = bad["must"]


@pytest.mark.parametrize("place", ["value", "any", "bound", "key", "ids", "clause"])
def test_a_deep_value_in_any_place_is_refused(place):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    bad = {
        "value": {"key": "a", "match": {"value": deep}},
        "any": {"key": "a", "match": {"any": [deep]}},
        "bound": {"key": "a", "range": {"gt": deep}},
        "key": {"key": deep, "match": {"value": 1}},
        "ids": {"has_id": deep},
        "clause": {"must": deep},
    }[place]
    with pytest.raises(InvalidFilter):
        parse_filter({"must": bad} if place != "clause" else bad)


def test_the_deepest_allowed_is_taken():
    tree = {"is_null": {"key": "a"}}
    for _ in range(FILTER_DEPTH_MAX):
        tree = {"must": [tree]}
    assert parse_filter(tree) is not None
