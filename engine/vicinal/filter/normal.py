"""The normal form of a filter: what is evaluated, estimated and cached.

Equivalent trees that differ in the order of clauses, in nesting, in single-element lists, in double
negation, in `should` of one key against `MatchAny`, or in `Range(gte=5, lte=5)` against `Match(5)`, have the
same normal form and so the same key: the same plan, the same cached bitmap. Negations stand only at leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal

from vicinal.filter.instants import instant_of
from vicinal.filter.literals import Bound, Value, value_identity
from vicinal.filter.model import Condition, Filter, HasId, Match, MatchAny, MatchExcept, Range

__all__ = ["EVERYTHING", "NOTHING", "Leaf", "Node", "Several", "canonical", "normal_form", "normalise"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A condition on a key or on ids, or its negation. `key` is equal for leaves that say the same."""

    condition: Condition
    negated: bool
    key: bytes

    @property
    def has_id(self) -> bool:
        """True if it asks for ids: then the answer changes when points are written again."""
        return isinstance(self.condition, HasId)


@dataclass(frozen=True, slots=True)
class Several:
    """`and`: all of `nodes`; `or`: any; `least`: at least `count` of them. Sorted by key."""

    kind: Literal["and", "or", "least"]
    nodes: tuple[Leaf | Several, ...]
    count: int
    key: bytes

    @property
    def has_id(self) -> bool:
        """True if some leaf asks for ids."""
        return any(node.has_id for node in self.nodes)


Node = Leaf | Several


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _several(kind: Literal["and", "or", "least"], nodes: list[Node], count: int = 0) -> Several:
    ordered = tuple(sorted(nodes, key=lambda n: n.key))
    inner = b"".join(n.key for n in ordered)
    return Several(kind, ordered, count, blake2b(inner, digest_size=16, person=f"{kind}{count}".encode()).digest())


EVERYTHING: Final = _several("and", [])
NOTHING: Final = _several("or", [])


def normalise(tree: Filter) -> Node:
    """The normal form of a filter, worked out once per object."""
    if tree.normal is None:
        object.__setattr__(tree, "normal", normal_form(tree))
    assert isinstance(tree.normal, Leaf | Several)
    return tree.normal


def canonical(tree: Filter) -> bytes:
    """16 bytes that are equal for equivalent trees, as far as the normal form sees that they are."""
    return normalise(tree).key


def normal_form(condition: Condition, *, negated: bool = False) -> Node:
    """The normal form of a condition or, with `negated`, of its complement."""
    if not isinstance(condition, Filter):
        return _leaf(condition, negated)
    parts = [normal_form(c, negated=negated) for c in condition.must]
    parts += [normal_form(c, negated=not negated) for c in condition.must_not]
    if condition.should:
        parts.append(_join("and" if negated else "or", [normal_form(c, negated=negated) for c in condition.should]))
    few = condition.min_should
    if few is not None:
        inner = [normal_form(c, negated=negated) for c in few.conditions]
        # fewer than c of m hold <=> at least m - c + 1 of the complements hold
        parts.append(_at_least(inner, len(inner) - few.min_count + 1 if negated else few.min_count))
    return _join("or" if negated else "and", parts)


def _at_least(nodes: list[Node], count: int) -> Node:
    if count <= 0:
        return EVERYTHING
    if count > len(nodes):
        return NOTHING
    if count == len(nodes):
        return _join("and", nodes)
    return _join("or", nodes) if count == 1 else _several("least", nodes, count)


def _join(kind: Literal["and", "or"], nodes: list[Node]) -> Node:
    """All (or any) of the nodes: flattened, each once, `x = 1 or x = 2` put together."""
    flat: dict[bytes, Node] = {}
    for node in nodes:
        inside = node.nodes if isinstance(node, Several) and node.kind == kind else (node,)
        flat.update((n.key, n) for n in inside)
    absorbing = NOTHING if kind == "and" else EVERYTHING
    if absorbing.key in flat:
        return absorbing
    merged = _merge_matches(list(flat.values()), negated=kind == "and")
    return merged[0] if len(merged) == 1 else _several(kind, merged)


def _merge_matches(nodes: list[Node], *, negated: bool) -> list[Node]:
    """Any of several matches on one key (or none of them, when negated) is one MatchAny."""
    by_path: dict[object, list[Match | MatchAny]] = {}
    others: list[Node] = []
    for node in nodes:
        if isinstance(node, Leaf) and node.negated == negated and isinstance(node.condition, Match | MatchAny):
            by_path.setdefault(node.condition.path, []).append(node.condition)
        else:
            others.append(node)
    for conditions in by_path.values():
        values = [v for c in conditions for v in ((c.value,) if isinstance(c, Match) else c.values)]
        others.append(_leaf(MatchAny(conditions[0].key, tuple(values)), negated))
    return others


def _distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Each value once, in an order that does not depend on the writer's."""
    return tuple(v for _, v in sorted({repr(value_identity(v)): v for v in values}.items()))


def _leaf(condition: Condition, negated: bool) -> Node:
    """The simplest condition that says the same, under its key."""
    if isinstance(condition, MatchAny | MatchExcept):
        condition = type(condition)(condition.key, _distinct(condition.values))
        if isinstance(condition, MatchAny) and len(condition.values) < 2:
            if not condition.values:
                return EVERYTHING if negated else NOTHING
            condition = Match(condition.key, condition.values[0])
    elif isinstance(condition, Range):
        condition = _tight(condition)
    elif isinstance(condition, HasId):
        condition = HasId(tuple(sorted(set(condition.ids), key=repr)))
    return Leaf(condition, negated, _digest(f"{negated}{condition.identity!r}"))


def _tight(range_: Range) -> Condition:
    """One lower and one upper bound at most; a range of one number is a Match."""
    gt, gte = _tighter(range_.gt, range_.gte, 1)
    lt, lte = _tighter(range_.lt, range_.lte, -1)
    if isinstance(gte, int | float) and gte == lte:
        return Match(range_.key, gte)
    return Range(range_.key, gt=gt, gte=gte, lt=lt, lte=lte)


def _tighter(strict: Bound, loose: Bound, sign: int) -> tuple[Bound, Bound]:
    """The pair without the bound that the other implies; `sign` is 1 for lower bounds, -1 for upper."""
    if strict is None or loose is None:
        return strict, loose
    a, b = (instant_of(x) if isinstance(x, datetime) else x for x in (strict, loose))
    return (strict, None) if a * sign >= b * sign else (None, loose)
