# mypy: disable-error-code="arg-type, assignment, dict-item, type-arg"
"""Constructors also take lists, text and numpy scalars, and wrong types are the point here."""

import pytest

from vicinal.errors import InvalidFilter
from vicinal.filter.expression import parse_expression
from vicinal.filter.model import Filter, HasId, IsEmpty, IsNull, Match, MatchAny, Range
from vicinal.limits import FILTER_DEPTH_MAX, FILTER_TEXT_MAX


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a = 1", Match("a", 1)),
        ("a == 1.5", Match("a", 1.5)),
        ("a=-2e3", Match("a", -2000.0)),
        ("a = +.5", Match("a", 0.5)),
        ("a = 18446744073709551615", Match("a", (1 << 64) - 1)),
        ("a = TRUE", Match("a", True)),
        ("a = false", Match("a", False)),
        ("a = 'x'", Match("a", "x")),
        ('a = "it\'s"', Match("a", "it's")),
        ("a = 'it''s'", Match("a", "it's")),
        (r"a = 'it\'s \\ \x'", Match("a", r"it's \ x")),
        ("a = ''", Match("a", "")),
        ("a = ''''", Match("a", "'")),
        ("a = 'and or ('", Match("a", "and or (")),
        ("a contains 'x'", Match("a", "x")),
        ("a < 1", Range("a", lt=1)),
        ("a <= 1", Range("a", lte=1)),
        ("a > 1", Range("a", gt=1)),
        ("a >= '2020-01-01'", Range("a", gte="2020-01-01")),
        ("a between 1 and 2", Range("a", gte=1, lte=2)),
        ("a BETWEEN '2020-01-01' AND '2021-01-01'", Range("a", gte="2020-01-01", lte="2021-01-01")),
        ("a in (1, 'x', true)", MatchAny("a", (1, "x", True))),
        ("a in ['x']", MatchAny("a", ("x",))),
        ("a in (')')", MatchAny("a", (")",))),
        ("a in ()", MatchAny("a", ())),
        ("a is null", IsNull("a")),
        ("a is empty", IsEmpty("a")),
        ("country.name = 'x'", Match("country.name", "x")),
        ("tags[].name = 'x'", Match("tags[].name", "x")),
        ("update-date = 1", Match("update-date", 1)),
        ('a."b.c" = 1', Match('a."b.c"', 1)),
        ("`my key` = 1", Match("my key", 1)),
        ("`id` = 1", Match("id", 1)),
        ("`in` in (1)", MatchAny("in", (1,))),
        ("id = 7", HasId((7,))),
        ("ID in (7, 'a')", HasId((7, "a"))),
        ("((a = 1))", Match("a", 1)),
        ("not not a = 1", Match("a", 1)),
        ("  a\n=\t1 ", Match("a", 1)),
    ],
)
def test_comparisons(text, condition):
    assert parse_expression(text) == Filter(must=(condition,))


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("a != 1", Match("a", 1)),
        ("a <> 1", Match("a", 1)),
        ("not a = 1", Match("a", 1)),
        ("a not in (1)", MatchAny("a", (1,))),
        ("a not between 1 and 2", Range("a", gte=1, lte=2)),
        ("a not contains 1", Match("a", 1)),
        ("a is not null", IsNull("a")),
        ("a is not empty", IsEmpty("a")),
        ("id != 7", HasId((7,))),
        ("id not in (7)", HasId((7,))),
    ],
)
def test_negations_are_complements(text, inner):
    assert parse_expression(text) == Filter(must_not=(inner,))


def test_and_binds_tighter_than_or_and_negations_join():
    a, b, c = Match("a", 1), Match("b", 2), Match("c", 3)
    assert parse_expression("a = 1 or b = 2 and c = 3") == Filter(should=(a, Filter(must=(b, c))))
    assert parse_expression("(a = 1 or b = 2) and c = 3") == Filter(must=(Filter(should=(a, b)), c))
    assert parse_expression("a = 1 and not b = 2 and c != 3") == Filter(must=(a,), must_not=(b, c))
    assert parse_expression("not (a = 1 or b = 2)") == Filter(must_not=(Filter(should=(a, b)),))
    assert parse_expression("x between 1 and 2 and a = 1") == Filter(must=(Range("x", gte=1, lte=2), a))


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 0, "expected a key, found the end"),
        ("a", 1, "expected a comparison after 'a'"),
        ("a =", 3, "expected a value"),
        ("a = b", 4, "expected a value"),
        ("a = null", 4, "is null"),
        ("a ~ 1", 2, "'~ 1' cannot be read"),
        ("a = 1 b = 2", 6, "expected and, or, or the end"),
        ("a = 1 and", 9, "expected a key"),
        ("(a = 1", 6, "expected )"),
        ("a = 1)", 5, "found ')'"),
        ("a in 1", 5, "expected ( or ["),
        ("a in (1", 7, "expected ,"),
        ("a in ('x' ')')", 10, "expected ,"),
        ("a in (1,,2)", 8, "expected a value"),
        ("a not = 1", 6, "expected in, between or contains"),
        ("a is 1", 5, "expected null or empty"),
        ("a = 'x", 4, "cannot be read"),
        ("a > 'x'", 2, "ISO 8601"),
        ("a < true", 2, "true/false"),
        ("a between 1 and '2020-01-01'", 2, "all numbers or all datetimes"),
        ("a[0] = 1", 1, "expected a comparison"),
        ("`a[0]` = 1", 7, "positions"),
        ("= 1", 0, "expected a key"),
        ("1 = a", 0, "expected a key"),
        ("id > 1", 0, "backquotes"),
        ("id = 1.5", 0, "must be an id"),
        ("id = -1", 0, "must be an id"),
        ("id not = 1", 0, "backquotes"),
        ("a = 99999999999999999999", 2, "64 bits"),
        ("a = " + "9" * 5000, 4, "40 digits"),
        ("a = 1.2.3", 4, "cannot be read"),
        ("and = 1", 0, "expected a key"),
    ],
)
def test_errors_tell_the_character(text, at, says):
    with pytest.raises(InvalidFilter) as caught:
        parse_expression(text)
    assert f"at character {at}:" in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "(" * 60_000,
        "(" * (FILTER_DEPTH_MAX + 1) + "a = 1" + ")" * (FILTER_DEPTH_MAX + 1),
        "a = 1 and (b = 1 or (" * 3_000,
        "not (a = 1 and " * 4_000,
        "a = 1 or " * 7_000 + "a = 1",
        "a in (" + "1," * 30_000 + "1)",
        "'" * 60_001,
        "`" * 60_001,
        "a." * 30_000,
        "a = '" + "\\" * 60_000,
        "a = '" + "''" * 30_000,
        "not " * 16_000,
        "a = 1 " + " " * FILTER_TEXT_MAX,
    ],
)
def test_hostile_text_is_refused_quickly(text):
    with pytest.raises(InvalidFilter):
        parse_expression(text)


def test_many_negations_are_no_depth():
    assert parse_expression("not " * 10_000 + "a = 1") == Filter(must=(Match("a", 1),))
