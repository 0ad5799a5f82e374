# mypy: disable-error-code="arg-type, assignment, dict-item, type-arg"
"""Constructors also take lists, text and numpy scalars, and wrong types are the point here."""

import pytest

from vicinal.filter.model import Filter, HasId, IsNull, Match, MatchAny, MinShould, Range
from vicinal.filter.normal import EVERYTHING, NOTHING, Leaf, canonical, normal_form, normalise
from vicinal.filter.parse import parse_filter


def _few(count):
    """At least so many of four conditions."""
    conditions = [{"key": key, "match": {"value": 1}} for key in "abcd"]
    return {"min_should": {"conditions": conditions, "min_count": count}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 1 and b = 2", "b = 2 and a = 1"),
        ("a = 1 and (b = 2 and c = 3)", "(a = 1 and b = 2) and c = 3"),
        ("a = 1", "not not (a = 1.0)"),
        ("a = 1 or a = 2", "a in (2, 1, 2)"),
        ("not (a = 1 or b = 2)", "a != 1 and b != 2"),
        ("not (a = 1 and b = 2)", "a != 1 or b != 2"),
        ("a not in (1, 2)", "a != 2 and a != 1"),
        ("a between 5 and 5", "a = 5"),
        ("a = 1 and a = 1", "a = 1"),
        ('`"a"` is null', "a is null"),
        ("d >= '2020-01-01'", "d >= '2020-01-01T01:00:00+01:00'"),
        ("id in (1, 2)", "id in (2, 1, 1)"),
        ("a in () and b = 1", "c in ()"),
    ],
)
def test_equivalent_filters_share_a_key(one, other):
    assert canonical(parse_filter(one)) == canonical(parse_filter(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 1", "a = true"),
        ("a = 1", "a = '1'"),
        ("a = 1", "b = 1"),
        ("a = 1", "a != 1"),
        ("a = 1 and b = 2", "a = 1 or b = 2"),
        ("a > 1", "a >= 1"),
        ("a > 1", "a < 1"),
        ("a in (1, 2)", "a in (1, 3)"),
        ("id = 7", "id = '7'"),
        ("tags = 1", "`tags[]` = 1"),
        ("a > 1577836800000000", "a > '2020-01-01'"),
        (_few(2), _few(3)),
        (_few(1), _few(4)),
        (_few(2), {"must_not": _few(2)}),
    ],
)
def test_different_filters_differ(one, other):
    assert canonical(parse_filter(one)) != canonical(parse_filter(other))


def test_min_should_becomes_the_simplest_kind():
    a, b, c = IsNull("a"), IsNull("b"), IsNull("c")

    def few(count, *clauses):
        return canonical(Filter(min_should=MinShould(clauses, count)))

    assert few(0, a, b) == EVERYTHING.key
    assert few(3, a, b) == NOTHING.key
    assert few(1, a, b) == canonical(Filter(should=(b, a)))
    assert few(2, a, b) == canonical(Filter(must=(b, a)))
    assert few(2, a, b, c) == few(2, c, b, a)
    assert few(2, a, a, b) != few(2, a, b)  # a condition written twice counts twice
    assert canonical(Filter(must_not=Filter(min_should=MinShould((a, b, c), 2)))) == canonical(
        Filter(min_should=MinShould([Filter(must_not=x) for x in (a, b, c)], 2))
    )
    four = (a, b, c, IsNull("d"))
    assert canonical(Filter(must_not=Filter(min_should=MinShould(four, 3)))) == canonical(
        Filter(min_should=MinShould([Filter(must_not=x) for x in four], 2))
    )


def test_tighter_bound_stays():
    def only(**bounds):
        node = normal_form(Range("a", **bounds))
        assert isinstance(node, Leaf)
        return node.condition

    assert only(gt=3, gte=3) == Range("a", gt=3)
    assert only(gt=3, gte=4) == Range("a", gte=4)
    assert only(lt=3, lte=3) == Range("a", lt=3)
    assert only(lt=3, lte=2) == Range("a", lte=2)
    assert only(gte=5, lte=5.0) == Match("a", 5)
    assert only(gte=5, gt=5, lte=5) == Range("a", gt=5, lte=5)
    assert only(gte="2020-01-01", lte="2020-01-01") == Range("a", gte="2020-01-01", lte="2020-01-01")


def test_normal_form_is_worked_out_once_and_knows_of_ids():
    tree = Filter(must=(Match("a", 1), Filter(should=(HasId((1,)), IsNull("b")))))
    assert normalise(tree) is normalise(tree)
    assert normalise(tree).has_id
    assert not normalise(Filter(must=Match("a", 1))).has_id


def test_merging_keeps_within_the_limit_of_values():
    many = MatchAny("a", list(range(9_000)))
    tree = Filter(should=[many, *(Match("a", 10_000 + i) for i in range(200))])
    node = normalise(tree)
    assert isinstance(node, Leaf)
    assert isinstance(node.condition, MatchAny)
    assert len(node.condition.values) == 9_200
