"""Filters as text: `year >= 2020 and topic in ('cs.LG', 'cs.IR') and not draft = true`.

    filter      any of: all of: not ... , ( filter ), or a comparison
    comparison  key = != == <> < <= > >= value      key [not] in (value, ...)     key [not] between value and value
                key is [not] null                   key is [not] empty            key [not] contains value
                id = 7    id != 'a'    id [not] in (7, 'a')
                geo_radius(key, (lon, lat), metres)         geo_bounding_box(key, (lon, lat), (lon, lat))
                geo_polygon(key, ((lon, lat), ...), ...)

Words are read in any case. Strings stand in single or double quotes (doubled or after a backslash a quote is
itself); keys are dotted paths (see `path`), in backquotes when they hold blanks or are words such as id or in.
`<`, `<=`, `>`, `>=` and between take numbers, or ISO 8601 datetimes as strings. `!=` and `not in` are the exact
complements of `=` and `in`, so they hold for points without the key; `is null` is true for an explicit null
only, and `is not empty` says that there is a value. The corners of a box are its top left and its bottom right;
the first ring of a polygon is its border, further ones are holes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from vicinal.errors import InvalidFilter
from vicinal.filter.geo import GeoBoundingBox, GeoPolygon, GeoRadius
from vicinal.filter.literals import Value
from vicinal.filter.model import Condition, Filter, HasId, IsEmpty, IsNull, Match, MatchAny, Range
from vicinal.limits import FILTER_DEPTH_MAX, FILTER_NODES_MAX, FILTER_TEXT_MAX

__all__ = ["parse_expression"]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<string>'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*")
    | (?P<quoted>`[^`]+`)
    | (?P<key>[^\W\d][\w-]*(?:\[\])*(?:\.(?:[\w-]+|"[^"]*")(?:\[\])*)*)
    | (?P<sign><=|>=|==|!=|<>|[=<>(),\[\]])
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final = frozenset(("and", "or", "not", "in", "between", "is", "null", "empty", "contains", "true", "false"))
_RING_DEPTH: Final = 1  # parentheses of a polygon's ring around those of its points
_Arity = tuple[int, int, Callable[..., Condition]]
_GEO_FUNCTIONS: Final[dict[str, _Arity]] = {  # arguments after the key: at least, at most
    "geo_radius": (2, 2, GeoRadius),
    "geo_bounding_box": (2, 2, GeoBoundingBox),
    "geo_polygon": (1, FILTER_NODES_MAX, lambda key, *rings: GeoPolygon(key, rings[0], rings[1:])),
}
_DIGITS_MAX: Final = 40  # more digits cannot change a 64-bit integer or a float, and long ones parse slowly
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


C = TypeVar("C", bound=Condition)


class _Token(NamedTuple):
    kind: str  # number, string, key (also `quoted`), word, sign, end
    text: str  # words in lower case, strings and keys without quotes
    at: int


def parse_expression(text: str) -> Filter:
    """The filter that the text describes; InvalidFilter tells the character where reading stopped."""
    if len(text) > FILTER_TEXT_MAX:
        raise InvalidFilter(
            f"a filter's text may have {FILTER_TEXT_MAX} characters, this has {len(text)}",
            field="filter",
            limit=FILTER_TEXT_MAX,
        )
    parser = _Parser(_tokens(text))
    condition = parser.either()
    parser.expect_end()
    return condition if isinstance(condition, Filter) else Filter(must=(condition,))


def _fail(what: str, at: int) -> NoReturn:
    raise InvalidFilter(f"filter, at character {at}: {what}", field="filter", value=at)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            _fail(f"{text[start : start + 20]!r} cannot be read", start)
        kind, body, start = found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)
        if kind == "string":
            quote, inner = body[0], body[1:-1]
            # either way of writing a quote; the halves between doubled quotes are unescaped apart
            body = quote.join(_ESCAPED.sub(r"\1", half) for half in _split_doubled(inner, quote))
        elif kind == "quoted":
            kind, body = "key", body[1:-1]
        elif kind == "key" and body.lower() in _WORDS:
            kind, body = "word", body.lower()
        elif kind == "key" and body.lower() == "id":
            kind = "id"
        tokens.append(_Token(kind, body, start))
        at = found.end()
    tokens.append(_Token("end", "", end))
    return tokens


def _split_doubled(inner: str, quote: str) -> list[str]:
    halves, start, at = [], 0, 0
    while at < len(inner):
        if inner[at] == "\\":
            at += 2
        elif inner[at] == quote:
            halves.append(inner[start:at])
            at = start = at + 2
        else:
            at += 1
    return [*halves, inner[start:]]


class _Parser:
    """Recursive descent; only parentheses recurse, and they are counted."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._open = 0

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _accept(self, kind: str, *texts: str) -> bool:
        token = self._peek()
        if token.kind == kind and token.text in texts:
            self._take()
            return True
        return False

    def _expect(self, kind: str, *texts: str) -> None:
        token = self._peek()
        if not self._accept(kind, *texts):
            _fail(f"expected {' or '.join(texts)}, found {_shown(token)}", token.at)

    def expect_end(self) -> None:
        """Refuse what stands after the filter."""
        token = self._peek()
        if token.kind != "end":
            _fail(f"expected and, or, or the end, found {_shown(token)}", token.at)

    def either(self) -> Condition:
        """One condition, or several joined by `or`."""
        parts = [self._all()]
        while self._accept("word", "or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else _made(self._peek(), lambda: Filter(should=tuple(parts)))

    def _all(self) -> Condition:
        parts = [self._negation()]
        while self._accept("word", "and"):
            parts.append(self._negation())
        if len(parts) == 1:
            return parts[0]
        must = tuple(p for p in parts if not _only_negates(p))
        must_not = tuple(c for p in parts if isinstance(p, Filter) and _only_negates(p) for c in p.must_not)
        return _made(self._peek(), lambda: Filter(must=must, must_not=must_not))

    def _negation(self) -> Condition:
        negated = False
        while self._accept("word", "not"):
            negated = not negated
        token = self._peek()
        if self._accept("sign", "("):
            self._open += 1
            if self._open > FILTER_DEPTH_MAX:
                _fail(f"parentheses may be nested {FILTER_DEPTH_MAX} deep", token.at)
            condition = self.either()
            self._expect("sign", ")")
            self._open -= 1
        else:
            condition = self._comparison()
        return _complement(condition, token) if negated else condition

    def _comparison(self) -> Condition:
        token = self._take()
        if token.kind not in ("key", "id"):
            _fail(f"expected a key, found {_shown(token)}", token.at)
        if token.text.lower() in _GEO_FUNCTIONS and self._accept("sign", "("):
            return self._of_place(token)
        return self._of_id(token) if token.kind == "id" else self._of_key(token)

    def _of_place(self, function: _Token) -> Condition:
        key = self._take()
        if key.kind not in ("key", "id"):
            _fail(f"expected a key, found {_shown(key)}", key.at)
        given: list[Any] = []  # the conditions check what they are given
        while not self._accept("sign", ")"):
            self._expect("sign", ",")
            given.append(self._nested(0))
        least, most, build = _GEO_FUNCTIONS[function.text.lower()]
        if not least <= len(given) <= most:
            _fail(f"{function.text} has a key and {least} more arguments, not {len(given)}", function.at)
        return _made(function, lambda: build(key.text, *given))

    def _nested(self, depth: int) -> Any:
        """A value, or a list of these in parentheses, lists of points at the deepest."""
        if depth > _RING_DEPTH or not self._accept("sign", "("):
            return self._value()
        parts = [self._nested(depth + 1)]
        while not self._accept("sign", ")"):
            self._expect("sign", ",")
            parts.append(self._nested(depth + 1))
        return tuple(parts)

    def _of_id(self, token: _Token) -> Condition:
        negated = self._accept("word", "not")
        if not negated and self._accept("sign", "=", "=="):
            ids: Any = (self._value(),)  # HasId checks them
        elif not negated and self._accept("sign", "!=", "<>"):
            ids, negated = (self._value(),), True
        elif self._accept("word", "in"):
            ids = self._values()
        else:
            _fail("id is compared with =, != and in; a key named id stands in backquotes", token.at)
        condition = _made(token, lambda: HasId(ids))
        return _complement(condition, token) if negated else condition

    def _of_key(self, token: _Token) -> Condition:
        key = token.text
        negated = self._accept("word", "not")
        operator = self._take()
        if operator.kind == "word" and operator.text in ("in", "between", "contains"):
            condition = self._of_word(key, operator)
        elif negated:
            _fail(f"expected in, between or contains after not, found {_shown(operator)}", operator.at)
        elif operator == ("word", "is", operator.at):
            negated = self._accept("word", "not")
            empty = self._peek().text == "empty"
            self._expect("word", "null", "empty")
            condition = _made(token, lambda: IsEmpty(key) if empty else IsNull(key))
        else:
            condition = self._of_sign(key, operator)
            negated = operator.text in ("!=", "<>")
        return _complement(condition, token) if negated else condition

    def _of_word(self, key: str, operator: _Token) -> Condition:
        if operator.text == "in":
            values = self._values()
            return _made(operator, lambda: MatchAny(key, values))
        value: Any = self._value()  # Range checks its bounds
        if operator.text == "contains":
            return _made(operator, lambda: Match(key, value))
        self._expect("word", "and")
        upper: Any = self._value()
        return _made(operator, lambda: Range(key, gte=value, lte=upper))

    def _of_sign(self, key: str, operator: _Token) -> Condition:
        if operator.kind != "sign" or operator.text in ("(", ")", ",", "[", "]"):
            _fail(f"expected a comparison after {key!r}, found {_shown(operator)}", operator.at)
        value: Any = self._value()
        if operator.text in ("=", "==", "!=", "<>"):
            return _made(operator, lambda: Match(key, value))
        name = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[operator.text]
        return _made(operator, lambda: Range(key, **{name: value}))

    def _values(self) -> tuple[Value, ...]:
        close = "]" if self._peek().text == "[" else ")"
        self._expect("sign", "(", "[")
        values: list[Value] = []
        while not self._accept("sign", close):
            values.append(self._value())
            if self._peek()[:2] != ("sign", close):
                self._expect("sign", ",")
        return tuple(values)

    def _value(self) -> Value:
        token = self._take()
        if token.kind == "string":
            return token.text
        if token.kind == "number":
            if len(token.text) > _DIGITS_MAX:
                _fail(f"a number may have {_DIGITS_MAX} digits", token.at)
            return int(token.text) if token.text.lstrip("+-").isdigit() else float(token.text)
        if token.kind == "word" and token.text in ("true", "false"):
            return token.text == "true"
        if token.kind == "word" and token.text == "null":
            _fail("null is asked for with `is null`", token.at)
        _fail(f"expected a value (text in quotes, a number, true or false), found {_shown(token)}", token.at)


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else repr(token.text[:40])


def _made(token: _Token, build: Callable[[], C]) -> C:
    """The condition that `build` makes, its refusals given the position of the token."""
    try:
        return build()
    except InvalidFilter as error:
        raise InvalidFilter(
            f"filter, at character {token.at}: {error.message}", field="filter", value=token.at, limit=error.limit
        ) from error


def _only_negates(condition: Condition) -> bool:
    return isinstance(condition, Filter) and not (condition.must or condition.should or condition.min_should)


def _complement(condition: Condition, token: _Token) -> Filter:
    return _made(token, lambda: Filter(must_not=(condition,)))
