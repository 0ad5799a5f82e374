"""How many slots satisfy a filter, without building the bits.

A condition that asks one array one question is counted exactly where the array is sorted (`sealed`); clauses are
combined as if independent, between the bounds that hold whatever their correlation. Deleted points are
counted: what is alive is not known here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from vicinal.filter.columns import Columns
from vicinal.filter.model import Filter, HasId, KeyCondition
from vicinal.filter.normal import Leaf, Node, Several, normalise
from vicinal.filter.probes import is_complement, probes

__all__ = ["Cardinality", "cardinality"]


class Cardinality(NamedTuple):
    """At least `low`, about `estimate`, at most `high` slots; exact if low == high."""

    low: int
    estimate: int
    high: int


def cardinality(tree: Filter, columns: Columns, n: int) -> Cardinality:
    """The number of slots below n, alive or not, that satisfy the filter."""
    return _of(normalise(tree), columns, n)


def _of(node: Node, columns: Columns, n: int) -> Cardinality:
    if isinstance(node, Leaf):
        found = _leaf(node, columns, n)
        return _complement(found, n) if node.negated else found
    parts = [_of(part, columns, n) for part in node.nodes]
    if node.kind == "and":
        return _all(parts, n)
    if node.kind == "or":
        return _complement(_all([_complement(part, n) for part in parts], n), n)
    return _at_least(parts, node, n)


def _complement(found: Cardinality, n: int) -> Cardinality:
    return Cardinality(n - found.high, n - found.estimate, n - found.low)


def _leaf(leaf: Leaf, columns: Columns, n: int) -> Cardinality:
    if isinstance(leaf.condition, HasId):
        ids = min(len(leaf.condition.ids), n)
        return Cardinality(0, ids, ids)
    assert isinstance(leaf.condition, KeyCondition)
    counts = [Cardinality(*p.values.count(p.question, n)) for p in probes(leaf.condition, columns)]
    counts = [c for c in counts if c.high]
    # a slot is rarely in two of the answers (a list of both integers and floats), so they add up
    low = max((c.low for c in counts), default=0)
    estimate = min(n, sum(c.estimate for c in counts))
    found = Cardinality(low, estimate, min(n, sum(c.high for c in counts)))
    return _complement(found, n) if is_complement(leaf.condition) else found


def _all(parts: list[Cardinality], n: int) -> Cardinality:
    if not parts:
        return Cardinality(n, n, n)
    low = max(0, sum(p.low for p in parts) - (len(parts) - 1) * n)
    high = min(p.high for p in parts)
    share = math.prod(p.estimate / n for p in parts) if n else 0.0
    return Cardinality(low, min(max(round(share * n), low), high), high)


def _at_least(parts: list[Cardinality], node: Several, n: int) -> Cardinality:
    """Of m independent parts, the chance that `count` or more hold, by adding one part at a time."""
    chances = [1.0] + [0.0] * node.count  # of exactly 0, 1, ... parts; the last stands for count or more
    for part in parts:
        share = part.estimate / n if n else 0.0
        chances[-1] += chances[-2] * share
        for held in range(node.count - 1, 0, -1):
            chances[held] += (chances[held - 1] - chances[held]) * share
        chances[0] *= 1 - share
    high = min(n, sum(p.high for p in parts) // node.count)
    return Cardinality(0, min(round(chances[-1] * n), high), high)
