"""Filters as text or in the form of a collection's, over the one thing an index knows of a point: its label.

    id in (3, 5)     id != 7     label >= 100 and label < 200     {"must_not": {"has_id": [3]}}

The words are those of a collection's filters, whose parser and normal form this uses. `id` takes =, != and in, as
there; `label` is the same number as a key, so that it also takes <, <=, >, >= and between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.model import Condition, Filter, HasId, IsEmpty, IsNull, KeyCondition, Match, MatchAny, Range
from vicinal.filter.model import MatchExcept as OtherThan
from vicinal.filter.normal import Leaf, Node, normalise
from vicinal.filter.parse import parse_filter
from vicinal.flat.inputs import Refused

__all__ = ["is_expression", "labels_that_match"]

_KEYS: Final = ("label", "id")
_LABEL_END: Final = 1 << 64
Labels = NDArray[np.uint64]
Mask = NDArray[np.bool_]


def is_expression(filter: Any) -> bool:
    """Whether a filter is text, a mapping or a `Filter`."""
    return isinstance(filter, str | Mapping | Filter)


def labels_that_match(filter: str | Mapping[str, Any] | Filter, labels: Labels) -> Mask | None:
    """Which labels satisfy a filter, (n,) bool; None when it demands nothing.

    InvalidFilter when it cannot be read, Refused when it asks for more than labels.
    """
    tree = parse_filter(filter)
    return None if tree is None else _of(normalise(tree), labels)


def _of(node: Node, labels: Labels) -> Mask:
    if isinstance(node, Leaf):
        mask = _leaf(node.condition, labels)
        return ~mask if node.negated else mask
    needed = {"and": len(node.nodes), "or": 1, "least": node.count}[node.kind]
    held = np.zeros(len(labels), np.int32)
    for part in node.nodes:
        held += _of(part, labels)
    found: Mask = held >= needed
    return found


def _leaf(condition: Condition, labels: Labels) -> Mask:
    if isinstance(condition, HasId):
        return _among(condition.ids, labels)
    assert isinstance(condition, KeyCondition)
    if condition.key not in _KEYS:
        raise Refused(
            f"an index knows labels only: a filter may ask for id or label, not for {condition.key!r}; "
            "a collection filters by payloads",
            field="filter",
            value=condition.key,
            limit=_KEYS,
        )
    if isinstance(condition, Range):
        return _within(condition, labels)
    if isinstance(condition, OtherThan):
        return ~_among(condition.values, labels)
    if isinstance(condition, Match | MatchAny):
        return _among((condition.value,) if isinstance(condition, Match) else condition.values, labels)
    assert isinstance(condition, IsEmpty | IsNull)
    return np.zeros(len(labels), np.bool_)  # every point has a label


def _among(values: Iterable[Any], labels: Labels) -> Mask:
    """Labels that are one of the values; text, booleans and fractions are nobody's label."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    whole = [int(number) for number in numbers if int(number) == number and 0 <= number < _LABEL_END]
    found: Mask = np.isin(labels, np.array(whole, np.uint64))
    return found


def _within(condition: Range, labels: Labels) -> Mask:
    mask = np.ones(len(labels), np.bool_)
    for name, bound in condition.bounds:
        if not isinstance(bound, int | float):
            raise Refused("a label is a number, not an instant", field="filter", value=bound)
        # whole bounds: beyond 2**53 floats would put labels together
        least = math.floor(bound) + 1 if name in {"gt", "lte"} else math.ceil(bound)
        above = _from(least, labels)
        mask &= above if name in {"gt", "gte"} else ~above
    return mask


def _from(least: int, labels: Labels) -> Mask:
    """Labels of `least` and more, whatever whole number it is."""
    if not 0 <= least < _LABEL_END:
        return np.full(len(labels), least < 0)
    found: Mask = labels >= np.uint64(least)
    return found
